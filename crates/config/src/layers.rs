//! Layers of values: each key has the value of the strongest source, and remembers that source.
//!
//! The defaults, as TOML, are the table of existing keys: a key that is not in it is unknown, and a value must have its
//! default's type. Each value is also tried alone on top of the defaults, so that a message about it can name its
//! source.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;
use super::error::{Fault, Faults, Origin, closest};

/// The values set so far, over the defaults.
pub(super) struct Layers {
    defaults: Table,
    /// The defaults by dotted key.
    known: BTreeMap<String, Value>,
    set: BTreeMap<String, (Value, Origin)>,
}

impl Layers {
    pub(crate) fn new() -> Self {
        // The defaults are texts, numbers, switches and lists in sections, all of which are TOML.
        let defaults = Table::try_from(Config::default()).expect("the defaults can be written as TOML");
        let known = flatten(&defaults);
        Self { defaults, known, set: BTreeMap::new() }
    }

    /// All existing keys, each with its section.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Adds a file's values.
    pub(crate) fn add_file(&mut self, path: &Path, faults: &mut Faults) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.add_toml(&text, path, faults),
            Err(source) => faults.push(Fault::Read { path: path.to_owned(), source }),
        }
    }

    /// Adds the values of a file's text. A text that is not TOML adds none.
    pub(crate) fn add_toml(&mut self, text: &str, path: &Path, faults: &mut Faults) {
        let read = toml::from_str::<Table>(text).and_then(|table| Ok((table, lines(text)?)));
        let (table, lines) = match read {
            Ok(read) => read,
            Err(error) => {
                let line = line_of(text, error.span().map_or(0, |span| span.start));
                return faults.push(Fault::Syntax { path: path.to_owned(), line, message: error.message().to_owned() });
            }
        };
        let origin = |key: &str| Origin::File(path.to_owned(), lines.get(key).copied().unwrap_or(1));
        self.add_section("", table, &origin, faults);
    }

    /// Adds the values of a section, and of the sections in it.
    fn add_section(&mut self, section: &str, values: Table, origin: &dyn Fn(&str) -> Origin, faults: &mut Faults) {
        for (name, value) in values {
            let key = joined(section, &name);
            match (self.section(&key).is_some(), value) {
                (true, Value::Table(inner)) => self.add_section(&key, inner, origin, faults),
                (true, value) => faults.push(type_error(&key, "a section", &value, origin(&key))),
                (false, value) => self.add(&key, value, origin(&key), faults),
            }
        }
    }

    /// The defaults of a section, by its dotted name.
    fn section(&self, name: &str) -> Option<&Table> {
        name.split('.').try_fold(&self.defaults, |table, name| table.get(name)?.as_table())
    }

    /// Adds one value given as text, read as the key's type.
    pub(crate) fn add_text(&mut self, key: &str, text: &str, origin: Origin, faults: &mut Faults) {
        let Some(default) = self.known.get(key) else { return faults.push(self.unknown(key, origin)) };
        let (value, expected) = match default {
            Value::Integer(_) => (text.trim().parse().ok().map(Value::Integer), "a whole number"),
            Value::Boolean(_) => (text.trim().parse().ok().map(Value::Boolean), "true or false"),
            Value::Array(_) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                (Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect())), "a list")
            }
            _ => (Some(Value::String(text.to_owned())), "text"),
        };
        match value {
            Some(value) => self.add(key, value, origin, faults),
            None => faults.push(Fault::Type { origin, key: key.to_owned(), expected, found: format!("{text:?}") }),
        }
    }

    /// The whole configuration, not yet checked across keys: unreadable values have their default.
    pub(crate) fn into_config(self, faults: &mut Faults) -> Config {
        let mut table = self.defaults;
        let mut origins = BTreeMap::new();
        for (key, (value, origin)) in self.set {
            put(&mut table, &key, value);
            origins.insert(key, origin);
        }
        // Each value was tried alone, and can be read independently of the others.
        match Config::deserialize(Value::Table(table)) {
            Ok(config) => Config { origins, ..config },
            Err(error) => {
                faults.add("(all)", error.message());
                Config::default()
            }
        }
    }

    fn add(&mut self, key: &str, value: Value, origin: Origin, faults: &mut Faults) {
        let Some(default) = self.known.get(key) else { return faults.push(self.unknown(key, origin)) };
        if !default.same_type(&value) {
            return faults.push(type_error(key, type_name(default), &value, origin));
        }
        let mut alone = self.defaults.clone();
        put(&mut alone, key, value.clone());
        if let Err(error) = Config::deserialize(Value::Table(alone)) {
            let reason = error.message().to_owned();
            return faults.push(Fault::Value { origin, key: key.to_owned(), reason });
        }
        self.set.insert(key.to_owned(), (value, origin));
    }

    fn unknown(&self, key: &str, origin: Origin) -> Fault {
        let in_section = key.rsplit_once('.').and_then(|(section, _)| self.section(section));
        let allowed = in_section.unwrap_or(&self.defaults).keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let names = self.known.keys().chain(self.defaults.keys()).map(String::as_str);
        // If more than a third of the name differs, the resemblance is chance.
        let closest = closest(key, names).filter(|(_, edits)| *edits <= key.len() / 3);
        let closest = closest.map(|(name, _)| name.to_owned());
        Fault::UnknownKey { origin, key: key.to_owned(), closest, allowed }
    }
}

/// The line of each key and section, by dotted key.
fn lines(text: &str) -> Result<BTreeMap<String, usize>, toml::de::Error> {
    let mut lines = BTreeMap::new();
    add_lines("", toml::de::DeTable::parse(text)?.get_ref(), text, &mut lines);
    Ok(lines)
}

fn add_lines(section: &str, table: &toml::de::DeTable<'_>, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (name, value) in table {
        let key = joined(section, name.get_ref());
        if let Some(inner) = value.get_ref().as_table() {
            add_lines(&key, inner, text, lines);
        }
        lines.insert(key, line_of(text, name.span().start));
    }
}

/// The dotted key of a name in a section. The outermost section has no name.
fn joined(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// The line of a byte of the text, from 1. The byte may be after the end.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The values by dotted key.
fn flatten(table: &Table) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                flat.extend(flatten(section).into_iter().map(|(key, value)| (joined(name, &key), value)));
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
                put(section, key, value);
            }
        }
    }
}

fn type_error(key: &str, expected: &'static str, value: &Value, origin: Origin) -> Fault {
    Fault::Type { origin, key: key.to_owned(), expected, found: type_name(value).to_owned() }
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

impl Config {
    /// The whole configuration as TOML, with redacted secrets; each value that is not a default has a comment with its
    /// source.
    ///
    /// # Errors
    /// If a path is not UTF-8, which TOML does not permit.
    pub fn effective_toml(&self) -> Result<String, toml::ser::Error> {
        let plain = toml::to_string(self)?;
        let mut annotated = String::with_capacity(plain.len());
        let mut section = "";
        for line in plain.lines() {
            annotated.push_str(line);
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            }
            let key = line.split(" = ").next().unwrap_or_default();
            let key = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            // A line inside a multi-line text can look like a key, but does not parse alone.
            if let Some(origin) = self.origins.get(&key).filter(|_| toml::from_str::<toml::Table>(line).is_ok()) {
                annotated.push_str(&format!("  # {origin}"));
            }
            annotated.push('\n');
        }
        Ok(annotated)
    }
}
