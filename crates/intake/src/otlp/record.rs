//! A usage record under construction: the fields of `protocol/README.md` §4 that an export can have.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::attributes::{AttributeValue, Attributes};
use tallyd_model::call::NOT_UNDERSTOOD;
use tallyd_model::pricing::normalise_provider;

/// Bounds of the kept attributes of one kind: their number, their bytes together, and those of one text.
const KEPT_MAX: usize = 48;
const KEPT_BYTES_MAX: usize = 4_096;
const KEPT_TEXT_BYTES_MAX: usize = 512;

/// A record, as JSON; unset fields have their defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    fields: Map<String, Json>,
    /// The provider and model, if the sender's cost differs from the catalog's.
    pub cost_differs: Option<String>,
}

impl Draft {
    /// Sets a text, unless it is missing.
    pub fn text(&mut self, field: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.fields.insert(field.to_owned(), text.into());
        }
    }

    /// Sets a number, unless it is 0. A negative one is set, and later refused with the record.
    pub fn number(&mut self, field: &str, number: i64) {
        if number != 0 {
            self.fields.insert(field.to_owned(), number.into());
        }
    }

    /// Sets the tags.
    pub fn tags(&mut self, tags: BTreeMap<String, String>) {
        if !tags.is_empty() {
            self.fields.insert("tags".to_owned(), tags.into_iter().collect());
        }
    }

    /// Adds to a number.
    pub fn add(&mut self, field: &str, number: i64) {
        let sum = self.fields.get(field).and_then(Json::as_i64).unwrap_or(0).saturating_add(number);
        self.number(field, sum);
    }

    /// Sets the time, from nanoseconds since 1970; 0 leaves it to the daemon's clock.
    pub fn occurred_at(&mut self, ns: u64) {
        self.number("occurred_at", (ns / 1_000) as i64);
    }

    /// Sets the latency, if both ends are known.
    pub fn latency(&mut self, start_ns: u64, end_ns: u64) {
        if start_ns > 0 && end_ns >= start_ns {
            let ms = ((end_ns - start_ns) / 1_000_000).min(i32::MAX as u64);
            self.fields.insert("latency_ms".to_owned(), ms.into());
        }
    }

    /// Sets the id, made from the item's names: a UUID of version 8.
    pub fn id(&mut self, kind: &str, parts: &[&[u8]]) {
        let mut digest = Sha256::new_with_prefix(kind);
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&digest.finalize()[..16]);
        self.fields.insert("id".to_owned(), uuid::Builder::from_custom_bytes(id).into_uuid().to_string().into());
    }

    /// Adds a text to the metadata, unless it is missing.
    pub fn note(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.metadata().insert(name.to_owned(), text.into());
        }
    }

    /// Marks a part of the call's usage as not understood; the first of several is named.
    pub fn not_understood(&mut self, name: &str) {
        let mut name = name.to_owned();
        let end = (0..=name.len().min(KEPT_TEXT_BYTES_MAX)).rev().find(|at| name.is_char_boundary(*at));
        name.truncate(end.unwrap_or(0));
        self.metadata().entry(NOT_UNDERSTOOD).or_insert(name.into());
    }

    /// Sets units with a quantity above 0.
    pub fn units(&mut self, units: &[(&str, i64)]) {
        let used: Map<String, Json> = units
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(unit, count)| ((*unit).to_owned(), count.to_string().into()))
            .collect();
        if !used.is_empty() {
            self.fields.insert("extra_units".to_owned(), used.into());
        }
    }

    /// Keeps attributes in the metadata, in the object `group` or at the top level. Beyond a bound it stores the number
    /// of omitted ones.
    pub fn keep(&mut self, group: Option<&str>, attributes: &Attributes, is_wanted: impl Fn(&str) -> bool) {
        let (mut kept, mut left_out, mut bytes) = (Map::new(), 0_u64, 0);
        for (name, value) in attributes.iter().filter(|(name, _)| is_wanted(name)) {
            let Some(value) = scalar(value) else { continue };
            bytes += name.len() + value.as_str().map_or(8, str::len);
            if kept.len() < KEPT_MAX && bytes <= KEPT_BYTES_MAX {
                kept.insert(name.to_owned(), value);
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            kept.insert("tallyd.left_out".to_owned(), left_out.into());
        }
        let metadata = self.metadata();
        match group {
            _ if kept.is_empty() => {}
            Some(group) => drop(metadata.insert(group.to_owned(), kept.into())),
            None => {
                for (name, value) in kept {
                    metadata.entry(name).or_insert(value);
                }
            }
        }
    }

    fn metadata(&mut self) -> &mut Map<String, Json> {
        let metadata = self.fields.entry("metadata").or_insert_with(|| json!({}));
        metadata.as_object_mut().expect("metadata is set as an object, here alone")
    }

    /// The provider and the vendor's id of the response, if both are known.
    pub fn response(&self) -> Option<(Cow<'_, str>, &str)> {
        let text = |field| self.fields.get(field).and_then(Json::as_str).filter(|text| !text.is_empty());
        Some((normalise_provider(text("provider")?), text("request_id")?))
    }

    /// Rank of its information about the call's usage: full understanding first, then a stated cost, then the number of
    /// counts.
    pub fn completeness(&self) -> (bool, bool, usize) {
        let metadata = self.fields.get("metadata").and_then(Json::as_object);
        let is_understood = metadata.is_none_or(|metadata| !metadata.contains_key(NOT_UNDERSTOOD));
        let units = self.fields.get("extra_units").and_then(Json::as_object).map_or(0, Map::len);
        let counts = self.fields.iter().filter(|(name, _)| name.ends_with("_tokens")).count();
        (is_understood, self.fields.contains_key("cost_usd"), counts + units)
    }

    /// The record's text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        Json::Object(self.fields.clone()).to_string().into_bytes()
    }

    /// A field, for tests.
    #[cfg(test)]
    pub(super) fn get(&self, field: &str) -> &Json {
        self.fields.get(field).unwrap_or(&Json::Null)
    }
}

/// A scalar as JSON, within the bound of a kept text. None for attributes that are not kept.
fn scalar(value: &AttributeValue) -> Option<Json> {
    Some(match value {
        AttributeValue::Text(text) if text.len() > KEPT_TEXT_BYTES_MAX => return None,
        AttributeValue::Text(text) => text.as_str().into(),
        AttributeValue::Integer(number) => (*number).into(),
        AttributeValue::Float(number) => json!(number),
        AttributeValue::Boolean(value) => (*value).into(),
        AttributeValue::Other => return None,
    })
}
