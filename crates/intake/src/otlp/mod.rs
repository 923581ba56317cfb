//! OTLP's exports as usage records: what OpenTelemetry SDKs, the Collector and Claude Code send, read and mapped.
//!
//! * [`spans`]: spans of model calls, by the semantic conventions for generative AI.
//! * [`logs`]: Claude Code's events `api_request` and `api_error`.
//! * [`sums`]: Claude Code's token sums, if the configuration says so instead of its events.
//!
//! ## Hostile bytes
//! A document is taken apart level by level into slices of itself, and its items are decoded one at a time, each with a
//! bounded number of fields ([`document`]): what is in memory is never many times what was sent.

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

/// What items are read with.
pub struct ItemContext<'a> {
    /// The settings.
    pub config: &'a Otlp,
    /// The prices.
    pub catalog: &'a Catalog,
}

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Took {
    /// It is a record, or several.
    Record,
    /// It is nothing of ours.
    Ignored,
    /// It has used tokens, and is around calls that have the same: what it was taken for.
    PassedOver(String),
}
