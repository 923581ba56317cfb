//! Loads one batch in one transaction.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, CopyInSink};

use super::copy_row::Layout;
use super::dead_letters::DeadLetters;
use super::partitions::{MADE_MAX, Partition};
use super::rows::Rows;
use super::watermark::Watermark;
use super::{FlushError, Loader, periods, slots};
use crate::{dimensions, rollup_upserts};
use tallyd_base::failpoint;
use tallyd_model::rollup::fold::Fold;
use tallyd_wal::chunk::{Columns, Entry, PayloadReader};
use tallyd_wal::recent::{Payload, StoredChunk};
use tallyd_wal::wal::Wal;

/// Chunks that are read from the disk together: about 400 KB.
const CHUNKS_AT_ONCE: usize = 64;
/// A batch closes at this number of users' rollup rows, even if chunks are left. A batch has those rows in memory, about
/// 200 bytes each, and each lane has a batch. Larger batches would not make a row cheaper, because deltas are appended.
const USER_ROWS_MAX: usize = 50_000;

/// Totals of a committed transaction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Rows of `api_usage_log`.
    pub records: u64,
    /// Refused records that are kept as dead letters.
    pub refused: u64,
    /// Refused records that are only counted.
    pub counted: u64,
    /// Calls that PostgreSQL refused, kept as dead letters.
    pub poison: u64,
    /// The key of the watermark; none if nothing was loaded.
    pub last_key: Option<u64>,
    /// Calls and refused records that the watermark has passed.
    pub passed: u64,
    /// Calls that an earlier WAL had loaded.
    pub known: u64,
}

/// Makes the partitions that a batch needs, before its transaction begins. Returns the partition of all its rows, if
/// there is one.
///
/// # Errors
/// [`FlushError`].
pub async fn prepare(
    loader: &Loader,
    client: &Client,
    chunks: &[Arc<StoredChunk>],
) -> Result<Option<Arc<Partition>>, FlushError> {
    let partition = loader.partitions.ensure(client, Some(&loader.wal), chunks, MADE_MAX).await?;
    periods::learn_days(client, &loader.guard, &loader.days, Some(&loader.wal), chunks).await?;
    Ok(partition)
}

/// Loads the chunks in one transaction, which moves the watermark from `from` to the last chunk's key. If the chunks
/// have more users than a batch may have, it loads the first part, and [`Committed`] has the last loaded key.
///
/// Each chunk is released once its rows are sent, so only half of a batch is in memory halfway; a batch that fails is
/// read again. With a `partition`, all rows go there. It waits for a slot only if `in_slot` is true.
///
/// # Errors
/// [`FlushError`]. After any but [`FlushError::Crowded`] the connection must not be used: its transaction may still be
/// open, or have committed.
pub async fn load(
    loader: &Loader,
    client: &Client,
    watermark: Watermark,
    from: u64,
    chunks: &mut Vec<Arc<StoredChunk>>,
    partition: Option<&Partition>,
    in_slot: bool,
) -> Result<Committed, FlushError> {
    let Some(to) = chunks.last().map(|chunk| chunk.last_key) else { return Ok(Committed::default()) };
    let start = Instant::now();
    failpoint::hit("flusher.collected");
    if !in_slot {
        client.batch_execute(slots::BEGIN).await?;
    } else if !slots::begin(client, watermark.lane, loader.lanes).await? {
        return Err(FlushError::Crowded);
    }
    let side = watermark.advance(client, from, to, loader.days.zone()).await?;
    let earlier = loader.earlier.loaded(client, &loader.wal, chunks, loader.clock.now_us()).await?;
    let mut known = 0;
    let mut passed = passed_by(chunks);
    let mut last_key = to;
    let dimensions = dimensions::counted(client).await?;
    let mut fold = Fold::new(&loader.guard, loader.days.clone(), &dimensions);
    let mut letters = DeadLetters::default();
    let records = if chunks.iter().any(|chunk| chunk.records > 0) {
        let there = (&earlier, &mut known);
        let taken = std::mem::take(chunks);
        let (copied, left) = copy(loader, client, taken, partition, (&mut fold, &mut letters), there).await?;
        if let Some((before, left)) = left {
            passed -= passed_by(&left);
            last_key = before;
            watermark.advance(client, to, last_key, loader.days.zone()).await?;
        }
        copied
    } else {
        collect_refused(&loader.wal, chunks, &mut letters)?;
        0
    };
    failpoint::hit("flusher.copied");
    let copied = start.elapsed();
    let deltas = fold.deltas();
    rollup_upserts::add(client, side, &deltas).await?;
    let written = letters.insert(client, watermark.buffer_id, loader.quota.bounds()).await?;
    let rolled_up = start.elapsed();
    failpoint::hit("flusher.rolled_up");
    loader.spend.commits(watermark.lane, last_key, &deltas);
    client.batch_execute("COMMIT").await?;
    loader.spend.is_at(watermark.lane, last_key);
    failpoint::hit("flusher.committed");
    tracing::debug!(
        lane = watermark.lane,
        records,
        users = deltas.users.len(),
        copy_ms = copied.as_millis() as u64,
        rollups_ms = (rolled_up - copied).as_millis() as u64,
        commit_ms = (start.elapsed() - rolled_up).as_millis() as u64,
        "a batch is committed"
    );
    loader.learn(&written.ledgers);
    Ok(Committed {
        records,
        refused: written.kept,
        counted: written.counted,
        poison: 0,
        last_key: Some(last_key),
        passed,
        known,
    })
}

/// Number of calls and refused records in chunks.
pub(super) fn passed_by(chunks: &[Arc<StoredChunk>]) -> u64 {
    chunks.iter().map(|chunk| u64::from(chunk.records) + u64::from(chunk.refused)).sum()
}

/// The chunks that a batch left out, with the last key that it took.
type Left = Option<(u64, Vec<Arc<StoredChunk>>)>;

/// Streams the rows while they are read and encoded, up to the bound of users' rows. Leaves out calls that are there
/// already, and counts them. Returns the number of rows that PostgreSQL took, and the chunks left out.
async fn copy(
    loader: &Loader,
    client: &Client,
    chunks: Vec<Arc<StoredChunk>>,
    partition: Option<&Partition>,
    (fold, letters): (&mut Fold<'_>, &mut DeadLetters),
    (there, known): (&HashSet<[u8; 16]>, &mut u64),
) -> Result<(u64, Left), FlushError> {
    let layout = layout(&chunks, partition);
    let sink = open(client, &layout, partition).await?;
    let mut sink = std::pin::pin!(sink);
    let mut rows = Rows::new(loader.by_user);
    let mut others = Vec::new();
    let mut chunks = chunks.into_iter();
    let mut last_key = None;
    let user_rows_max = failpoint::hit("flusher.user_rows").map_or(USER_ROWS_MAX, |rows| rows.unsigned_abs() as usize);
    while fold.user_count() < user_rows_max {
        let some: Vec<_> = chunks.by_ref().take(CHUNKS_AT_ONCE).collect();
        if some.is_empty() {
            break;
        }
        last_key = some.last().map(|chunk| chunk.last_key);
        let payloads = payloads(&loader.wal, &some)?;
        // Buffers that all chunks share.
        let (mut calls, mut reader) = (Vec::new(), PayloadReader::new(&[]));
        for (chunk, payload) in some.iter().zip(&payloads) {
            calls.clear();
            reader.reset(payload);
            for (position, entry) in reader.by_ref().enumerate() {
                match entry? {
                    Entry::Call(call) if there.contains(&call.id) => *known += 1,
                    Entry::Call(call) => calls.push(call),
                    Entry::Refused(refused) => letters.push_refused(chunk, position, &refused),
                }
            }
            fold.add_all(&calls, &mut others);
            for ((call, other), user) in calls.iter().zip(&others).zip(fold.users_of_last()) {
                rows.push(user, |out| layout.write(out, call, *other));
            }
            rows.send_full(&mut sink, || fold.user_ranks()).await?;
        }
    }
    rows.send_all(&mut sink, || fold.user_ranks()).await?;
    let copied = sink.finish().await?;
    if let Some(partition) = partition {
        partition.still_attached(client).await?;
    }
    let left: Vec<_> = chunks.collect();
    Ok((copied, last_key.filter(|_| !left.is_empty()).map(|last_key| (last_key, left))))
}

fn layout(chunks: &[Arc<StoredChunk>], partition: Option<&Partition>) -> Layout {
    let Some(partition) = partition else { return Layout::whole() };
    let needed = chunks.iter().fold(Columns::NONE, |set, chunk| set | chunk.columns);
    Layout::new(partition.table(), partition.columns(needed))
}

async fn open(
    client: &Client,
    layout: &Layout,
    partition: Option<&Partition>,
) -> Result<CopyInSink<Bytes>, FlushError> {
    match (client.copy_in(layout.sql()).await, partition) {
        // The partition was dropped since it was found; the next attempt finds the place of its rows.
        (Err(error), Some(partition)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            Err(FlushError::Detached(partition.table().to_owned()))
        }
        (opened, _) => Ok(opened?),
    }
}

/// The chunks' payloads. During a read from the disk, another thread takes over this one's tasks.
fn payloads<'c>(wal: &Wal, chunks: &'c [Arc<StoredChunk>]) -> Result<Vec<Cow<'c, [u8]>>, FlushError> {
    let read = || chunks.iter().map(|chunk| wal.payload(chunk)).collect::<Result<_, _>>();
    let is_held = |chunk: &Arc<StoredChunk>| matches!(chunk.payload, Payload::Held(_));
    Ok(if chunks.iter().all(is_held) { read()? } else { tokio::task::block_in_place(read)? })
}

fn collect_refused(wal: &Wal, chunks: &[Arc<StoredChunk>], letters: &mut DeadLetters) -> Result<(), FlushError> {
    for some in chunks.chunks(CHUNKS_AT_ONCE) {
        for (chunk, payload) in some.iter().zip(payloads(wal, some)?) {
            for (position, entry) in PayloadReader::new(&payload).enumerate() {
                if let Entry::Refused(refused) = entry? {
                    letters.push_refused(chunk, position, &refused);
                }
            }
        }
    }
    Ok(())
}
