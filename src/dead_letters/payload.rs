//! A dead letter's payload: the record as it was received, in JSON or MessagePack.
//!
//! A retry without corrections reads the very bytes that were refused, with the very code that refused them. A
//! correction replaces the encoding of the fields that it names and leaves the bytes of all others alone, so that
//! nothing else changes on the way: no number goes through a float, and text that was not UTF-8 stays so.

use std::sync::LazyLock;

use serde_json::{Map, Value};
use tallyd_protocol::record::FIELDS;
use tallyd_protocol::scan;

use super::payload::loose::Loose;
use crate::pipeline::intake::{RawRecord, Refusal, frame, line};

mod loose;

/// A record as it was received.
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
    /// Unit to quantity.
    Units(Vec<(String, String)>),
    /// A JSON object's text.
    Object(String),
    /// The field goes.
    Removed,
}

/// Why a correction cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not `FIELD=VALUE`.
    #[error("{0:?} is not a correction: expected FIELD=VALUE, such as provider=claude")]
    Form(String),
    /// No field is called so.
    #[error("no field is called {0:?}; the fields are {fields}", fields = FIELDS.join(", "))]
    Field(String),
    /// The value is not of the field's type.
    #[error("{field}: {value:?} is not {expected}")]
    Value {
        /// The field.
        field: String,
        /// What was given.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The payload is not whole, so nothing can be replaced in it.
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
                let object: Option<Map<String, Value>> = serde_json::from_str(value).ok();
                New::Object(object.map(|_| value.to_owned()).ok_or_else(|| wrong("a JSON object"))?)
            }
            "extra_units" => New::Units(units(value).ok_or_else(|| wrong("a JSON object of unit to quantity"))?),
            "occurred_at" => value.parse().map_or_else(|_| New::Text(value.to_owned()), New::Integer),
            "requests" | "status" | "latency_ms" => integer(value).ok_or_else(|| wrong("a whole number"))?,
            field if field.ends_with("_tokens") => integer(value).ok_or_else(|| wrong("a whole number"))?,
            _ => New::Text(value.to_owned()),
        };
        Ok(Self { field: field.to_owned(), value })
    }

    /// Removes a field, also one that the protocol does not have.
    #[must_use]
    pub fn remove(field: &str) -> Self {
        Self { field: field.to_owned(), value: New::Removed }
    }
}

fn integer(value: &str) -> Option<New> {
    value.parse().ok().map(New::Integer)
}

/// Quantities keep their digits, whether they were given as numbers or as text.
fn units(text: &str) -> Option<Vec<(String, String)>> {
    let units: Map<String, Value> = serde_json::from_str(text).ok()?;
    let digits = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
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

    /// Reads it as the daemon read it.
    ///
    /// # Errors
    /// The [`Refusal`] that the daemon would give.
    pub fn read(&self) -> Result<RawRecord<'_>, Refusal> {
        match self {
            Self::Json(bytes) => line::read(bytes),
            Self::MessagePack(bytes) => frame::decode(bytes),
        }
    }

    /// The payload with corrections; a later one of a field wins.
    ///
    /// # Errors
    /// [`EditError::Broken`] if the payload is not whole.
    pub fn with(&self, edits: &[Edit]) -> Result<Self, EditError> {
        if edits.is_empty() {
            return Ok(self.clone());
        }
        match self {
            Self::Json(bytes) => edit_json(bytes, edits).map(Self::Json),
            Self::MessagePack(bytes) => edit_message_pack(bytes, edits).map(Self::MessagePack),
        }
    }

    /// For a person: the record as JSON. What JSON cannot hold is described (`{"bytes": "ff00"}`); a payload that is not
    /// whole is text.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (bytes, value) = match self {
            Self::Json(bytes) => (bytes, serde_json::from_slice(bytes).ok()),
            Self::MessagePack(bytes) => (bytes, rmp_serde::from_slice(bytes).ok().map(|Loose(value)| named(value))),
        };
        value.unwrap_or_else(|| Value::String(String::from_utf8_lossy(bytes).into_owned()))
    }

    /// The provider that the record names, normalised, or empty.
    #[must_use]
    pub fn provider(&self) -> String {
        let json = self.to_json();
        let provider = json.get("provider").and_then(Value::as_str).unwrap_or_default();
        crate::pricing::normalise_provider(provider).into_owned()
    }
}

/// An array's values under the names of their places.
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
    let broken = |error: serde_json::Error| EditError::Broken(error.to_string());
    let mut record: Map<String, Value> = serde_json::from_slice(bytes).map_err(broken)?;
    for edit in edits {
        let value = match &edit.value {
            New::Text(text) => Value::from(text.as_str()),
            New::Integer(number) => Value::from(*number),
            New::Units(units) => units.iter().map(|(unit, digits)| (unit.clone(), digits.as_str())).collect(),
            New::Object(json) => serde_json::from_str(json).map_err(broken)?,
            New::Removed => {
                record.remove(&edit.field);
                continue;
            }
        };
        record.insert(edit.field.clone(), value);
    }
    serde_json::to_vec(&record).map_err(broken)
}

/// Always makes a map: an array has no place for a field that it is too short for.
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
    // A record's fields are counted in tens, and writing into memory does not fail.
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

/// The text of an encoded name, or nothing if it is no text.
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

#[cfg(test)]
mod tests;
