//! The mapping of columns to fields, and the constants of every record.

use anyhow::{Context, bail};
use tallyd_protocol::Record;
use tallyd_protocol::record::FIELDS;

use super::preset::Preset;
use super::row::{Form, set_text};

/// The mapping from the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Fields with their columns.
    pub columns: Vec<(&'static str, String)>,
    /// Fields with their constants.
    pub constants: Vec<(&'static str, String)>,
    /// The column with a call's key, if that is not the field `id`.
    pub key: Option<String>,
    pub form: Form,
    /// The character between the cells of a line. None: the file's own statement, or a comma.
    pub delimiter: Option<u8>,
    /// The program that wrote the file.
    pub preset: Option<Preset>,
}

impl Mapping {
    /// Reads the arguments of `--map` and `--set`, each one `FIELD=…` or several with commas between.
    ///
    /// # Errors
    /// If a name is not a field, has no value, or is given twice.
    pub(super) fn parse(map: &[String], set: &[String]) -> anyhow::Result<Self> {
        let mut mapping = Self::default();
        for argument in map {
            pairs("--map", argument, &mut mapping.columns)?;
        }
        for argument in set {
            pairs("--set", argument, &mut mapping.constants)?;
        }
        let mut named: Vec<_> = mapping.columns.iter().chain(&mapping.constants).map(|(field, _)| *field).collect();
        named.sort_unstable();
        if let Some(twice) = named.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("the field {} is given twice", twice[0]);
        }
        Ok(mapping)
    }

    /// True if the command line maps the field or sets it.
    pub(super) fn names(&self, field: &str) -> bool {
        self.columns.iter().chain(&self.constants).any(|(named, _)| *named == field)
    }

    /// The fields that a column of this name fills: those that are mapped to it, and the one with its name.
    pub(super) fn fields_of<'m>(&'m self, column: &'m str) -> impl Iterator<Item = &'static str> + 'm {
        let mapped = self.columns.iter().filter(move |(_, name)| name == column).map(|(field, _)| *field);
        let own = FIELDS.iter().copied().find(|field| *field == column && !self.names(field));
        mapped.chain(own)
    }

    /// The record that every row starts from: the defaults and the constants.
    ///
    /// # Errors
    /// If a constant is not a value of its field.
    pub(super) fn template(&self) -> anyhow::Result<Record> {
        let mut record = Record::default();
        self.set_constants(&mut record)?;
        Ok(record)
    }

    /// Sets the constants, which win over values of the file.
    ///
    /// # Errors
    /// If a constant is not a value of its field.
    pub(super) fn set_constants(&self, record: &mut Record) -> anyhow::Result<()> {
        for (field, value) in &self.constants {
            set_text(record, field, value, Form::default()).with_context(|| format!("--set {field}={value}"))?;
        }
        Ok(())
    }

    /// Every column that the command line names.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(_, name)| name.as_str()).chain(self.key.as_deref())
    }

    /// A text that is equal for two mappings if and only if they read files alike.
    pub(super) fn canonical(&self) -> String {
        let sorted = |pairs: &[(&'static str, String)]| {
            let mut pairs = pairs.to_vec();
            pairs.sort();
            pairs
        };
        let (columns, constants) = (sorted(&self.columns), sorted(&self.constants));
        let plain = Self { columns: Vec::new(), constants: Vec::new(), ..self.clone() };
        if plain == Self::default() {
            // The first version's form, so that the secrets of its imports stay the same.
            return serde_json::json!([columns, constants]).to_string();
        }
        let how = format!("{:?} {:?} {:?} {:?}", self.key, self.form, self.delimiter, self.preset);
        serde_json::json!([columns, constants, how]).to_string()
    }
}

/// A comma separates two pairs if a name and `=` follow it; otherwise it belongs to the value.
fn pairs(flag: &str, argument: &str, into: &mut Vec<(&'static str, String)>) -> anyhow::Result<()> {
    let first = into.len();
    for part in argument.split(',') {
        match part.split_once('=') {
            Some((name, value)) if into.len() == first || is_name(name.trim()) => {
                let name = name.trim();
                let Some(field) = FIELDS.iter().find(|field| **field == name) else {
                    bail!("{flag} {argument}: {name} is not a field; the fields are {}", FIELDS.join(", "));
                };
                into.push((*field, value.trim().to_owned()));
            }
            // A field's name alone is a pair without its value.
            _ if into.len() == first || FIELDS.contains(&part.trim()) => {
                bail!("{flag} {argument}: expected FIELD=…, as in provider=claude, where {part:?} stands")
            }
            _ => {
                // There is a last pair, by the arms above.
                if let Some((_, value)) = into.last_mut() {
                    value.push(',');
                    value.push_str(part);
                }
            }
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(map: &[&str], set: &[&str]) -> anyhow::Result<Mapping> {
        let owned = |pairs: &[&str]| pairs.iter().map(ToString::to_string).collect::<Vec<_>>();
        Mapping::parse(&owned(map), &owned(set))
    }

    #[test]
    fn the_order_of_pairs_does_not_matter_and_their_kind_does() {
        let one = parse(&["model=M", "app=A"], &["provider=claude"]).unwrap();
        let other = parse(&["app=A,model=M"], &["provider=claude"]).unwrap();
        assert_eq!(one.canonical(), other.canonical());
        let constant = parse(&["app=A"], &["model=M", "provider=claude"]).unwrap();
        assert_ne!(one.canonical(), constant.canonical());
        // A value that looks like two pairs on two lines is one value.
        let one = parse(&[], &["app=a\nmodel=m"]).unwrap();
        let two = parse(&[], &["app=a", "model=m"]).unwrap();
        assert_ne!(one.canonical(), two.canonical());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |map: &[&str], set: &[&str]| parse(map, set).unwrap_err().to_string();
        assert!(error(&["tokens=X"], &[]).contains("tokens is not a field; the fields are id, occurred_at"));
        assert!(error(&["app=A,tokens=X"], &[]).contains("tokens is not a field"));
        assert!(error(&["model"], &[]).contains("expected FIELD=…"));
        assert!(error(&[], &["provider=claude,model"]).contains("where \"model\" stands"));
        assert_eq!(error(&["model=A"], &["model=B"]), "the field model is given twice");
        let template = parse(&[], &["status=ok"]).unwrap().template().unwrap_err();
        assert_eq!(template.to_string(), "--set status=ok");
    }

    #[test]
    fn a_comma_in_a_value_is_kept() {
        let mapping = parse(&["endpoint=Path, as sent"], &[r#"metadata={"a":1,"b":"c=d"}"#, "app=x, y"]).unwrap();
        assert_eq!(mapping.columns, [("endpoint", "Path, as sent".into())]);
        assert_eq!(mapping.constants, [("metadata", r#"{"a":1,"b":"c=d"}"#.into()), ("app", "x, y".into())]);
    }
}
