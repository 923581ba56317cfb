//! Loads durable chunks into PostgreSQL, each exactly once.
//!
//! ## One transaction a batch
//! 1. Fence, watermark and zone: `UPDATE ingest_watermark … WHERE last_seq = $from`, which also reads the reporting
//!    time zone. A rebuild of the rollups locks that table first, so the zone cannot change before the COMMIT. If no
//!    row is updated, another loader has moved the watermark, or this lane's last COMMIT succeeded although its reply
//!    was lost. The watermark is then read again and tells exactly which chunks to skip ([`watermark`]).
//!    A WAL that is younger than the identity window also looks for calls that an earlier WAL has loaded ([`earlier`]).
//! 2. The rows, by binary COPY, encoded while they stream ([`copy_row`], `rows`).
//! 3. The rollups ([`tallyd_model::rollup`], written by [`crate::rollup_upserts`]).
//! 4. Refused records into the dead letters, up to a day's bound, and their counts ([`dead_letters`]). They come last,
//!    because lanes with refused records wait for one another.
//! 5. COMMIT. After an unknown outcome the lane connects anew and reads the watermark.
//!
//! A call that PostgreSQL refuses is found by halving its batch, then its chunk ([`poison`]). Daemons that load into
//! one PostgreSQL share load slots ([`slots`]).

pub mod copy_row;
pub mod dead_letters;
pub mod direct;
pub mod earlier;
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

/// The parts that all lanes of a daemon share.
pub struct Loader {
    /// The source of chunks.
    pub wal: Arc<Wal>,
    /// The partitions that are known to exist.
    pub partitions: Partitions,
    /// Bounds the names in the rollups.
    pub guard: KeyGuard,
    /// Days of the reporting time zone.
    pub days: Days,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The bound on kept refused records; informed of each day's totals.
    pub quota: Arc<Quota>,
    /// True if rows are sent by user, for an index that is kept at all times.
    pub by_user: bool,
    /// The daemon's number of lanes.
    pub lanes: usize,
    /// The sums of committed calls, for Prometheus.
    pub spend: Arc<spend::Spend>,
    /// Calls that a WAL before this one has loaded.
    pub earlier: earlier::EarlierCalls,
}

impl Loader {
    /// Tells the connections each day's kept totals.
    fn learn(&self, ledgers: &[(chrono::NaiveDate, Ledger)]) {
        for (day, ledger) in ledgers {
            self.quota.learn(*day, ledger, self.clock.now_us());
        }
    }
}

/// Why a batch was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// PostgreSQL reported an error, or the connection broke.
    #[error("{}", crate::access::explain(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// A row was refused; smaller batches will find it.
    #[error("a row was refused, the batch is halved: {}", crate::describe(.0))]
    Narrowed(tokio_postgres::Error),
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] crate::ConnectError),
    /// The batch took longer than `flusher.statement_deadline_ms`.
    #[error("PostgreSQL did not finish a batch within {0:?}")]
    Deadline(Duration),
    /// A partition was detached; rows in it would be lost to the call log.
    #[error("{0} was taken from api_usage_log meanwhile; its rows go to wherever the call log has them now")]
    Detached(String),
    /// The watermark has moved: the batch, or a part of it, was loaded before.
    #[error("the watermark has moved; it is read again")]
    Moved,
    /// The rollups were rebuilt with days in another zone than this daemon's.
    #[error(transparent)]
    Zone(#[from] crate::ZoneMoved),
    /// The watermark contradicts the WAL.
    #[error(transparent)]
    Watermark(#[from] watermark::WatermarkError),
    /// The WAL cannot be read. If that lasts, the next read ends the process.
    #[error(transparent)]
    Wal(#[from] tallyd_wal::WalError),
    /// This version cannot read a chunk's payload.
    #[error(transparent)]
    Payload(#[from] tallyd_wal::chunk::PayloadError),
    /// All load slots are taken; nothing has begun.
    #[error("others are loading; the batch goes on filling")]
    Crowded,
    /// The batch has made as many partitions as one batch may; the transaction has not begun.
    #[error("the batch needs many new partitions, it is halved")]
    Partitions,
    /// The schema is not complete yet.
    #[error("the database's schema is not in place yet")]
    NotMigrated,
}
