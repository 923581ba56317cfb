//! A usage record in the making: the fields of `protocol/README.md` §4 that an export can tell.

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

/// A record, as JSON; fields that are not set have their defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft(Map<String, Json>);

impl Draft {
    /// Sets a text that is there.
    pub fn text(&mut self, field: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.0.insert(field.to_owned(), text.into());
        }
    }

    /// Sets a number that is not 0. A negative one is set, and refused with the record.
    pub fn number(&mut self, field: &str, number: i64) {
        if number != 0 {
            self.0.insert(field.to_owned(), number.into());
        }
    }

    /// Adds to a number.
    pub fn add(&mut self, field: &str, number: i64) {
        let sum = self.0.get(field).and_then(Json::as_i64).unwrap_or(0).saturating_add(number);
        self.number(field, sum);
    }

    /// Sets the time, from nanoseconds since 1970; 0 leaves it to the daemon's clock.
    pub fn occurred_at(&mut self, ns: u64) {
        self.number("occurred_at", (ns / 1_000) as i64);
    }

    /// Sets the latency, where both ends are known.
    pub fn latency(&mut self, start_ns: u64, end_ns: u64) {
        if start_ns > 0 && end_ns >= start_ns {
            let ms = ((end_ns - start_ns) / 1_000_000).min(i32::MAX as u64);
            self.0.insert("latency_ms".to_owned(), ms.into());
        }
    }

    /// Sets the id to one that is made of what names the item: a UUID of version 8.
    pub fn id(&mut self, kind: &str, parts: &[&[u8]]) {
        let mut digest = Sha256::new_with_prefix(kind);
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&digest.finalize()[..16]);
        self.0.insert("id".to_owned(), uuid::Builder::from_custom_bytes(id).into_uuid().to_string().into());
    }

    /// Adds to the metadata a text that is there.
    pub fn note(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            let metadata = self.0.entry("metadata").or_insert_with(|| json!({}));
            metadata[name] = text.into();
        }
    }

    /// The record's text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        Json::Object(self.0.clone()).to_string().into_bytes()
    }

    /// A field, for tests.
    #[cfg(test)]
    pub(super) fn get(&self, field: &str) -> &Json {
        self.0.get(field).unwrap_or(&Json::Null)
    }
}

/// Bytes in hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
