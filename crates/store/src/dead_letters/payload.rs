//! A dead letter's payload: the received record, in JSON or MessagePack.
//!
//! A retry without corrections reads the refused bytes with the same code that refused them. A correction replaces the
//! encoding of the named fields only. The bytes of all others stay unchanged: numbers are not converted to floats, and
//! text that was not UTF-8 stays so.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use tallyd_protocol::record::FIELDS;
use tallyd_protocol::scan;

use super::payload::loose::Loose;
use tallyd_model::json::{self, Raw, Value};

mod key;
mod loose;

/// A received record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A JSON object.
    Json(Vec<u8>),
    /// A MessagePack map, or an array in the order of the protocol's fields.
    MessagePack(Vec<u8>),
}

/// A correction of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    field: String,
    value: New,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum New {
    Text(String),
    Integer(u64),
    /// Unit to quantity, or tag to value.
    Units(Vec<(String, String)>),
    /// A JSON object's text.
    Object(String),
    /// The field is removed.
    Removed,
}

/// Why a correction cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not `FIELD=VALUE`.
    #[error("{0:?} is not a correction: expected FIELD=VALUE, such as provider=claude")]
    Form(String),
    /// The field does not exist.
    #[error("no field is called {0:?}; the fields are {fields}", fields = FIELDS.join(", "))]
    Field(String),
    /// The value is not of the field's type.
    #[error("{field}: {value:?} is not {expected}")]
    Value {
        /// The field.
        field: String,
        /// The given value.
        value: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// The payload is incomplete, so it cannot be corrected.
    #[error("the kept payload is not a whole record ({0}); drop the letter and record the call anew")]
    Broken(String),
}

impl Edit {
    /// Reads `FIELD=VALUE`.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn parse(text: &str) -> Result<Self, EditError> {
        let (field, value) = text.split_once('=').ok_or_else(|| EditError::Form(text.to_owned()))?;
        if !FIELDS.contains(&field) {
            return Err(EditError::Field(field.to_owned()));
        }
        let wrong = |expected| EditError::Value { field: field.to_owned(), value: value.to_owned(), expected };
        let value = match field {
            "metadata" => {
                let is_object = json::from_str::<Members<'_>>(value).is_ok();
                New::Object(is_object.then(|| value.to_owned()).ok_or_else(|| wrong("a JSON object"))?)
            }
            "extra_units" => New::Units(units(value).ok_or_else(|| wrong("a JSON object of unit to quantity"))?),
            "tags" => New::Units(units(value).ok_or_else(|| wrong("a JSON object of tag to text"))?),
            "occurred_at" => value.parse().map_or_else(|_| New::Text(value.to_owned()), New::Integer),
            "requests" | "status" | "latency_ms" => integer(value).ok_or_else(|| wrong("a whole number"))?,
            field if field.ends_with("_tokens") => integer(value).ok_or_else(|| wrong("a whole number"))?,
            _ => New::Text(value.to_owned()),
        };
        Ok(Self { field: field.to_owned(), value })
    }

    /// Removes a field, including one that the protocol does not have.
    #[must_use]
    pub fn remove(field: &str) -> Self {
        Self { field: field.to_owned(), value: New::Removed }
    }
}

fn integer(value: &str) -> Option<New> {
    value.parse().ok().map(New::Integer)
}

/// Quantities keep their digits, whether given as numbers or as text.
fn units(text: &str) -> Option<Vec<(String, String)>> {
    let units: Members<'_> = json::from_str(text).ok()?;
    let digits = |value: &Raw<'_>| match value.kind() {
        b'"' => Some(json::scan::unquote(value.get()).into_owned()),
        b'-' | b'0'..=b'9' => Some(value.get().to_owned()),
        _ => None,
    };
    units.iter().map(|(unit, value)| Some((unit.clone(), digits(value)?))).collect()
}

impl Payload {
    /// From the table's columns.
    #[must_use]
    pub fn new(bytes: Vec<u8>, format: &str) -> Self {
        if format == "msgpack" { Self::MessagePack(bytes) } else { Self::Json(bytes) }
    }

    /// The payload with corrections; a field's last correction wins.
    ///
    /// # Errors
    /// [`EditError::Broken`] if the payload is incomplete.
    pub fn with(&self, edits: &[Edit]) -> Result<Self, EditError> {
        if edits.is_empty() {
            return Ok(self.clone());
        }
        match self {
            Self::Json(bytes) => edit_json(bytes, edits).map(Self::Json),
            Self::MessagePack(bytes) => edit_message_pack(bytes, edits).map(Self::MessagePack),
        }
    }

    /// The record as JSON, for a person. Values that JSON does not have are described (`{"bytes": "ff00"}`), and an
    /// incomplete payload becomes text. Valid JSON keeps its numbers as written; its too deeply nested values become
    /// text.
    #[must_use]
    pub fn to_json(&self) -> json::Text {
        let (bytes, text) = match self {
            Self::Json(bytes) => {
                let text = std::str::from_utf8(bytes).ok().filter(|text| json::check(text).is_ok());
                (bytes, text.map(json::shallow))
            }
            Self::MessagePack(bytes) => (bytes, loose(bytes).and_then(|value| json::to_string(&named(value)).ok())),
        };
        let whole = text.and_then(|text| json::Text::new(text).ok());
        whole.unwrap_or_else(|| json::Text::of_str(&String::from_utf8_lossy(bytes)))
    }

    /// The provider that the record names, normalised, or empty.
    #[must_use]
    pub fn provider(&self) -> String {
        let json = self.to_json();
        let members: Members<'_> = json::from_str(json.get()).unwrap_or_default();
        let provider = members.get("provider").and_then(|value| value.read::<String>().ok()).unwrap_or_default();
        tallyd_model::pricing::normalise_provider(&provider).into_owned()
    }
}

/// An object's members, each as its own text; of a repeated name the last.
pub type Members<'a> = BTreeMap<String, Raw<'a>>;

/// Largest depth of a record that is shown as JSON: the reader recurses.
const DEPTH_MAX: usize = 128;

fn loose(bytes: &[u8]) -> Option<Value> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    Loose::deserialize(&mut decoder).ok().map(|Loose(value)| value)
}

/// Names an array's values by their places.
fn named(value: Value) -> Value {
    match value {
        Value::Array(values) if values.len() <= FIELDS.len() => {
            let names = FIELDS.iter().map(|name| (*name).to_owned());
            Value::Object(names.zip(values).filter(|(_, value)| !value.is_null()).collect())
        }
        other => other,
    }
}

fn edit_json(bytes: &[u8], edits: &[Edit]) -> Result<Vec<u8>, EditError> {
    let broken = |error: json::Error| EditError::Broken(error.to_string());
    let members: Members<'_> = json::from_slice(bytes).map_err(broken)?;
    let mut record: BTreeMap<&str, Cow<'_, str>> =
        members.iter().map(|(name, value)| (name.as_str(), Cow::Borrowed(value.get()))).collect();
    for edit in edits {
        let value = match &edit.value {
            New::Text(text) => json::to_string(text),
            New::Integer(number) => json::to_string(number),
            New::Units(units) => json::to_string(&units.iter().cloned().collect::<BTreeMap<_, _>>()),
            New::Object(json) => Ok(json.clone()),
            New::Removed => {
                record.remove(edit.field.as_str());
                continue;
            }
        };
        record.insert(&edit.field, Cow::Owned(value.map_err(|error| EditError::Broken(error.to_string()))?));
    }
    let mut text = Vec::with_capacity(bytes.len());
    for (name, value) in &record {
        text.push(if text.is_empty() { b'{' } else { b',' });
        // A quoted and escaped name is JSON.
        text.extend(json::to_vec(name).map_err(|error| EditError::Broken(error.to_string()))?);
        text.push(b':');
        text.extend_from_slice(value.as_bytes());
    }
    if text.is_empty() {
        text.push(b'{');
    }
    text.push(b'}');
    Ok(text)
}

/// Always makes a map, because a field beyond the end of an array could not be set.
fn edit_message_pack(bytes: &[u8], edits: &[Edit]) -> Result<Vec<u8>, EditError> {
    let is_kept = |name: &[u8]| !edits.iter().any(|edit| edit.field.as_bytes() == name);
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for (name, value) in split(bytes).ok_or_else(|| EditError::Broken("it was cut off, or is no record".into()))? {
        if is_kept(name_of(name)) {
            entries.push([name, value].concat());
        }
    }
    for (at, edit) in edits.iter().enumerate() {
        let is_last = edits[at + 1..].iter().all(|later| later.field != edit.field);
        if edit.value != New::Removed && is_last {
            entries.push(encode(edit));
        }
    }
    let mut out = Vec::new();
    // The number of fields is small, and writing into memory does not fail.
    let _ = rmp::encode::write_map_len(&mut out, entries.len() as u32);
    entries.iter().for_each(|entry| out.extend_from_slice(entry));
    Ok(out)
}

/// The encodings of each field's name and value.
fn split(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut rest = bytes;
    let take = |rest: &mut &'_ [u8]| -> Option<usize> { scan::value_bytes(rest).ok() };
    let mut entries = Vec::new();
    if let Ok(fields) = rmp::decode::read_map_len(&mut rest) {
        for _ in 0..fields {
            let (name, after) = rest.split_at(take(&mut rest)?);
            let (value, after) = after.split_at(scan::value_bytes(after).ok()?);
            entries.push((name, value));
            rest = after;
        }
        return Some(entries);
    }
    let mut rest = bytes;
    let fields = rmp::decode::read_array_len(&mut rest).ok()?;
    for place in 0..fields as usize {
        let (value, after) = rest.split_at(take(&mut rest)?);
        entries.push((ENCODED_NAMES.get(place)?.as_slice(), value));
        rest = after;
    }
    Some(entries)
}

/// The text of an encoded name, or nothing if it is not text.
fn name_of(encoded: &[u8]) -> &[u8] {
    rmp::decode::read_str_from_slice(encoded).map_or(&[], |(name, _)| name.as_bytes())
}

/// The fields' names as short MessagePack strings.
static ENCODED_NAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let encode = |name: &&str| {
        let mut out = Vec::new();
        write_str(&mut out, name);
        out
    };
    FIELDS.iter().map(encode).collect()
});

fn write_str(out: &mut Vec<u8>, text: &str) {
    // Writing into memory does not fail.
    let _ = rmp::encode::write_str(out, text);
}

fn encode(edit: &Edit) -> Vec<u8> {
    let mut out = Vec::new();
    write_str(&mut out, &edit.field);
    match &edit.value {
        New::Text(text) | New::Object(text) => write_str(&mut out, text),
        New::Integer(number) => {
            let _ = rmp::encode::write_uint(&mut out, *number);
        }
        New::Units(units) => {
            let _ = rmp::encode::write_map_len(&mut out, units.len() as u32);
            for (unit, digits) in units {
                write_str(&mut out, unit);
                write_str(&mut out, digits);
            }
        }
        New::Removed => {}
    }
    out
}
