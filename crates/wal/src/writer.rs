//! The writer: one thread that makes chunks durable in groups, and acknowledges them.
//!
//! A group consists of the chunks that wait in the channel, up to [`GROUP_VALUES`] values. Under light load a record is
//! synced alone and at once, under heavy load one sync covers thousands. The order within a group is the channel's, and
//! nothing is acknowledged before the group's commit has returned. Connections that ask for PostgreSQL's COMMIT are then
//! entered in [`super::commits`] instead.
//!
//! The writer also decides which connection owns a producer. An `Open` begins its connection's session of the producer,
//! and travels through the same channel as the chunks. So earlier chunks of the previous connection are stored and
//! counted in the answer, and later ones are refused.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::oneshot;

use super::WalError;
use super::append::{Appender, Durability};
use super::producers::Producers;
use super::space::{Full, Space};
use super::wal::Wal;
use super::window::{IdentityWindow, WindowState};
use crate::channel::{ChunkReceiver, Closed, ConnectionOrigin, Opened, Submission};
use crate::chunk::Bundle;
use tallyd_base::clock::Clock;
use tallyd_base::failpoint;
use tallyd_base::registry as name;
use tallyd_protocol::AckMode;

/// Largest number of values in a group.
pub(crate) const GROUP_VALUES: usize = 64;
/// Time limit of an idle writer's wait for submissions.
const IDLE: Duration = Duration::from_millis(50);
/// The pause between two checks for room.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// When a record is durable, with the possible loss of each setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Synced before it is acknowledged. No acknowledged record is lost.
    Always,
    /// Passed to the operating system before it is acknowledged, and synced at this interval. A killed process loses
    /// nothing; a power cut loses records that were acknowledged within the interval.
    Interval(Duration),
    /// Passed to the operating system, which syncs at a time of its own. A killed process loses nothing; a power cut
    /// can lose half a minute and more.
    Os,
}

/// The writer's public state, and a command to stop it.
#[derive(Debug, Default)]
pub struct WriterState {
    full: AtomicU8,
    abandon: AtomicBool,
    crowded: Mutex<Option<Instant>>,
    /// The window of stated ids.
    pub window: Arc<WindowState>,
}

impl WriterState {
    /// A state with this window.
    #[must_use]
    pub fn new(window: Arc<WindowState>) -> Self {
        Self { window, ..Self::default() }
    }

    /// The bound at which the writer has stopped, if any.
    #[must_use]
    pub fn full(&self) -> Option<Full> {
        match self.full.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Full::Bytes),
            _ => Some(Full::Disk),
        }
    }

    /// The time at which a new producer was last refused because the table of producers was full.
    #[must_use]
    pub fn crowded(&self) -> Option<Instant> {
        *self.crowded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_crowded(&self) {
        *self.crowded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Ends the writer although there is no room for waiting chunks: they were not acknowledged, so the clients keep
    /// them.
    pub fn abandon(&self) {
        self.abandon.store(true, Ordering::Relaxed);
    }

    fn set_full(&self, full: Option<Full>) {
        let number = match full {
            None => 0,
            Some(Full::Bytes) => 1,
            Some(Full::Disk) => 2,
        };
        if self.full.swap(number, Ordering::Relaxed) != number {
            match full {
                Some(Full::Bytes) => tracing::error!("the WAL is at wal.max_bytes: clients have to wait"),
                Some(Full::Disk) => tracing::error!("the disk is at wal.min_free_bytes: clients have to wait"),
                None => tracing::info!("the WAL has room again"),
            }
        }
    }
}

/// The writer's counters. Keeping a handle costs a tenth of looking it up for each record.
pub struct WalMetrics {
    acked: Counter,
    duplicate: Counter,
    commit_seconds: Histogram,
    batch_records: Histogram,
}

impl Default for WalMetrics {
    fn default() -> Self {
        // Counted elsewhere; registered here with 0, so that an alert sees the first event.
        drop(counter!(name::PRODUCER_NAMES_SHARED));
        Self {
            acked: counter!(name::RECORDS_ACKED),
            duplicate: counter!(name::RECORDS_DUPLICATE),
            commit_seconds: histogram!(name::WAL_COMMIT_SECONDS),
            batch_records: histogram!(name::WAL_BATCH_RECORDS),
        }
    }
}

impl WalMetrics {
    /// Counts records of known calls.
    fn duplicate(&self, records: u64) {
        if records > 0 {
            self.duplicate.increment(records);
        }
    }

    /// Counts one commit.
    fn committed(&self, took: Duration, records: u64) {
        self.commit_seconds.record(took.as_secs_f64());
        self.batch_records.record(records as f64);
    }
}

/// The parts of the writer thread.
pub struct Writer {
    /// The source of chunks.
    pub receiver: ChunkReceiver,
    /// Their destination.
    pub appender: Appender,
    /// The WAL, for its size.
    pub wal: Arc<Wal>,
    /// The producers' numbers.
    pub producers: Producers,
    /// The window of stated identities.
    pub window: IdentityWindow,
    /// The bounds.
    pub space: Space,
    /// When a record is durable.
    pub sync: SyncMode,
    /// The size of a full segment, in bytes of values.
    pub segment_bytes: u64,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The public state.
    pub state: Arc<WriterState>,
    /// The counters.
    pub metrics: WalMetrics,
}

/// Replies that are due once the group is durable.
#[derive(Default)]
struct Group {
    values: usize,
    records: u64,
    bundles: Vec<Stored>,
    opened: Vec<(Arc<ConnectionOrigin>, oneshot::Sender<Opened>, Opened)>,
}

/// A connection, and the number of its bundles and records in the group.
struct Stored {
    origin: Arc<ConnectionOrigin>,
    bundles: u64,
    records: u64,
}

impl Writer {
    /// Runs until every sender is dropped, then seals the segment. On an error, waiting connections are closed.
    ///
    /// # Errors
    /// [`WalError`]: all acknowledged records are durable, and the process must end.
    pub fn run(mut self) -> Result<(), WalError> {
        let mut group = Group::default();
        let result = self.work(&mut group);
        for stored in group.bundles.drain(..) {
            stored.origin.close(Closed::Stopped);
        }
        self.wal.commits.close();
        result
    }

    fn work(&mut self, group: &mut Group) -> Result<(), WalError> {
        let mut synced_at = Instant::now();
        loop {
            if !self.wait_for_room()? {
                return self.seal();
            }
            match self.receiver.recv(IDLE) {
                Ok(first) => self.gather(first, group)?,
                Err(false) => self.window.forget(self.clock.now_us())?,
                Err(true) => return self.seal(),
            }
            let durability = match self.sync {
                SyncMode::Always => Durability::Disk,
                SyncMode::Interval(interval) if synced_at.elapsed() >= interval => Durability::Disk,
                SyncMode::Interval(_) | SyncMode::Os => Durability::Os,
            };
            let owes = durability == Durability::Disk && self.appender.owes_sync();
            if group.values > 0 || owes {
                if durability == Durability::Disk {
                    synced_at = Instant::now();
                }
                self.commit(group, durability)?;
            }
            // Also without a value: an `Open` is answered once everything before it is durable, which is the case here.
            self.acknowledge(group);
            let now_us = self.clock.now_us();
            if self.appender.segment_bytes() >= self.segment_bytes || self.window.wants_seal(now_us) {
                self.rotate()?;
            }
        }
    }

    fn gather(&mut self, first: Submission, group: &mut Group) -> Result<(), WalError> {
        let now_us = self.clock.now_us();
        let mut next = Some(first);
        while let Some(submission) = next {
            self.take(submission, group, now_us)?;
            next = if group.values < GROUP_VALUES { self.receiver.try_recv() } else { None };
        }
        Ok(())
    }

    fn take(&mut self, submission: Submission, group: &mut Group, now_us: i64) -> Result<(), WalError> {
        let (origin, mut bundle) = match submission {
            Submission::Open { origin, former, opened } => {
                let told = self.open(&origin, former.as_deref(), now_us);
                group.opened.push((origin, opened, told));
                return Ok(());
            }
            Submission::Bundle { origin, bundle } => (origin, bundle),
        };
        if !origin.identity.is_nobody()
            && let Err(closed) = self.producers.advance(&origin, bundle.last_seq(), now_us)
        {
            if closed == Closed::Crowded {
                self.state.set_crowded();
            }
            origin.close(closed);
            return Ok(());
        }
        let is_numbered = !origin.identity.is_nobody();
        let known = self.take_known(&mut bundle, is_numbered, now_us)?;
        self.metrics.duplicate(known);
        let records = u64::from(bundle.records());
        group.records += records;
        let appended = self.appender.append(bundle, &origin.identity, now_us);
        // Also after an error, because all connections in the group are informed.
        match group.bundles.last_mut() {
            Some(last) if Arc::ptr_eq(&last.origin, &origin) => {
                last.bundles += 1;
                last.records += records;
            }
            _ => group.bundles.push(Stored { origin, bundles: 1, records }),
        }
        group.values += appended?;
        Ok(())
    }

    /// Begins a session. A client forgets the records up to `acked_seq`. So a number that is only durable is not told to
    /// one whose records have to be committed, as long as any record of the WAL is not: it then sends its unacknowledged
    /// records again, and they are skipped. A producer without a record in the WAL has none that waits.
    fn open(&mut self, origin: &Arc<ConnectionOrigin>, former: Option<&str>, now_us: i64) -> Opened {
        let is_new = self.producers.last_seq(&origin.identity) == 0;
        let known_seq = self.producers.open_session(origin, former, now_us);
        let is_acked = origin.ack == AckMode::Durable || is_new || self.wal.commits.covers(self.appender.last_key());
        Opened { known_seq, acked_seq: if is_acked { known_seq } else { 0 } }
    }

    /// Takes known calls out of the bundle. An emptied chunk stays if it is numbered: its numbers are acknowledged, and
    /// must therefore be durable.
    fn take_known(&mut self, bundle: &mut Bundle, is_numbered: bool, now_us: i64) -> Result<u64, WalError> {
        let mut known = 0;
        for (_, chunk) in &mut bundle.chunks {
            known += self.window.deduplicate(chunk, now_us)?;
        }
        if known > 0 {
            bundle.chunks.retain(|(_, chunk)| is_numbered || !chunk.is_empty());
        }
        Ok(known)
    }

    fn commit(&mut self, group: &Group, durability: Durability) -> Result<(), WalError> {
        let start = Instant::now();
        self.appender.commit(durability)?;
        failpoint::hit("wal.committed");
        self.metrics.committed(start.elapsed(), group.records);
        Ok(())
    }

    fn acknowledge(&mut self, group: &mut Group) {
        let last_key = self.appender.last_key();
        for Stored { origin, bundles, records } in group.bundles.drain(..) {
            if origin.ack == AckMode::Committed {
                self.wal.commits.wait(last_key, origin, bundles, records);
                continue;
            }
            self.metrics.acked.increment(records);
            origin.advance(bundles);
        }
        for (origin, answer, opened) in group.opened.drain(..) {
            let opening = origin.opening_bundles();
            if opening > 0 {
                self.wal.commits.wait(last_key, origin, opening, 0);
            }
            // A closed connection does not wait for its answer.
            let _ = answer.send(opened);
        }
        *group = Group { bundles: std::mem::take(&mut group.bundles), ..Group::default() };
    }

    fn rotate(&mut self) -> Result<(), WalError> {
        let now_us = self.clock.now_us();
        let producers = self.producers.snapshot(now_us);
        self.appender.rotate(producers, &mut self.window, now_us)?;
        self.window.forget(now_us)
    }

    fn seal(&mut self) -> Result<(), WalError> {
        self.appender.seal(&mut self.window, self.clock.now_us())
    }

    /// Returns false if the wait was abandoned. If the WAL is full and the segment is all in PostgreSQL, beginning
    /// another segment frees its space.
    fn wait_for_room(&mut self) -> Result<bool, WalError> {
        loop {
            let full = self.space.check(self.wal.value_bytes())?;
            self.state.set_full(full);
            if full.is_none() {
                return Ok(true);
            }
            if self.state.abandon.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if self.wal.unflushed_records() == 0 && self.appender.segment_bytes() > 0 {
                self.rotate()?;
            }
            std::thread::sleep(FULL_PAUSE);
        }
    }
}
