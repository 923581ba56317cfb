//! JSON in files of calls: an object a line. Values stay as they are written until a field needs them, so a number
//! keeps its digits, and metadata its order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use tallyd_model::json::{self, Raw};

/// An object's keys and values, in their order; a repeated key is repeated here.
pub(super) struct Object<'a>(pub Vec<(String, Raw<'a>)>);

impl<'a> Object<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// The fault in the text.
    pub(super) fn read(text: &'a str) -> Result<Self, String> {
        // The error's own line number counts within this one line, so it is left out.
        json::from_str(text)
            .map_err(|error| format!("not a JSON object: {} at column {}", error.message(), error.column()))
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

/// The value under a path such as `message.usage.input_tokens`. A key may have dots of its own. None if the path leads
/// nowhere.
pub(super) fn at<'a>(object: &Object<'a>, path: &str) -> Option<Raw<'a>> {
    object.0.iter().find_map(|(key, value)| {
        let rest = path.strip_prefix(key.as_str())?;
        if rest.is_empty() {
            return Some(*value);
        }
        at(&Object::read(value.get()).ok()?, rest.strip_prefix('.')?)
    })
}

/// The text of a string or the digits of a number, `Some(None)` for null. None for any other value.
pub(super) fn scalar(value: Raw<'_>) -> Option<Option<String>> {
    let text = value.get();
    match value.kind() {
        b'"' => Some(Some(json::scan::unquote(text).into_owned())),
        b'-' | b'0'..=b'9' => Some(Some(text.to_owned())),
        b'n' => Some(None),
        _ => None,
    }
}

/// A value in a message, cut if it is long.
pub(super) fn shown(value: Raw<'_>) -> String {
    let text = value.get();
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
