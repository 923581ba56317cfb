//! A document's items in either encoding: spans, events, metrics, with their source.

use std::collections::BTreeMap;

use super::attributes::{AttributeValue, Attributes};
use super::record::Draft;
use tallyd_config::Otlp;
use tallyd_protocol::limits;

/// The source of items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ItemSource {
    /// The resource's attributes: `service.name` and so on.
    pub resource: Attributes,
    /// The instrumentation's name.
    pub scope: String,
}

/// Resource attributes that do not concern a call: the SDK's own, and command lines, which may have secrets.
const NOT_KEPT: [&str; 3] = ["telemetry.", "process.command", "service.name"];

impl ItemSource {
    /// Keeps the resource's attributes in a record's metadata.
    pub fn keep(&self, draft: &mut Draft) {
        draft.keep(Some("resource"), &self.resource, |name| !NOT_KEPT.iter().any(|start| name.starts_with(start)));
    }

    /// The first of the configured attributes with a user: of the item, or else of the resource.
    pub(super) fn user<'a>(&'a self, config: &Otlp, attributes: &'a Attributes) -> Option<&'a str> {
        let names: Vec<&str> = config.user_attributes.iter().map(String::as_str).collect();
        attributes.text(&names).or_else(|| self.resource.text(&names))
    }
}

/// Attributes below this name are tags.
const TAGS: &str = "tallyd.tag.";

impl ItemSource {
    /// The tags: attributes of the item first, then those of the resource. One that no record may have is left out, because it is not worth
    /// the call; in the metadata it stays.
    pub(super) fn tags(&self, config: &Otlp, attributes: &Attributes) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::new();
        let mut add = |name: &str, value: &AttributeValue| {
            let Some(value) = value.written() else { return };
            let fits = (1..=limits::TAG_NAME_BYTES).contains(&name.len())
                && (1..=limits::TAG_VALUE_BYTES).contains(&value.len())
                && !name.contains('\0')
                && !value.contains('\0');
            if fits && tags.len() < limits::TAGS {
                tags.entry(name.to_owned()).or_insert(value);
            }
        };
        for attributes in [attributes, &self.resource] {
            for (name, value) in attributes.iter() {
                if let Some(tag) = name.strip_prefix(TAGS) {
                    add(tag, value);
                }
            }
            for (attribute, tag) in config.tags() {
                if let Some(value) = attributes.get(attribute) {
                    add(tag, value);
                }
            }
        }
        tags
    }
}

/// The parts of a span that describe a call's usage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Span {
    /// 16 bytes.
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    pub span_id: Vec<u8>,
    /// 3 for a client's.
    pub kind: i32,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// Its attributes.
    pub attributes: Attributes,
    /// True if its status is an error.
    pub failed: bool,
}

/// The status of a span that ended in an error.
pub(super) const STATUS_ERROR: i32 = 2;
/// The kind of a span for a request to another process.
pub const KIND_CLIENT: i32 = 3;

/// A log record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    /// Nanoseconds since 1970, or 0.
    pub time_ns: u64,
    /// Time of observation, nanoseconds since 1970, or 0.
    pub observed_ns: u64,
    /// Its name; empty if an attribute or the body has it.
    pub name: String,
    /// The body, if it is text.
    pub body: String,
    /// Its attributes.
    pub attributes: Attributes,
}

/// A metric; of other kinds than sums only the name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// 1 for deltas, 2 for totals since the start.
    pub temporality: i32,
    /// Points of a sum.
    pub points: Vec<Point>,
}

/// A sum's temporality: the increase since the last export.
pub const DELTA: i32 = 1;
/// Largest number of points of one metric.
pub const POINTS_MAX: usize = 10_000;

/// A point of a sum.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// The value, if it is a whole number.
    pub value: Option<i64>,
    /// Its attributes.
    pub attributes: Attributes,
}
