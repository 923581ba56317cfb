//! Collects a lane's chunks from the WAL in order, from memory or from segments.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};

use super::lanes::Lanes;
use super::recent::{Payload, Recent, StoredChunk};
use super::store::Store;
use super::wal::{Oldest, Segment, Wal};
use super::{WalError, value};

/// Bounds of a lane's batch.
#[derive(Debug, Clone, Copy)]
pub struct Appetite {
    /// Calls and refused records.
    pub records: usize,
    /// Bytes of payload.
    pub bytes: usize,
    /// Chunks.
    pub chunks: usize,
    /// Bytes of payload to read into memory; the rest is read when it is needed.
    pub held: usize,
}

/// Number of keys that are read in a tenth of a millisecond.
const KEYS_AT_HAND: u64 = 1_000;

/// Chunks of one lane, in the order of their keys.
#[derive(Debug, Default)]
pub struct Run {
    /// The chunks.
    pub chunks: Vec<Arc<StoredChunk>>,
    /// Calls and refused records in them.
    pub records: usize,
    /// Bytes of payload in them.
    pub bytes: usize,
    /// Of those, bytes that were read into memory.
    pub held: usize,
    /// The last examined key: all chunks of the lane up to it are in the run.
    pub scanned: u64,
    /// True if the run ended at a bound, not at the WAL's end.
    pub more: bool,
    /// Synced values that could not be read.
    pub damaged_values: u64,
}

impl Run {
    /// The key of the last value.
    #[must_use]
    pub fn last_key(&self) -> Option<u64> {
        self.chunks.last().map(|chunk| chunk.last_key)
    }

    /// Adds the next chunk.
    pub fn append(&mut self, mut later: Self) {
        self.chunks.append(&mut later.chunks);
        self.records += later.records;
        self.bytes += later.bytes;
        self.held += later.held;
        self.scanned = self.scanned.max(later.scanned);
        self.more = later.more;
        self.damaged_values += later.damaged_values;
    }
}

/// The value at a key.
enum At {
    Chunk(Arc<StoredChunk>),
    /// No chunk of this lane begins here; continue at this key.
    Skip(u64),
    /// A synced value that is missing or broken.
    Damaged,
}

impl Wal {
    /// True if [`Wal::collect`] after this key takes only microseconds: the keys after it are few, and all in memory.
    #[must_use]
    pub fn is_at_hand(&self, after: u64) -> bool {
        let keys = self.durable_key().saturating_sub(after);
        keys == 0 || (keys <= KEYS_AT_HAND && self.recent.reaches(after + 1))
    }

    /// Collects the lane's chunks after `after`, up to the last durable key. Blocks on disk reads.
    ///
    /// # Errors
    /// [`WalError`] if a segment's store cannot be opened.
    pub fn collect(&self, lane: u16, after: u64, appetite: Appetite) -> Result<Run, WalError> {
        let durable = self.durable_key();
        let mut run = Run::default();
        let mut key = after + 1;
        while key <= durable {
            let Some(segment) = self.segment_at_or_after(key) else {
                key = durable + 1;
                break;
            };
            let from = key.max(segment.first_key);
            if lane >= segment.lanes || from > end_of(&segment, durable) {
                key = end_of(&segment, durable) + 1;
                continue;
            }
            let sated =
                run.records >= appetite.records || run.bytes >= appetite.bytes || run.chunks.len() >= appetite.chunks;
            if sated {
                run.more = true;
                break;
            }
            key = match self.at(&segment, lane, from, run.held < appetite.held)? {
                At::Chunk(chunk) => {
                    run.records += (chunk.records + chunk.refused) as usize;
                    run.bytes += chunk.payload.len();
                    // Chunks from memory count, too, because they stay in memory with the batch.
                    run.held += chunk.payload.held().map_or(0, <[u8]>::len);
                    let next = chunk.last_key + 1;
                    run.chunks.push(chunk);
                    next
                }
                At::Skip(next) => next,
                At::Damaged => {
                    run.damaged_values += 1;
                    self.report_damage(segment.first_key);
                    from + 1
                }
            };
        }
        run.scanned = key - 1;
        Ok(run)
    }

    /// Counts the lane's records in `after < key ≤ up_to` that the WAL still has, without unreadable values.
    #[must_use]
    pub fn count_records(&self, lane: u16, after: u64, up_to: u64) -> u64 {
        let mut counted = 0;
        let mut after = after;
        // A piece at a time, to stop once `up_to` is reached.
        let appetite = Appetite { records: usize::MAX, bytes: 1024 * 1024, chunks: usize::MAX, held: 0 };
        while let Ok(run) = self.collect(lane, after, appetite)
            && let Some(last_key) = run.last_key()
        {
            let covered = run.chunks.iter().take_while(|chunk| chunk.last_key <= up_to);
            counted += covered.map(|chunk| u64::from(chunk.records) + u64::from(chunk.refused)).sum::<u64>();
            if last_key >= up_to {
                break;
            }
            after = last_key;
        }
        counted
    }

    /// The time at which the oldest waiting record was written, microseconds since 1970. `settled[lane]` is the key up
    /// to which the lane has nothing left. It does not need the lanes themselves, which may all be waiting for the
    /// database. Blocks on disk reads.
    ///
    /// # Errors
    /// [`WalError`] if a segment's store cannot be opened.
    pub fn oldest_waiting_us(&self, settled: &[u64]) -> Result<Option<i64>, WalError> {
        let appetite = Appetite { records: 1, bytes: 1, chunks: 1, held: 0 };
        let lanes = self.lanes().max(u16::try_from(settled.len()).unwrap_or(u16::MAX));
        let mut known = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        known.resize_with(lanes.into(), Oldest::default);
        let mut oldest_us = None;
        for (lane, known) in (0..lanes).zip(known.iter_mut()) {
            let mark = settled.get(usize::from(lane)).copied().unwrap_or(0);
            if known.chunk.is_none_or(|(last_key, _)| last_key <= mark) {
                let run = self.collect(lane, known.scanned.max(mark), appetite)?;
                known.chunk = run.chunks.first().map(|chunk| (chunk.last_key, chunk.written_us));
                known.scanned = run.last_key().unwrap_or(run.scanned);
            }
            oldest_us = oldest_us.into_iter().chain(known.chunk.map(|(_, us)| us)).min();
        }
        Ok(oldest_us)
    }

    /// A chunk's entries, from memory or from its segment. Blocks on disk reads.
    ///
    /// # Errors
    /// [`WalError`] if the segment cannot be opened, or no longer has the chunk.
    pub fn payload<'c>(&self, chunk: &'c StoredChunk) -> Result<Cow<'c, [u8]>, WalError> {
        let bytes = match &chunk.payload {
            Payload::Held(bytes) => return Ok(Cow::Borrowed(bytes)),
            Payload::Stored(bytes) => *bytes,
        };
        let unreadable = || WalError::Unreadable { key: chunk.first_key };
        let segment = self.segment_at_or_after(chunk.first_key).ok_or_else(unreadable)?;
        let store = self.store_of(&segment)?.ok_or_else(unreadable)?;
        let mut payload = Vec::with_capacity(bytes);
        let lane = (Lanes(segment.lanes), chunk.lane);
        match read_chunk(&*store, lane, chunk.first_key, |part| payload.extend_from_slice(part))? {
            At::Chunk(_) => Ok(Cow::Owned(payload)),
            At::Skip(_) | At::Damaged => Err(unreadable()),
        }
    }

    fn store_of(&self, segment: &Segment) -> Result<Option<Arc<dyn Store>>, WalError> {
        match &segment.store {
            Some(store) => Ok(Some(Arc::clone(store))),
            None => self.open_store(segment.first_key),
        }
    }

    fn at(&self, segment: &Segment, lane: u16, key: u64, hold: bool) -> Result<At, WalError> {
        match self.recent.get(key) {
            Recent::Chunk(chunk) if chunk.lane == lane => return Ok(At::Chunk(chunk)),
            Recent::Chunk(chunk) => return Ok(At::Skip(chunk.last_key + 1)),
            Recent::Within(last_key) => return Ok(At::Skip(last_key + 1)),
            Recent::Unknown => {}
        }
        let store = self.store_of(segment)?;
        // A deleted segment has been committed by every lane, including this one.
        let Some(store) = store else { return Ok(At::Skip(end_of(segment, key) + 1)) };
        let mut payload = Vec::new();
        let at = read_chunk(&*store, (Lanes(segment.lanes), lane), key, |part| {
            if hold {
                payload.extend_from_slice(part);
            }
        })?;
        Ok(match at {
            At::Chunk(mut chunk) if hold => {
                // The chunk is not shared yet.
                Arc::make_mut(&mut chunk).payload = Payload::Held(payload);
                At::Chunk(chunk)
            }
            at => at,
        })
    }
}

fn end_of(segment: &Segment, durable: u64) -> u64 {
    segment.seal.as_ref().map_or(durable, |seal| seal.last_key)
}

/// Reads and checks the lane's chunk at a key, and passes each part of its payload to `keep`. Unreadable values are
/// reported by one lane only.
fn read_chunk(
    store: &dyn Store,
    (lanes, lane): (Lanes, u16),
    first_key: u64,
    mut keep: impl FnMut(&[u8]),
) -> Result<At, WalError> {
    let bytes = store.get(first_key)?;
    let Some((head, payload)) = bytes.as_deref().and_then(|bytes| value::decode(first_key, bytes).ok()) else {
        return Ok(if lanes.by_key(first_key) == lane { At::Damaged } else { At::Skip(first_key + 1) });
    };
    let next = first_key + u64::from(head.parts - head.part);
    if head.part > 0 || lanes.of_value(first_key, &head) != lane {
        return Ok(At::Skip(next));
    }
    keep(payload);
    let mut payload_bytes = payload.len();
    for part in 1..u64::from(head.parts) {
        let Some(bytes) = store.get(first_key + part)? else { return Ok(At::Damaged) };
        let Ok((header, rest)) = value::decode(first_key + part, &bytes) else { return Ok(At::Damaged) };
        if u64::from(header.part) != part {
            return Ok(At::Damaged);
        }
        keep(rest);
        payload_bytes += rest.len();
    }
    Ok(At::Chunk(Arc::new(StoredChunk {
        first_key,
        last_key: next - 1,
        lane,
        records: head.records,
        refused: head.refused,
        min_us: head.min_us,
        max_us: head.max_us,
        columns: head.columns,
        written_us: head.written_us,
        producer: head.producer.into(),
        payload: Payload::Stored(payload_bytes),
    })))
}
