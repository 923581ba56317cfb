//! One lane: takes its chunks from the WAL, in order, and loads them, for as long as the daemon runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Flusher, Trouble};
use crate::metrics::FlushMetrics;
use tallyd_base::failpoint;
use tallyd_store::load::transaction::{self, Committed};
use tallyd_store::load::watermark::{Watermark, WatermarkError};
use tallyd_store::load::{FlushError, poison, slots};
use tallyd_store::{Connection, FailureClass, classify};
use tallyd_wal::WalError;
use tallyd_wal::reader::{Appetite, Run};

/// How often a batch that is filling is checked.
const LOOK: Duration = Duration::from_millis(20);
/// How often a lane that waits for a merge checks again.
const MERGE_LOOK: Duration = Duration::from_millis(50);
/// How long a batch may fill, in loading times of the batch before it.
const BUSY_PATIENCE: f64 = 3.0;
/// The longest time that a batch fills because loading is slow.
const PATIENCE_MAX: Duration = Duration::from_millis(1_500);
/// The most payload bytes of one batch. Fresh chunks from the writer are in memory until they are sent. Larger batches
/// have fewer rollup rows a record, but beyond this size the difference is not measurable.
const BATCH_BYTES: usize = 18 * 1024 * 1024;
/// The most of those bytes that are read from segments into memory at once. A small backlog is read once, a large one
/// twice.
const HELD_BYTES: usize = 4 * 1024 * 1024;

pub(crate) struct Lane {
    flusher: Arc<Flusher>,
    watermark: Watermark,
    number: u16,
    metrics: FlushMetrics,
    durable: watch::Receiver<u64>,
    stop: CancellationToken,
    /// Everything of the lane up to this key is in PostgreSQL; none before the watermark has been read.
    committed: Option<u64>,
    /// The most chunks of a batch. Halved by a row that PostgreSQL refuses and by a batch that takes too long, doubled
    /// by each batch that is loaded.
    chunks_max: usize,
    failures: u32,
    /// How long the last batch took to load.
    last_took: Duration,
}

/// How the lane goes on after a failure.
enum Next {
    Again,
    Stop,
}

impl Lane {
    /// The lane stops once `stop` is cancelled and all records that are durable by then have been loaded.
    #[must_use]
    pub(crate) fn new(flusher: Arc<Flusher>, number: u16, stop: CancellationToken) -> Self {
        Self {
            watermark: Watermark { buffer_id: flusher.loader.wal.buffer_id(), lane: number },
            durable: flusher.loader.wal.watch_durable(),
            metrics: FlushMetrics::new(number),
            flusher,
            number,
            stop,
            committed: None,
            chunks_max: usize::MAX,
            failures: 0,
            last_took: Duration::ZERO,
        }
    }

    /// Loads until told to stop.
    ///
    /// # Errors
    /// [`WalError`] if the WAL cannot be read or trimmed, which is fatal. PostgreSQL's own messages are not.
    pub(crate) async fn run(mut self) -> Result<(), WalError> {
        loop {
            let connection = match self.connect().await {
                Ok(connection) => connection,
                Err(error) => match self.recover_from(&error).await {
                    Next::Again => continue,
                    Next::Stop => return Ok(()),
                },
            };
            match self.work(&connection).await? {
                Ok(()) => return Ok(()),
                Err(error) => match self.recover_from(&error).await {
                    Next::Again => {}
                    Next::Stop => return Ok(()),
                },
            }
        }
    }

    /// Connects, and reads the lane's watermark.
    async fn connect(&mut self) -> Result<Connection, FlushError> {
        if !*self.flusher.migrated.borrow() {
            return Err(FlushError::NotMigrated);
        }
        let deadline = self.flusher.options.deadline;
        let connecting = async {
            let connection = self.flusher.database.connect("tallyd flusher").await?;
            let found = self.watermark.read(&connection).await?;
            let loader = &self.flusher.loader;
            loader.earlier.learn(&connection, loader.clock.now_us()).await?;
            Ok::<_, FlushError>((connection, found))
        };
        let (connection, found) =
            tokio::time::timeout(deadline, connecting).await.map_err(|_| FlushError::Deadline(deadline))??;
        let expected = self.committed.unwrap_or_else(|| self.flusher.lanes[usize::from(self.number)].committed());
        let found = if failpoint::hit("flusher.watermark_ignored").is_some() { expected } else { found };
        match self.watermark.check(found, expected, self.flusher.loader.wal.durable_key()) {
            Err(WatermarkError::Rewound { .. }) if self.flusher.options.accept_rewound => {
                tracing::warn!(lane = self.number, found, expected, "going on from an earlier state, as told to");
            }
            checked => checked?,
        }
        self.flusher.loader.spend.is_at(self.number, found);
        if self.committed != Some(found) {
            self.set_committed(found)?;
        }
        Ok(connection)
    }

    /// Loads batches until the connection fails or the lane is told to stop. The outer error is the WAL's.
    async fn work(&mut self, connection: &Connection) -> Result<Result<(), FlushError>, WalError> {
        'batches: loop {
            self.wait_for_merge().await;
            let Some(mut run) = self.next_batch().await? else { return Ok(Ok(())) };
            let full = Instant::now();
            let (loaded, took, chunks) = loop {
                let start = Instant::now();
                let chunks = run.chunks.len();
                let deadline = self.flusher.options.deadline;
                let loading = self.load(connection, &mut run, full.elapsed() < slots::PATIENCE);
                match tokio::time::timeout(deadline, loading).await {
                    Ok(Err(FlushError::Crowded)) => {
                        self.metrics.crowded();
                        tokio::time::sleep(slots::pause()).await;
                        self.extend(&mut run)?;
                    }
                    // Created partitions stay. Fewer chunks need fewer of them, and chunks that need none are loaded
                    // first.
                    Ok(Err(FlushError::Partitions)) => {
                        self.chunks_max = (chunks / 2).max(1);
                        continue 'batches;
                    }
                    Ok(loaded) => break (loaded, start.elapsed(), chunks),
                    Err(_) => break (Err(FlushError::Deadline(deadline)), deadline, chunks),
                }
            };
            match loaded {
                Ok(committed) => self.note_committed(committed, took).await?,
                Err(FlushError::Postgres(error)) if self.narrows(&error) => {
                    self.chunks_max = chunks / 2;
                    return Ok(Err(FlushError::Narrowed(error)));
                }
                Err(error @ FlushError::Deadline(_)) => {
                    // Behind a backlog the next batch would be larger still, and would miss each deadline.
                    self.chunks_max = (chunks / 2).max(1);
                    return Ok(Err(error));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    async fn load(&self, connection: &Connection, run: &mut Run, in_slot: bool) -> Result<Committed, FlushError> {
        let from = self.committed.unwrap_or(0);
        let partition = transaction::prepare(&self.flusher.loader, connection, &run.chunks).await?;
        match run.chunks.as_slice() {
            [chunk] if self.chunks_max == 0 => {
                poison::load_without_poison(&self.flusher.loader, connection, self.watermark, from, chunk).await
            }
            _ => {
                let (chunks, partition) = (&mut run.chunks, partition.as_deref());
                transaction::load(&self.flusher.loader, connection, self.watermark, from, chunks, partition, in_slot)
                    .await
            }
        }
    }

    /// Waits while the number of unmerged deltas is at its bound. Records stay in the WAL meanwhile; once it is full,
    /// clients wait as well.
    async fn wait_for_merge(&self) {
        let mut told = false;
        while self.flusher.deltas.is_full() && !self.stop.is_cancelled() {
            if !told {
                told = true;
                let message =
                    "the users' deltas are not merged as fast as they come; loading goes on once they are".into();
                self.set_trouble(Some(Trouble { hold: false, message }));
            }
            tokio::select! {
                () = tokio::time::sleep(MERGE_LOOK) => {}
                () = self.stop.cancelled() => {}
            }
        }
        if told {
            self.set_trouble(None);
        }
    }

    /// True if a row caused the failure, and a smaller batch would narrow it down.
    fn narrows(&self, error: &tokio_postgres::Error) -> bool {
        classify(error) == FailureClass::Data && self.chunks_max > 0
    }

    /// Waits until a batch is full or old enough. None once the lane is told to stop and no records remain.
    async fn next_batch(&mut self) -> Result<Option<Run>, WalError> {
        let mut run = Run::default();
        let mut began = None;
        loop {
            let before = run.records;
            self.extend(&mut run)?;
            let is_growing = run.records > before;
            let state = &self.flusher.lanes[usize::from(self.number)];
            let Some(first) = run.chunks.first() else {
                state.set_cleared(run.scanned);
                self.settle(run.scanned);
                // After a COMMIT with a lost reply the watermark shows that the batch is in. Nothing waits, and the
                // next batch may be long in coming.
                if self.failures > 0 {
                    self.failures = 0;
                    self.set_trouble(None);
                }
                if run.damaged_values > 0 {
                    // No record of the segment loads any more, so no commit would trim it.
                    self.trim().await?;
                }
                if self.stop.is_cancelled() {
                    return Ok(None);
                }
                self.wait_for_more().await;
                continue;
            };
            self.settle(first.first_key - 1);
            let age_us = self.flusher.loader.clock.now_us().saturating_sub(first.written_us).max(0).unsigned_abs();
            // The wall clock may have been set back; waiting records grow old by the monotonic clock as well.
            let waited = began.get_or_insert_with(Instant::now).elapsed();
            let age = Duration::from_micros(age_us).max(waited);
            let patience = if is_growing { self.patience() } else { self.flusher.options.flush_interval };
            let left = patience.saturating_sub(age);
            if run.more || left.is_zero() || self.stop.is_cancelled() {
                return Ok(Some(run));
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Waits for newly durable records, and a moment for more of them. Many may be other lanes', and otherwise each
    /// commit of the WAL would wake this lane for nothing.
    async fn wait_for_more(&mut self) {
        tokio::select! {
            changed = self.durable.changed() => if changed.is_err() { return },
            () = self.stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK.min(self.flusher.options.flush_interval)) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// How old a batch's first record may get. A rollup row costs PostgreSQL the same for any number of calls. So while
    /// loading is slow, a batch waits for more records: larger batches touch each key less often.
    fn patience(&self) -> Duration {
        let interval = self.flusher.options.flush_interval;
        interval.max(self.last_took.mul_f64(BUSY_PATIENCE)).min(interval.max(PATIENCE_MAX))
    }

    /// Adds newly durable records to the batch.
    fn extend(&mut self, run: &mut Run) -> Result<(), WalError> {
        self.durable.borrow_and_update();
        let after = run.scanned.max(self.committed.unwrap_or(0));
        let appetite = Appetite {
            records: self.flusher.options.max_batch_records.saturating_sub(run.records),
            bytes: BATCH_BYTES.saturating_sub(run.bytes),
            chunks: self.chunks_max.max(1).saturating_sub(run.chunks.len()),
            held: HELD_BYTES.saturating_sub(run.held),
        };
        let collect = || self.flusher.loader.wal.collect(self.number, after, appetite);
        // Behind a backlog this reads the disk, and another thread takes over this one's tasks meanwhile. From memory
        // it is faster than that handover, which would delay acknowledgements.
        let more =
            if self.flusher.loader.wal.is_at_hand(after) { collect() } else { tokio::task::block_in_place(collect) }?;
        if more.damaged_values > 0 {
            tracing::error!(values = more.damaged_values, "values of the WAL cannot be read; the rest loads");
        }
        run.append(more);
        Ok(())
    }

    /// Updates the lane's state after a committed batch.
    async fn note_committed(&mut self, committed: Committed, took: Duration) -> Result<(), WalError> {
        self.failures = 0;
        self.last_took = took;
        self.chunks_max = if self.chunks_max == 0 { 1 } else { self.chunks_max.saturating_mul(2) };
        self.set_trouble(None);
        self.metrics.committed(took, &committed);
        self.flusher.committed_records.fetch_add(committed.records, Ordering::Relaxed);
        self.flusher.loader.wal.count_flushed(committed.passed);
        if let Some(last_key) = committed.last_key {
            self.committed = Some(last_key);
            self.flusher.lanes[usize::from(self.number)].set_committed(last_key);
            self.settle(last_key);
        }
        self.trim().await
    }

    /// Takes over the database's watermark, and drops the records that it covers.
    fn set_committed(&mut self, found: u64) -> Result<(), FlushError> {
        let covered = self.flusher.loader.wal.count_records(self.number, self.committed.unwrap_or(0), found);
        self.flusher.loader.wal.count_flushed(covered);
        self.committed = Some(found);
        self.flusher.lanes[usize::from(self.number)].set_committed(found);
        self.settle(found);
        Ok(())
    }

    /// Releases acknowledgements that wait for PostgreSQL: no record of the lane waits up to `key`.
    fn settle(&self, key: u64) {
        self.flusher.loader.wal.commits.settle(self.number, key);
    }

    async fn trim(&self) -> Result<(), WalError> {
        let cleared = self.flusher.cleared();
        if !self.flusher.loader.wal.can_trim(&cleared) {
            return Ok(());
        }
        let (flusher, now_us) = (Arc::clone(&self.flusher), self.flusher.loader.clock.now_us());
        let trimming =
            tokio::task::spawn_blocking(move || flusher.loader.wal.trim(&cleared, &flusher.committed(), now_us));
        match trimming.await {
            Ok(trimmed) => trimmed,
            // Passes a panic on, which ends the process.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Reports the problem, and waits a while.
    async fn recover_from(&mut self, error: &FlushError) -> Next {
        let class = class_of(error);
        // Refused data outside of a call, such as a dead letter, needs a person.
        let narrowed = matches!(error, FlushError::Narrowed(_));
        // A worker of Citus does not distinguish the two.
        if class == FailureClass::MissingPartition || narrowed {
            self.flusher.loader.partitions.forget();
        }
        let hold = class == FailureClass::Hold || (class == FailureClass::Data && !narrowed);
        self.failures += 1;
        if !matches!(error, FlushError::Moved | FlushError::NotMigrated) {
            FlushMetrics::failed(class);
            let message = error.to_string();
            let known = self.flusher.lanes[usize::from(self.number)].trouble();
            if known.is_none_or(|known| known.message != message) {
                tracing::warn!(lane = self.number, class = class.name(), error = message, "a batch was not loaded");
            }
            self.set_trouble(Some(Trouble { hold, message }));
        }
        if self.stop.is_cancelled() && self.failures > 1 {
            return Next::Stop;
        }
        let pause = match class {
            _ if matches!(error, FlushError::NotMigrated) => return self.wait_for_schema().await,
            _ if narrowed => Duration::ZERO,
            _ if hold => self.flusher.options.retry_max,
            _ => self.backoff(),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => Next::Again,
            () = self.stop.cancelled() => Next::Again,
        }
    }

    async fn wait_for_schema(&mut self) -> Next {
        let mut migrated = self.flusher.migrated.clone();
        tokio::select! {
            _ = migrated.wait_for(|migrated| *migrated) => Next::Again,
            () = self.stop.cancelled() => Next::Stop,
        }
    }

    /// Exponential, with jitter, so that lanes and daemons do not all come back at once.
    fn backoff(&self) -> Duration {
        let options = &self.flusher.options;
        longest_pause(options.retry_min, options.retry_max, self.failures).mul_f64(rand::random_range(0.5..1.0))
    }

    fn set_trouble(&self, trouble: Option<Trouble>) {
        self.metrics.hold(trouble.as_ref().is_some_and(|trouble| trouble.hold));
        self.flusher.lanes[usize::from(self.number)].set_trouble(trouble);
    }
}

fn class_of(error: &FlushError) -> FailureClass {
    match error {
        FlushError::Postgres(error) | FlushError::Narrowed(error) => classify(error),
        FlushError::Connect(error) => error.class(),
        FlushError::Deadline(_)
        | FlushError::Wal(_)
        | FlushError::Moved
        | FlushError::Crowded
        | FlushError::Partitions
        | FlushError::NotMigrated => FailureClass::Transient,
        FlushError::Detached(_) => FailureClass::MissingPartition,
        FlushError::Watermark(_) | FlushError::Payload(_) | FlushError::Zone(_) => FailureClass::Hold,
    }
}

/// The longest pause after a number of failures in a row.
fn longest_pause(min: Duration, max: Duration, failures: u32) -> Duration {
    min.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_the_shortest_to_the_longest() {
        let pause =
            |failures| longest_pause(Duration::from_millis(30), Duration::from_millis(200), failures).as_millis();
        assert_eq!([1, 2, 3, 4, 100].map(pause), [30, 60, 120, 200, 200]);
    }
}
