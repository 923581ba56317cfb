//! Computes stored costs anew after prices were corrected or became known.
//!
//! ## Method
//! Every call of a period is priced as it would be today, by its own instant. Where the result differs from the stored cost, the
//! call log's row and the rollups change in one transaction. Costs that the caller stated are left alone
//! unless asked for; a call that has a price and would have none today keeps it.
//!
//! ## In steps ([`run`])
//! The period is cut into slices of time, each one transaction: the job's position is moved from where it was left (a
//! fence: no two processes do the same slice), the slice's calls are read through a cursor, their rows are updated where
//! they lie, and the differences are added to the rollups by the statements that the loader uses, tables and keys in the
//! loader's order. A process that is killed leaves a position and whole slices. The same command goes on from there.
//!
//! Nothing can be priced twice: the stored cost is replaced, not added to, and its difference goes into the rollups in the
//! same transaction. Loading goes on meanwhile, and `reconcile` holds at every instant. Calls that arrive late for a slice
//! that is done were priced at their arrival.
//!
//! A row is found by its place (`ctid`) within the transaction that has read it. A change in between, such as by another job,
//! shows in the count of updated rows, and the slice is done again. Where the call log is distributed, the call's id tells the shard
//! that the place is in.
//!
//! Calls that were dropped from the call log cannot be priced anew: there is nothing left of them but sums. [`dropped_calls`] says
//! whether a period has any.
//!
//! [`preview`](mod@preview) reads the same calls by the same rules, and changes nothing.

pub mod between;
mod job;
pub mod preview;
mod row;
pub mod run;

use tallyd_model::pricing::Catalog;

pub use preview::{DayDifference, DroppedCalls, Preview, dropped_calls, preview};
pub use run::{Progress, reprice};

/// The calls to be priced anew.
#[derive(Debug, Clone)]
pub struct RepriceOptions {
    /// Calls from here on, microseconds since 1970 UTC.
    pub from_us: i64,
    /// Calls before this, microseconds since 1970 UTC.
    pub to_us: i64,
    /// One provider's; empty for all.
    pub provider: String,
    /// One model's, as it stands in the call log; empty for all.
    pub model: String,
    /// Also calls whose cost the caller stated.
    pub include_client: bool,
    /// About how many calls one transaction should read.
    pub batch_rows: u32,
}

/// Why it stopped. Committed steps stay, and are whole.
#[derive(Debug, thiserror::Error)]
pub enum RepriceError {
    /// PostgreSQL failed.
    #[error("repricing stopped: {}; run the same command again to go on", super::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// Another process has moved the job.
    #[error("another process is working on job {0}; wait for it, or end it")]
    Overtaken(i64),
    /// Rows kept moving under it.
    #[error("the calls around {at} kept changing while they were priced; run the same command again to go on")]
    Moving {
        /// The slice's beginning.
        at: String,
    },
    /// The rollups were rebuilt with days in another zone meanwhile.
    #[error("repricing stopped: {0}")]
    Zone(#[from] super::ZoneMoved),
    /// The schema is not there, or somebody has removed the setting.
    #[error("tallyd_settings has no valid reporting_time_zone. hint: run `tallyd migrate`")]
    NoTimeZone,
}

/// Tells one set of prices from another.
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
