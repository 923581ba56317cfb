//! An export request, taken apart: resources, scopes, items. The three signals have one shape, in both encodings.

use bytes::Bytes;

use super::items::{Event, ItemSource, Metric, Span};
use super::{json, wire};

/// How a request and its answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary protobuf.
    Protobuf,
    /// OTLP's JSON: hexadecimal ids, 64-bit integers as text.
    Json,
}

impl Encoding {
    /// The encoding of a Content-Type. None for another one.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Its Content-Type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// Hands each item of a document to `take`, or its fault.
///
/// # Errors
/// The document's fault, if it cannot be read on. Some items may have been handed out by then.
pub fn each<T: Item>(
    encoding: Encoding,
    body: &Bytes,
    mut take: impl FnMut(&ItemSource, Result<T, String>),
) -> Result<(), String> {
    match encoding {
        Encoding::Protobuf => wire::each_item(body, |source, bytes| take(source, T::from_wire(bytes))),
        Encoding::Json => json::each_item(body, |source, text| take(source, T::from_json(text))),
    }
}

/// An item of one of the three signals.
pub trait Item: Sized {
    /// The partial success' name for those that were refused, in JSON.
    const REJECTED: &'static str;

    /// Reads one from protobuf.
    ///
    /// # Errors
    /// The item's fault.
    fn from_wire(bytes: Bytes) -> Result<Self, String>;

    /// Reads one from JSON.
    ///
    /// # Errors
    /// The item's fault.
    fn from_json(text: &str) -> Result<Self, String>;
}

impl Item for Span {
    const REJECTED: &'static str = "rejectedSpans";

    fn from_wire(bytes: Bytes) -> Result<Self, String> {
        wire::span(bytes)
    }

    fn from_json(text: &str) -> Result<Self, String> {
        json::span(text)
    }
}

impl Item for Event {
    const REJECTED: &'static str = "rejectedLogRecords";

    fn from_wire(bytes: Bytes) -> Result<Self, String> {
        wire::event(bytes)
    }

    fn from_json(text: &str) -> Result<Self, String> {
        json::event(text)
    }
}

impl Item for Metric {
    const REJECTED: &'static str = "rejectedDataPoints";

    fn from_wire(bytes: Bytes) -> Result<Self, String> {
        wire::metric(bytes)
    }

    fn from_json(text: &str) -> Result<Self, String> {
        json::metric(text)
    }
}
