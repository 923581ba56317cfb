//! The hand-off: chunks that have just become durable, in memory for the flusher.
//!
//! A flusher that keeps up never reads the WAL back. One that has fallen behind reads segments until it reaches the
//! hand-off. The hand-off is bounded in bytes: the oldest chunks leave first, read or not, because the WAL has them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::chunk::Columns;

/// A durable chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// The key of its first part.
    pub first_key: u64,
    /// The key of its last part.
    pub last_key: u64,
    /// The lane that loads it.
    pub lane: u16,
    /// Calls in it.
    pub records: u32,
    /// Refused records in it.
    pub refused: u32,
    /// The earliest `occurred_at` of its calls, microseconds; `i64::MAX` without any.
    pub min_us: i64,
    /// The latest `occurred_at`; `i64::MIN` without any.
    pub max_us: i64,
    /// Columns in which a call differs from the table's defaults.
    pub columns: Columns,
    /// Time of its writing to the WAL, microseconds since 1970.
    pub written_us: i64,
    /// The producer's name, or empty.
    pub producer: Arc<str>,
    /// Its entries; see [`crate::chunk`].
    pub payload: Payload,
}

/// A chunk's entries, or their size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// In memory.
    Held(Vec<u8>),
    /// In the WAL only, with their number of bytes. Behind a backlog, batches in memory would be most of the daemon's
    /// memory.
    Stored(usize),
}

impl Payload {
    /// The number of its bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Held(bytes) => bytes.len(),
            Self::Stored(len) => *len,
        }
    }

    /// Its bytes, if they are in memory.
    #[must_use]
    pub fn held(&self) -> Option<&[u8]> {
        match self {
            Self::Held(bytes) => Some(bytes),
            Self::Stored(_) => None,
        }
    }

    /// True for an empty payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The result of a lookup by key.
#[derive(Debug, Clone)]
pub(crate) enum Recent {
    /// The chunk that begins at the key.
    Chunk(Arc<StoredChunk>),
    /// The key belongs to a later part of a chunk, which ends with this key.
    Within(u64),
    /// The key is older than the kept chunks, or not written yet.
    Unknown,
}

/// The bounded hand-off.
pub struct RecentChunks {
    state: Mutex<State>,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Arc<StoredChunk>>,
    bytes: usize,
}

/// Bytes of a chunk in memory beside its payload.
const OVERHEAD_BYTES: usize = size_of::<StoredChunk>() + 64;

impl RecentChunks {
    /// Keeps at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), max_bytes }
    }

    /// Adds durable chunks, in the order of their keys.
    pub fn push(&self, chunks: impl Iterator<Item = StoredChunk>) {
        let mut state = self.lock();
        for chunk in chunks {
            state.bytes += cost(&chunk);
            state.chunks.push_back(Arc::new(chunk));
        }
        while state.bytes > self.max_bytes {
            let Some(oldest) = state.chunks.pop_front() else { break };
            state.bytes -= cost(&oldest);
        }
    }

    /// Drops everything up to `key`, because it is in PostgreSQL.
    pub fn release(&self, key: u64) {
        let mut state = self.lock();
        while state.chunks.front().is_some_and(|chunk| chunk.last_key <= key) {
            let Some(oldest) = state.chunks.pop_front() else { break };
            state.bytes -= cost(&oldest);
        }
    }

    /// Looks a key up.
    #[must_use]
    pub(crate) fn get(&self, key: u64) -> Recent {
        let state = self.lock();
        let after = state.chunks.partition_point(|chunk| chunk.first_key <= key);
        match after.checked_sub(1).and_then(|at| state.chunks.get(at)) {
            Some(chunk) if chunk.first_key == key => Recent::Chunk(Arc::clone(chunk)),
            Some(chunk) if chunk.last_key >= key => Recent::Within(chunk.last_key),
            _ => Recent::Unknown,
        }
    }

    /// True if `key` and all later ones are kept.
    #[must_use]
    pub fn reaches(&self, key: u64) -> bool {
        self.lock().chunks.front().is_some_and(|oldest| oldest.first_key <= key)
    }

    /// Number of kept bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The code under the lock does not panic; after a poisoning the state is still complete.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(chunk: &StoredChunk) -> usize {
    let held = match &chunk.payload {
        // Capacity, not length: builders allocate a full value's size at once.
        Payload::Held(bytes) => bytes.capacity(),
        Payload::Stored(_) => 0,
    };
    held + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(first_key: u64, last_key: u64) -> StoredChunk {
        StoredChunk {
            first_key,
            last_key,
            lane: 0,
            records: 1,
            refused: 0,
            min_us: 0,
            max_us: 0,
            columns: Columns::NONE,
            written_us: 0,
            producer: "".into(),
            payload: Payload::Held(vec![0; 1_000]),
        }
    }

    #[test]
    fn the_oldest_leave_at_the_bound() {
        let recent = RecentChunks::new(3 * (1_000 + OVERHEAD_BYTES));
        recent.push([chunk(1, 1), chunk(2, 4), chunk(5, 5), chunk(9, 9)].into_iter());
        assert!(matches!(recent.get(1), Recent::Unknown));
        assert!(matches!(recent.get(2), Recent::Chunk(chunk) if chunk.last_key == 4));
        assert!(matches!(recent.get(3), Recent::Within(4)));
        assert!(matches!(recent.get(6), Recent::Unknown));
        assert!(recent.reaches(2) && recent.reaches(11) && !recent.reaches(1));
        recent.release(5);
        assert!(!recent.reaches(5));
        assert!(matches!(recent.get(5), Recent::Unknown));
        assert!(matches!(recent.get(9), Recent::Chunk(_)));
        assert_eq!(recent.bytes(), 1_000 + OVERHEAD_BYTES);
    }
}
