//! An export request, taken apart: resources, scopes, items. The three signals have one shape, in both encodings.

use bytes::Bytes;

use super::attributes::Attributes;
use super::items::Item;
use super::record::Draft;
use super::{json, wire};
use tallyd_config::Otlp;

/// How a request and its answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary protobuf.
    Protobuf,
    /// OTLP's JSON: hexadecimal ids, 64-bit integers as text.
    Json,
}

impl Encoding {
    /// What the Content-Type says. None for another one.
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

/// Where items come from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// The resource's attributes: `service.name` and so on.
    pub resource: Attributes,
    /// The instrumentation's name.
    pub scope: String,
}

/// A resource's attributes that say nothing about a call: the SDK's own, and command lines, which may hold secrets.
const NOT_KEPT: [&str; 3] = ["telemetry.", "process.command", "service.name"];

impl Source {
    /// Keeps the resource's attributes in a record's metadata.
    pub fn keep(&self, draft: &mut Draft) {
        draft.keep(Some("resource"), &self.resource, |name| !NOT_KEPT.iter().any(|start| name.starts_with(start)));
    }

    /// The first of the configured attributes that names somebody: of the item, or else of the resource.
    pub(super) fn user<'a>(&'a self, config: &Otlp, attributes: &'a Attributes) -> Option<&'a str> {
        let names: Vec<&str> = config.user_attributes.iter().map(String::as_str).collect();
        attributes.text(&names).or_else(|| self.resource.text(&names))
    }
}

/// Hands each item of a document to `take`, or what is wrong with it.
///
/// # Errors
/// What keeps the whole document from being read. Some items may have been handed out by then.
pub fn each<T: Item>(
    encoding: Encoding,
    body: &Bytes,
    mut take: impl FnMut(&Source, Result<T, String>),
) -> Result<(), String> {
    match encoding {
        Encoding::Protobuf => wire::each_item(body, |source, bytes| take(source, T::from_wire(bytes))),
        Encoding::Json => json::each_item(body, |source, text| take(source, T::from_json(text))),
    }
}
