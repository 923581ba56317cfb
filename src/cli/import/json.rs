//! JSON as files of calls have it: an object a line, whose values are kept as they are written until a field wants them.
//! So a number keeps its digits, and metadata its order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use tallyd_protocol::Record;
use tallyd_protocol::record::Text;

use super::row::{Form, RowError, set_text};
use tallyd_model::json::{self, Raw};

/// An object's keys and values, in their order; a key that is there twice is here twice.
pub(super) struct Object<'a>(pub Vec<(String, Raw<'a>)>);

impl<'a> Object<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// [`RowError`] of the row as a whole.
    pub(super) fn read(text: &'a str) -> Result<Self, RowError> {
        json::from_str(text).map_err(|error| {
            // Lines are counted within the line, which helps nobody.
            RowError::row(format!("not a JSON object: {} at column {}", error.message(), error.column()))
        })
    }

    /// The object as priced units and their quantities.
    ///
    /// # Errors
    /// [`RowError`] for a quantity that is neither a number nor text.
    pub(super) fn units(self) -> Result<Vec<(Text, Text)>, RowError> {
        let units = self.0.into_iter().map(|(unit, quantity)| match scalar(quantity) {
            Some(Some(quantity)) => Ok((unit.into(), quantity.into())),
            _ => Err(RowError::field("extra_units", format!("{unit}: {} is not a quantity", shown(quantity)))),
        });
        units.collect()
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The value under a path, `message.usage.input_tokens`: a key may have dots of its own. None if there is none.
pub(super) fn at<'a>(object: &Object<'a>, path: &str) -> Option<Raw<'a>> {
    object.0.iter().find_map(|(key, value)| {
        let rest = path.strip_prefix(key.as_str())?;
        if rest.is_empty() {
            return Some(*value);
        }
        at(&Object::read(value.get()).ok()?, rest.strip_prefix('.')?)
    })
}

/// Puts a JSON value into the record. Null leaves the field's default.
///
/// # Errors
/// [`RowError`].
pub(super) fn set_json(record: &mut Record, field: &'static str, value: Raw<'_>, form: Form) -> Result<(), RowError> {
    let is_object = value.get().starts_with('{');
    match (field, scalar(value)) {
        (_, Some(Some(text))) => set_text(record, field, &text, form),
        (_, Some(None)) => Ok(()),
        ("metadata" | "extra_units", None) if is_object => set_text(record, field, value.get(), form),
        _ => Err(RowError::field(field, format!("{} is neither text nor a number", shown(value)))),
    }
}

/// The text of a string, the digits of a number, none within for null; none at all for anything else.
pub(super) fn scalar(value: Raw<'_>) -> Option<Option<String>> {
    let text = value.get();
    match value.kind() {
        b'"' => Some(Some(json::scan::unquote(text).into_owned())),
        b'-' | b'0'..=b'9' => Some(Some(text.to_owned())),
        b'n' => Some(None),
        _ => None,
    }
}

/// A value in a message: its beginning, if it is long.
fn shown(value: Raw<'_>) -> String {
    let text = value.get();
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Record, RowError> {
        let mut record = Record::default();
        for (key, value) in Object::read(line)?.0 {
            let field = tallyd_protocol::record::FIELDS.iter().find(|field| **field == key).unwrap();
            set_json(&mut record, field, value, Form::default())?;
        }
        Ok(record)
    }

    #[test]
    fn values_keep_what_is_written() {
        let line = r#"{"cost_usd": 0.10000000000000000001, "metadata": {"b": 1.50, "a": "é"}, "latency_ms": null,
            "extra_units": {"image": 2, "audio_second": "1.5"}, "user_id": " u\n", "input_tokens": 374}"#;
        let record = read(line).unwrap();
        assert_eq!(record.cost_usd.as_deref(), Some("0.10000000000000000001"));
        assert_eq!(record.metadata.as_deref(), Some(r#"{"b": 1.50, "a": "é"}"#));
        assert_eq!(record.extra_units, [("image".into(), "2".into()), ("audio_second".into(), "1.5".into())]);
        assert_eq!((record.user_id.as_ref(), record.input_tokens, record.latency_ms), (" u\n", 374, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |line: &str| read(line).unwrap_err().to_string();
        assert_eq!(error(r#"{"status": [1]}"#), "status: [1] is neither text nor a number");
        assert_eq!(error(r#"{"status": true}"#), "status: true is neither text nor a number");
        assert_eq!(error(r#"{"extra_units": {"image": {}}}"#), "extra_units: image: {} is not a quantity");
        assert!(
            error(r#"{"status": 1"#)
                .starts_with("not a JSON object: the text ends where `,` or `}` was expected at column ")
        );
        assert!(error("[1]").starts_with("not a JSON object: "));
    }
}
