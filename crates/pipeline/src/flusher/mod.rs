//! The flusher: takes durable chunks from the WAL and loads them into PostgreSQL, each exactly once.
//!
//! One batch is one transaction ([`tallyd_store::load`]): either all of it is in PostgreSQL, or nothing.
//!
//! ## Lanes
//! Several lanes load at once, each with its own connection, watermark row and share of the WAL
//! (`crates/wal/src/lanes.rs`): while one updates rollups, another streams rows. A batch closes by size or by age.
//! Behind a backlog each is as large as allowed, because a rollup row costs the same for any number of calls. If many
//! daemons load into one PostgreSQL, they share load slots ([`tallyd_store::load::slots`]).
//!
//! ## Failures
//! | class | reaction of a lane |
//! |---|---|
//! | transient: connection, timeout, deadlock, shutdown … | tries again for ever, with jitter; halves a batch that took too long |
//! | data: a row that PostgreSQL refuses, a rollup's sum that overflows | halves the batch until it is one chunk, then finds the call ([`tallyd_store::load::poison`]) |
//! | partition missing | makes it, tries again |
//! | hold: password, missing table, rewound database, days in another time zone … | stops loading, reports it, checks again every few seconds |
//!
//! No record is dropped in any of them: records stay in the WAL, and the daemon keeps accepting.
//!
//! ## Merging
//! Batches append to the users' deltas, and a task beside the lanes merges them ([`merge`]). If it falls behind, lanes
//! wait.

pub mod lane;
pub mod merge;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use tallyd_store::Database;
use tallyd_store::load::Loader;

use self::merge::DeltasState;

/// How lanes load.
#[derive(Debug, Clone, Copy)]
pub struct FlushOptions {
    /// The most records of one transaction.
    pub max_batch_records: usize,
    /// How long a record may wait for others.
    pub flush_interval: Duration,
    /// The longest time for one transaction; after it the connection is given up.
    pub deadline: Duration,
    /// The first pause after a failure.
    pub retry_min: Duration,
    /// The longest pause, also between two checks of a lane on hold.
    pub retry_max: Duration,
    /// Loads on top of a database that was restored to an earlier state, instead of holding.
    pub accept_rewound: bool,
}

/// The lanes and their shared state.
pub struct Flusher {
    /// Loads one batch in one transaction.
    pub loader: Loader,
    /// The database that lanes connect to.
    pub database: Arc<Database>,
    /// How lanes load.
    pub options: FlushOptions,
    /// The state of each lane, by its number.
    pub lanes: Vec<LaneState>,
    /// True once the schema is in place. Lanes load nothing before that.
    pub migrated: tokio::sync::watch::Receiver<bool>,
    /// Calls committed since the start.
    pub committed_records: AtomicU64,
    /// The number of unmerged deltas.
    pub deltas: DeltasState,
}

impl Flusher {
    /// For each lane, the key up to which all of its records are in PostgreSQL.
    #[must_use]
    pub fn cleared(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.cleared.load(Ordering::Acquire)).collect()
    }

    /// Each lane's watermark.
    #[must_use]
    pub fn committed(&self) -> Vec<u64> {
        self.lanes.iter().map(LaneState::committed).collect()
    }

    /// For each lane, the key up to which none of its records waits, as far as is known: the watermark, and keys of
    /// other lanes beyond it.
    #[must_use]
    pub fn settled(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.committed().max(lane.cleared.load(Ordering::Acquire))).collect()
    }
}

/// The state of a lane, for health, status and metrics.
#[derive(Debug)]
pub struct LaneState {
    committed: AtomicU64,
    /// The watermark, moved past keys of other lanes: an idle lane must not keep the WAL from being trimmed.
    cleared: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    holds: AtomicBool,
}

/// Why a lane does not load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// True if only a person can mend it.
    pub hold: bool,
    /// PostgreSQL's message, and the remedy.
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
    /// Why the lane does not load at the moment; none if it does.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if the lane waits for a person.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// A lane whose last watermark on the daemon's disk is `key`. Nothing is cleared before the lane has read the
    /// database's own watermark and counted its records: another lane could trim them uncounted.
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

    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        self.holds.store(trouble.as_ref().is_some_and(|trouble| trouble.hold), Ordering::Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
