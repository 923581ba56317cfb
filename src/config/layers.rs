//! Values over values: each key holds what the strongest source says, and remembers which one that was.
//!
//! The defaults, as TOML, are the table of what exists: a key that is not in it is unknown, and a value must be of its
//! default's type. Each value is also tried alone on top of the defaults, so that a message about it can say where it
//! came from.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;
use super::error::{ConfigError, Origin, closest};

/// The values set so far, over the defaults.
pub(super) struct Layers {
    defaults: Table,
    /// The defaults by dotted key.
    known: BTreeMap<String, Value>,
    set: BTreeMap<String, (Value, Origin)>,
}

impl Layers {
    pub fn new() -> Self {
        // The defaults are texts, numbers, switches and lists in one level of sections: all of that is TOML.
        let defaults = Table::try_from(Config::default()).expect("the defaults can be written as TOML");
        let known = flatten(&defaults);
        Self { defaults, known, set: BTreeMap::new() }
    }

    /// Every key there is, with its section.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Adds a file's values.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        self.add_toml(&std::fs::read_to_string(path).map_err(read)?, path)
    }

    /// Adds the values of a file's text.
    pub fn add_toml(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            // The span is in bytes of the text, and may end behind it.
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            ConfigError::Syntax { path: path.to_owned(), line, message: error.message().to_owned() }
        })?;
        let origin = Origin::File(path.to_owned());
        for (name, value) in table {
            match (self.defaults.get(&name), value) {
                (Some(Value::Table(_)), Value::Table(section)) => {
                    for (key, value) in section {
                        self.add(&format!("{name}.{key}"), value, origin.clone())?;
                    }
                }
                (Some(Value::Table(_)), value) => return Err(type_error(&name, "a section", &value, origin)),
                (_, value) => self.add(&name, value, origin.clone())?,
            }
        }
        Ok(())
    }

    /// Adds one value given as text, read as the key's type.
    pub fn add_text(&mut self, key: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let default = self.known.get(key).ok_or_else(|| self.unknown(key, origin.clone()))?;
        let wrong = |expected| ConfigError::Type {
            origin: origin.clone(),
            key: key.to_owned(),
            expected,
            found: format!("{text:?}"),
        };
        let value = match default {
            Value::Integer(_) => text.trim().parse().map(Value::Integer).map_err(|_| wrong("a whole number"))?,
            Value::Boolean(_) => text.trim().parse().map(Value::Boolean).map_err(|_| wrong("true or false"))?,
            Value::Array(_) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            _ => Value::String(text.to_owned()),
        };
        self.add(key, value, origin)
    }

    /// The whole configuration, not yet checked across keys.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let mut table = self.defaults;
        let mut origins = BTreeMap::new();
        for (key, (value, origin)) in self.set {
            put(&mut table, &key, value);
            origins.insert(key, origin);
        }
        // Each value was tried on its own, and none depends on another to be read.
        let read = Config::deserialize(Value::Table(table));
        let reason = |error: toml::de::Error| ConfigError::invalid("(all)", error.message());
        Ok(Config { origins, ..read.map_err(reason)? })
    }

    fn add(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
        let default = self.known.get(key).ok_or_else(|| self.unknown(key, origin.clone()))?;
        if !default.same_type(&value) {
            return Err(type_error(key, type_name(default), &value, origin));
        }
        let mut alone = self.defaults.clone();
        put(&mut alone, key, value.clone());
        if let Err(error) = Config::deserialize(Value::Table(alone)) {
            let reason = error.message().to_owned();
            return Err(ConfigError::Value { origin, key: key.to_owned(), reason });
        }
        self.set.insert(key.to_owned(), (value, origin));
        Ok(())
    }

    fn unknown(&self, key: &str, origin: Origin) -> ConfigError {
        let section = key.split_once('.').map(|(section, _)| section);
        let in_section = section.and_then(|section| self.defaults.get(section)).and_then(Value::as_table);
        let allowed = in_section.unwrap_or(&self.defaults).keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let names = self.known.keys().chain(self.defaults.keys()).map(String::as_str);
        // Beyond a third of the name, a resemblance is chance.
        let closest = closest(key, names).filter(|(_, edits)| *edits <= key.len() / 3);
        let closest = closest.map(|(name, _)| name.to_owned());
        ConfigError::UnknownKey { origin, key: key.to_owned(), closest, allowed }
    }
}

/// The values by dotted key.
fn flatten(table: &Table) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                flat.extend(section.iter().map(|(key, value)| (format!("{name}.{key}"), value.clone())));
            }
            value => drop(flat.insert(name.clone(), value.clone())),
        }
    }
    flat
}

/// Sets a key that exists.
fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, key)) => {
            if let Some(Value::Table(section)) = table.get_mut(section) {
                section.insert(key.to_owned(), value);
            }
        }
    }
}

fn type_error(key: &str, expected: &'static str, value: &Value, origin: Origin) -> ConfigError {
    ConfigError::Type { origin, key: key.to_owned(), expected, found: type_name(value).to_owned() }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date without quotes",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}
