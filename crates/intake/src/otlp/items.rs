//! What a document holds, whichever way it was written: spans, events, metrics.

use super::attributes::Attributes;
use super::{json, wire};

/// One of them.
pub trait Item: Sized {
    /// The partial success' name for those that were refused, in JSON.
    const REJECTED: &'static str;

    /// Reads one from protobuf.
    ///
    /// # Errors
    /// What is wrong with it.
    fn from_wire(bytes: bytes::Bytes) -> Result<Self, String>;

    /// Reads one from JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    fn from_json(text: &str) -> Result<Self, String>;
}

/// A span, as far as it tells what a call has used.
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

/// A span's kind: it is a request to another process.
pub const KIND_CLIENT: i32 = 3;

/// A log record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    /// Nanoseconds since 1970, or 0.
    pub time_ns: u64,
    /// When it was seen, nanoseconds since 1970, or 0.
    pub observed_ns: u64,
    /// Its name; empty where an attribute or the body has it.
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

/// A sum's temporality: what was added since the last export.
pub const DELTA: i32 = 1;
/// Points of one metric.
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

impl Item for Span {
    const REJECTED: &'static str = "rejectedSpans";

    fn from_wire(bytes: bytes::Bytes) -> Result<Self, String> {
        wire::span(bytes)
    }

    fn from_json(text: &str) -> Result<Self, String> {
        json::span(text)
    }
}

impl Item for Event {
    const REJECTED: &'static str = "rejectedLogRecords";

    fn from_wire(bytes: bytes::Bytes) -> Result<Self, String> {
        wire::event(bytes)
    }

    fn from_json(text: &str) -> Result<Self, String> {
        json::event(text)
    }
}

impl Item for Metric {
    const REJECTED: &'static str = "rejectedDataPoints";

    fn from_wire(bytes: bytes::Bytes) -> Result<Self, String> {
        wire::metric(bytes)
    }

    fn from_json(text: &str) -> Result<Self, String> {
        json::metric(text)
    }
}
