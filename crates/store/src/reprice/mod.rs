//! Computes stored costs anew after prices were corrected or became known.
//!
//! ## Method
//! Every call of a period is priced by today's catalog, at the call's own time. If the result differs from the stored
//! cost, the call log's row and the rollups change in one transaction. Costs that the caller stated are changed only on
//! request, and those that an admin stated ([`crate::amend`]) never. A priced call that today's catalog cannot price keeps its cost.
//!
//! ## Steps ([`run`])
//! The period is cut into slices of time, each one transaction. The transaction moves the job's position from its last
//! value (a fence: two processes cannot do the same slice) and reads the slice's calls through a cursor. It updates
//! their rows in place, and adds the differences to the rollups with the loader's statements, tables and keys in the
//! loader's order. A process that is killed leaves a position and complete slices. The same command goes on from there.
//!
//! A call cannot be priced twice: the stored cost is replaced, not added to, and its difference goes into the rollups
//! in the same transaction. Loading goes on meanwhile, and `reconcile` holds at every instant. Calls that arrive late
//! for a finished slice were priced at their arrival.
//!
//! A row is found by its place (`ctid`) within the transaction that has read it. A change in between, such as by
//! another job, shows in the count of updated rows, and the slice is done again. Where the call log is distributed, the
//! call's id gives the shard of the place.
//!
//! Calls that were dropped from the call log cannot be priced anew, because only their sums are left. [`dropped_calls`]
//! finds them in a period.
//!
//! [`preview`](mod@preview) reads the same calls by the same rules, and changes nothing.

pub mod between;
mod job;
pub mod preview;
pub(crate) mod row;
pub mod run;
pub(crate) mod sums;

use tallyd_model::pricing::Catalog;

pub use preview::{DayDifference, DroppedCalls, Preview, dropped_calls, preview};
pub use run::{Progress, reprice};

/// The calls to price anew.
#[derive(Debug, Clone)]
pub struct RepriceOptions {
    /// Calls from here on, microseconds since 1970 UTC.
    pub from_us: i64,
    /// Calls before this, microseconds since 1970 UTC.
    pub to_us: i64,
    /// A provider; empty for all.
    pub provider: String,
    /// A model, as in the call log; empty for all.
    pub model: String,
    /// Also calls whose cost the caller stated.
    pub include_client: bool,
    /// Approximate number of calls per transaction.
    pub batch_rows: u32,
}

/// Why a repricing stopped. Committed steps stay, and are complete.
#[derive(Debug, thiserror::Error)]
pub enum RepriceError {
    /// PostgreSQL failed.
    #[error("repricing stopped: {}; run the same command again to go on", super::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// Another process has moved the job.
    #[error("another process is working on job {0}; wait for it, or end it")]
    Overtaken(i64),
    /// Rows kept moving during a step.
    #[error("the calls around {at} kept changing while they were priced; run the same command again to go on")]
    Moving {
        /// The slice's beginning.
        at: String,
    },
    /// The rollups were rebuilt with days in another zone meanwhile.
    #[error("repricing stopped: {0}")]
    Zone(#[from] super::ZoneMoved),
    /// The schema is missing, or somebody has removed the setting.
    #[error("tallyd_settings has no valid reporting_time_zone. hint: run `tallyd migrate`")]
    NoTimeZone,
}

/// Distinguishes two sets of prices.
fn digest(catalog: &Catalog) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    let mut lines: Vec<String> = catalog
        .in_force()
        .map(|price| {
            let (provider, model, tier) = (&price.provider, &price.model, &price.service_tier);
            format!("{}\n{provider}\n{model}\n{tier}\n{}\n{}\n", price.id, price.effective_from_us, price.rates_json())
        })
        .collect();
    lines.sort_unstable();
    lines.iter().for_each(|line| hash.update(line));
    hex::encode(&hash.finalize()[..16])
}
