//! Loads durable chunks into PostgreSQL, each exactly once.
//!
//! ## One transaction a batch
//! 1. Fence, watermark and zone: `UPDATE ingest_watermark … WHERE last_seq = $from`, which also reads the reporting time zone. A
//!    rebuild of the rollups locks that table first, so the zone cannot change before the COMMIT. No row means that another loader was
//!    here, or that this lane's last COMMIT went through although its reply was lost; the watermark is read again and
//!    says exactly what to skip ([`watermark`]).
//! 2. The rows, by binary COPY, encoded by hand while they stream ([`copy_row`], `rows`).
//! 3. The rollups ([`tallyd_model::rollup`], written by [`crate::rollup_upserts`]).
//! 4. Refused records into the dead letters, as many as a day may keep, and their counts ([`dead_letters`]). They come last,
//!    because lanes that have some wait for one another.
//! 5. COMMIT. An unknown outcome is never guessed at: the lane connects anew and reads the watermark.
//!
//! A call that PostgreSQL refuses is found by halving its batch, then its chunk ([`poison`]). Where many daemons load into one
//! PostgreSQL, they share load slots ([`slots`]).

pub mod copy_row;
pub mod dead_letters;
pub mod direct;
pub mod partitions;
pub mod periods;
pub mod poison;
pub mod refusals;
pub mod replay;
mod rows;
pub mod slots;
pub mod spend;
pub mod transaction;
pub mod watermark;

use std::sync::Arc;
use std::time::Duration;

use crate::dead_letters::quota::{Ledger, Quota};
use partitions::Partitions;
use tallyd_base::clock::Clock;
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::guard::KeyGuard;
use tallyd_wal::wal::Wal;

/// What every lane of a daemon loads with.
pub struct Loader {
    /// Where chunks come from.
    pub wal: Arc<Wal>,
    /// Which partitions are known to be there.
    pub partitions: Partitions,
    /// Which names the rollup has.
    pub guard: KeyGuard,
    /// Days of the reporting time zone.
    pub days: Days,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How many refused records are kept; told what the database has.
    pub quota: Arc<Quota>,
    /// Rows are sent by user, for an index that is kept at all times.
    pub by_user: bool,
    /// How many lanes the daemon has.
    pub lanes: usize,
    /// What it has committed, for Prometheus.
    pub spend: Arc<spend::Spend>,
}

impl Loader {
    /// Tells the connections how much of each day is kept.
    fn learn(&self, ledgers: &[(chrono::NaiveDate, Ledger)]) {
        for (day, ledger) in ledgers {
            self.quota.learn(*day, ledger, self.clock.now_us());
        }
    }
}

/// Why a batch was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// PostgreSQL said no, or the connection broke.
    #[error("{}", crate::access::explain(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// A row was refused, and smaller batches will tell which.
    #[error("a row was refused, the batch is halved: {}", crate::describe(.0))]
    Narrowed(tokio_postgres::Error),
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] crate::ConnectError),
    /// It took longer than `flusher.statement_deadline_ms`.
    #[error("PostgreSQL did not finish a batch within {0:?}")]
    Deadline(Duration),
    /// A partition is not one any more; rows that went into it would be lost to the call log.
    #[error("{0} was taken from api_usage_log meanwhile; its rows go to wherever the call log has them now")]
    Detached(String),
    /// The watermark has moved: the batch, or a part of it, is there already.
    #[error("the watermark has moved; it is read again")]
    Moved,
    /// Days are in another zone than this daemon's: the rollups were rebuilt.
    #[error(transparent)]
    Zone(#[from] crate::ZoneMoved),
    /// The watermark contradicts the WAL.
    #[error(transparent)]
    Watermark(#[from] watermark::WatermarkError),
    /// The call log cannot be read. If that lasts, the next look at it ends the process.
    #[error(transparent)]
    Wal(#[from] tallyd_wal::WalError),
    /// A chunk's payload is not one that this version reads.
    #[error(transparent)]
    Payload(#[from] tallyd_wal::chunk::PayloadError),
    /// As many transactions as may are loading; nothing has begun.
    #[error("others are loading; the batch goes on filling")]
    Crowded,
    /// As many partitions were made as may be for one batch; nothing has begun.
    #[error("the batch needs many new partitions, it is halved")]
    Partitions,
    /// The schema is not in place yet.
    #[error("the database's schema is not in place yet")]
    NotMigrated,
}
