//! Turns OTLP exports into usage records: those of OpenTelemetry SDKs, the Collector and Claude Code.
//!
//! * [`spans`]: spans of model calls, by the semantic conventions for generative AI.
//! * [`logs`]: Claude Code's events `api_request` and `api_error`.
//! * [`sums`]: Claude Code's token sums, if the configuration chooses them instead of its events.
//!
//! ## Hostile bytes
//! A document is split level by level into slices of itself, and its items are decoded one at a time, each with a
//! bounded number of fields ([`document`]). So memory never exceeds the request's size many times.

pub mod attributes;
pub mod document;
pub mod items;
mod json;
pub mod logs;
pub mod record;
pub mod spans;
pub mod sums;
pub mod table;
pub mod usage;
mod wire;

use tallyd_config::Otlp;
use tallyd_model::pricing::Catalog;

/// Settings and prices for the readers.
pub struct ItemContext<'a> {
    /// The settings.
    pub config: &'a Otlp,
    /// The prices.
    pub catalog: &'a Catalog,
}

/// Result for an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Took {
    /// It gives one or several records.
    Record,
    /// It does not concern calls.
    Ignored,
    /// It has tokens, but encloses calls that have the same ones: its kind.
    PassedOver(String),
}
