//! The flusher: takes durable chunks from the log and loads them into PostgreSQL, each exactly once.
//!
//! ## One transaction a batch
//! 1. Fence, watermark and zone: `UPDATE ingest_watermark … WHERE last_seq = $from`, which also reads the reporting time zone. A
//!    rebuild of the rollups locks that table first, so the zone cannot change before the COMMIT. No row means that another loader was
//!    here, or that this lane's last COMMIT went through although its reply was lost; the watermark is read again and
//!    says exactly what to skip ([`watermark`]).
//! 2. The rows, by binary COPY, encoded by hand while they stream ([`copy_row`], [`rows`]).
//! 3. The rollups ([`tallyd_model::rollup`], written by [`crate::database::rollup_upserts`]).
//! 4. Refused records into the dead letters, as many as a day may keep, and their counts ([`dead_letters`]). They come last,
//!    because lanes that have some wait for one another.
//! 5. COMMIT. An unknown outcome is never guessed at: the lane connects anew and reads the watermark.
//!
//! ## Lanes
//! Several lanes load at once, each with its own connection, watermark row and share of the log
//! ([`tallyd_wal::lanes`]): while one waits for its rollups, the other's rows stream. A batch closes by size or by age;
//! behind a backlog each is as large as allowed, because a rollup row costs the same whatever it adds up. Where many daemons
//! load into one PostgreSQL, they take turns ([`turns`]).
//!
//! ## Failures
//! | class | what a lane does |
//! |---|---|
//! | transient: connection, timeout, deadlock, shutdown … | tries again for ever, with jitter; half a batch that took too long |
//! | data: a row that PostgreSQL refuses, a rollup's sum that overflows | halves the batch until it is one chunk, then finds the call ([`poison`]) |
//! | partition missing | makes it, tries again |
//! | hold: password, missing table, rewound database, days in another time zone … | stops loading, says so, looks again every few seconds |
//!
//! Nothing is dropped in any of them: records stay in the log, and the daemon keeps accepting.

pub mod copy_row;
pub mod dead_letters;
pub mod direct;
pub mod lane;
pub mod partitions;
pub mod periods;
pub mod poison;
pub mod refusals;
mod rows;
pub mod transaction;
mod turns;
pub mod watermark;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::database::Database;
use crate::dead_letters::quota::Quota;
use partitions::Partitions;
use tallyd_base::clock::Clock;
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::guard::KeyGuard;
use tallyd_wal::log::Log;

/// How lanes load.
#[derive(Debug, Clone, Copy)]
pub struct FlushOptions {
    /// Records of one transaction.
    pub max_batch_records: usize,
    /// How long a record may wait for others.
    pub flush_interval: Duration,
    /// How long one transaction may take before its connection is given up.
    pub deadline: Duration,
    /// The first pause after a failure.
    pub retry_min: Duration,
    /// The longest, and how often a lane that holds looks again.
    pub retry_max: Duration,
    /// Rows are sent by user, for an index that is kept at all times.
    pub by_user: bool,
    /// Goes on from where a database that was restored to an earlier state stands, instead of holding.
    pub accept_rewound: bool,
}

/// What all lanes share.
pub struct Shared {
    /// Where chunks come from.
    pub log: Arc<Log>,
    /// Where they go.
    pub database: Arc<Database>,
    /// How.
    pub options: FlushOptions,
    /// Which partitions are known to be there.
    pub partitions: Partitions,
    /// Which names the rollup has.
    pub guard: KeyGuard,
    /// Days of the reporting time zone.
    pub days: Days,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What each lane is doing.
    pub lanes: Vec<LaneState>,
    /// True once the schema is in place: nothing can be loaded before.
    pub migrated: tokio::sync::watch::Receiver<bool>,
    /// Calls that were committed since the start.
    pub committed_records: AtomicU64,
    /// How many refused records are kept; told what the database has.
    pub quota: Arc<Quota>,
}

impl Shared {
    /// For each lane, the key up to which all of its records are in PostgreSQL.
    #[must_use]
    pub fn cleared(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.cleared.load(Ordering::Acquire)).collect()
    }

    /// Tells the connections how much of each day is kept.
    fn learn(&self, ledgers: &[(chrono::NaiveDate, crate::dead_letters::quota::Ledger)]) {
        for (day, ledger) in ledgers {
            self.quota.learn(*day, ledger, self.clock.now_us());
        }
    }

    /// Each lane's watermark.
    #[must_use]
    pub fn committed(&self) -> Vec<u64> {
        self.lanes.iter().map(LaneState::committed).collect()
    }

    /// For each lane, the key up to which nothing of it waits, as far as is known: the watermark, and keys of others beyond it.
    #[must_use]
    pub fn settled(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.committed().max(lane.cleared.load(Ordering::Acquire))).collect()
    }
}

/// What a lane is doing, for health, status and metrics.
#[derive(Debug)]
pub struct LaneState {
    /// The watermark.
    committed: AtomicU64,
    /// The same, and past keys that are not the lane's: an idle lane must not keep the log from being trimmed.
    cleared: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    holds: AtomicBool,
}

/// Why a lane does not load at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// True if only a person can mend it.
    pub hold: bool,
    /// What PostgreSQL said, and what to do.
    pub message: String,
}

impl Default for LaneState {
    fn default() -> Self {
        Self {
            committed: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            trouble: Mutex::default(),
            holds: AtomicBool::new(false),
        }
    }
}

impl LaneState {
    /// Why the lane does not load at the moment, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if the lane waits for a person.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// A lane that had committed up to `key` when the daemon last said so on disk. Nothing is cleared before the lane has
    /// asked the database itself and counted what is there: another lane could trim it uncounted.
    #[must_use]
    pub fn starting_at(key: u64) -> Self {
        let state = Self::default();
        state.committed.store(key, Ordering::Release);
        state
    }

    /// The watermark: everything of the lane up to this key is in PostgreSQL.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    fn set_committed(&self, key: u64) {
        self.committed.store(key, Ordering::Release);
        self.cleared.store(key, Ordering::Release);
    }

    fn set_cleared(&self, key: u64) {
        self.cleared.store(key, Ordering::Release);
    }

    /// Says why the lane does not load, or that it does again.
    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        self.holds.store(trouble.as_ref().is_some_and(|trouble| trouble.hold), Ordering::Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Why a batch was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// PostgreSQL said no, or the connection broke.
    #[error("{}", crate::database::access::explain(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// A row was refused, and smaller batches will tell which.
    #[error("a row was refused, the batch is halved: {}", crate::database::describe(.0))]
    Narrowed(tokio_postgres::Error),
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] crate::database::ConnectError),
    /// It took longer than `flusher.statement_deadline_ms`.
    #[error("PostgreSQL did not finish a batch within {0:?}")]
    Deadline(Duration),
    /// A partition is not one any more; rows that went into it would be lost to the log.
    #[error("{0} was taken from api_usage_log meanwhile; its rows go to wherever the log has them now")]
    Detached(String),
    /// The watermark has moved: the batch, or a part of it, is there already.
    #[error("the watermark has moved; it is read again")]
    Moved,
    /// Days are in another zone than this daemon's: the rollups were rebuilt.
    #[error(transparent)]
    Zone(#[from] crate::database::ZoneMoved),
    /// The watermark contradicts the log.
    #[error(transparent)]
    Watermark(#[from] watermark::WatermarkError),
    /// The log cannot be read. If that lasts, the next look at it ends the process.
    #[error(transparent)]
    Log(#[from] tallyd_wal::WalError),
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
