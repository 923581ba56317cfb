//! Splits an export request: resources, scopes, items. The three signals have one structure, in both encodings.

use bytes::Bytes;

use super::items::{Event, ItemSource, Metric, Span};
use super::{json, wire};

/// The encoding of a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary protobuf.
    Protobuf,
    /// OTLP's JSON: hexadecimal ids, 64-bit integers as text.
    Json,
}

impl Encoding {
    /// The encoding for a Content-Type; none for unknown ones.
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

/// Passes each item of a document, or the item's error, to `take`.
///
/// # Errors
/// The document's error, if it cannot be read further. Some items may have been passed by then.
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
    /// The JSON name for the number of refused items in a partial success.
    const REJECTED: &'static str;

    /// Reads one from protobuf.
    ///
    /// # Errors
    /// The item's error.
    fn from_wire(bytes: Bytes) -> Result<Self, String>;

    /// Reads one from JSON.
    ///
    /// # Errors
    /// The item's error.
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
