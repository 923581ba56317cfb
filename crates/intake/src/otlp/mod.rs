//! OTLP's exports as usage records: those of OpenTelemetry SDKs, the Collector and Claude Code.
//!
//! * [`spans`]: spans of model calls, by the semantic conventions for generative AI.
//! * [`logs`]: Claude Code's events `api_request` and `api_error`.
//! * [`sums`]: Claude Code's token sums, if the configuration says so instead of its events.
//!
//! ## Hostile bytes
//! A document is taken apart level by level into slices of itself, and its items are decoded one at a time, each with a
//! bounded number of fields ([`document`]): memory is never many times the size of the request.

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

/// The settings of the readers.
pub struct ItemContext<'a> {
    /// The settings.
    pub config: &'a Otlp,
    /// The prices.
    pub catalog: &'a Catalog,
}

/// The result for an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Took {
    /// It is a record, or several.
    Record,
    /// It is nothing of ours.
    Ignored,
    /// It has used tokens, and is around calls that have the same: its kind.
    PassedOver(String),
}
