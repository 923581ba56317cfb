//! The WAL: segments in order, to which the writer appends and which the flusher's lanes read.
//!
//! [`Wal`] is shared. The writer alone appends, through [`super::append::Appender`]; lanes read through
//! [`super::reader`]. One lock protects the map of segments, for lookups and changes and never during I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use super::commits::Commits;
use super::recent::{RecentChunks, StoredChunk};
use super::segment::{Opening, Seal, SegmentPaths};
use super::store::{Engine, Store, salvage};
use super::{WalError, files};

/// Distance of the next key after damage, so that no key is used twice.
pub(crate) const DAMAGE_LEAP: u64 = 1 << 40;

/// The file of [`Wal::note_committed`].
pub(super) const COMMITTED_FILE: &str = "committed";

/// A segment for readers.
#[derive(Clone)]
pub struct Segment {
    /// The key of its first value.
    pub first_key: u64,
    /// Lanes that share its chunks.
    pub lanes: u16,
    /// The open store; none for a sealed segment that nobody reads.
    pub(crate) store: Option<Arc<dyn Store>>,
    /// Its contents, once nothing more is written to it.
    pub(crate) seal: Option<Arc<Seal>>,
    /// The number of the last lookup of this segment.
    used: u64,
}

/// Sealed segments that stay open: the most recently used. A lane reads ahead and returns to load chunks that it did
/// not keep in memory, so a segment is used two or three times. More open segments would take more memory, because
/// sled's cache keeps nearly all of a store of that size.
const SEALED_OPEN_MAX: usize = 2;

/// The WAL, shared by the writer and the lanes.
pub struct Wal {
    folder: PathBuf,
    buffer_id: Uuid,
    engine: Engine,
    segments: Mutex<BTreeMap<u64, Segment>>,
    /// Held while a store is opened or deleted: sled permits one handle, which lanes share.
    opening: Mutex<()>,
    /// Held while [`COMMITTED_FILE`] is written, because several lanes trim.
    noting: Mutex<()>,
    /// Number of lookups of segments.
    lookups: AtomicU64,
    /// Held while segments are taken out.
    trimming: Mutex<()>,
    /// The hand-off of fresh chunks.
    pub recent: RecentChunks,
    /// Acknowledgements that wait for PostgreSQL.
    pub commits: Commits,
    durable_key: watch::Sender<u64>,
    value_bytes: AtomicU64,
    unflushed_records: AtomicI64,
    damaged: AtomicBool,
    /// First keys of segments without a seal that have unreadable values; their seals will record the damage.
    damaged_unsealed: Mutex<BTreeSet<u64>>,
    committed_at_start: Vec<u64>,
    /// The oldest waiting chunk of each lane, as far as known.
    pub(super) oldest: Mutex<Vec<Oldest>>,
}

/// A lane's oldest waiting chunk, as far as the WAL was searched.
#[derive(Debug, Default, Clone)]
pub(super) struct Oldest {
    /// Except the chunk below, no chunk of the lane up to this key waits.
    pub scanned: u64,
    /// The chunk's last key, and its time of writing, microseconds since 1970.
    pub chunk: Option<(u64, i64)>,
}

/// The result of recovery, with which the WAL is opened.
pub struct Recovered {
    /// The WAL's identity.
    pub buffer_id: Uuid,
    /// The options of the stores.
    pub engine: Engine,
    /// Sealed segments, by first key.
    pub(crate) segments: Vec<(Opening, Seal)>,
    /// The key of the next value.
    pub next_key: u64,
    /// True if synced values are missing.
    pub damaged: bool,
    /// A lower bound of each lane's committed key: a database with a lower one was restored to an earlier state.
    pub committed: Vec<u64>,
}

impl Wal {
    /// The recovered WAL, still without a segment for writing.
    #[must_use]
    pub fn new(folder: &Path, recovered: &Recovered, recent_bytes: usize) -> Arc<Self> {
        let mut segments = BTreeMap::new();
        let (mut records, mut bytes) = (0, 0);
        for (opening, seal) in &recovered.segments {
            records += seal.records.cast_signed();
            bytes += seal.value_bytes;
            let seal = Some(Arc::new(seal.clone()));
            let segment = Segment { first_key: opening.first_key, lanes: opening.lanes, store: None, seal, used: 0 };
            segments.insert(opening.first_key, segment);
        }
        Arc::new(Self {
            folder: folder.to_owned(),
            buffer_id: recovered.buffer_id,
            engine: recovered.engine,
            segments: Mutex::new(segments),
            opening: Mutex::default(),
            noting: Mutex::default(),
            lookups: AtomicU64::new(0),
            trimming: Mutex::default(),
            recent: RecentChunks::new(recent_bytes),
            commits: Commits::default(),
            durable_key: watch::Sender::new(recovered.next_key - 1),
            value_bytes: AtomicU64::new(bytes),
            unflushed_records: AtomicI64::new(records),
            damaged: AtomicBool::new(recovered.damaged),
            damaged_unsealed: Mutex::default(),
            committed_at_start: recovered.committed.clone(),
            oldest: Mutex::default(),
        })
    }

    /// The lanes' committed keys that were last written to disk.
    #[must_use]
    pub fn committed_at_start(&self) -> &[u64] {
        &self.committed_at_start
    }

    /// The WAL's identity, which PostgreSQL's watermark rows name.
    #[must_use]
    pub fn buffer_id(&self) -> Uuid {
        self.buffer_id
    }

    /// The options of the stores.
    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Follows the highest key on disk.
    #[must_use]
    pub fn watch_durable(&self) -> watch::Receiver<u64> {
        self.durable_key.subscribe()
    }

    /// The highest key on disk.
    #[must_use]
    pub fn durable_key(&self) -> u64 {
        *self.durable_key.borrow()
    }

    /// Bytes of all values in the WAL.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        self.value_bytes.load(Ordering::Relaxed)
    }

    /// Calls and refused records that are on disk and not known to be in PostgreSQL.
    #[must_use]
    pub fn unflushed_records(&self) -> u64 {
        self.unflushed_records.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// Subtracts records that are now in PostgreSQL.
    pub fn count_flushed(&self, records: u64) {
        self.unflushed_records.fetch_sub(records.cast_signed(), Ordering::Relaxed);
    }

    /// True if synced values are missing, now or at the last start.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Number of segments.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.lock().len()
    }

    /// The largest number of lanes of any segment: this number of lanes must run to drain the WAL.
    #[must_use]
    pub fn lanes(&self) -> u16 {
        self.lock().values().map(|segment| segment.lanes).max().unwrap_or(1)
    }

    /// The segment with `key`, or the first one after it.
    #[must_use]
    pub(crate) fn segment_at_or_after(&self, key: u64) -> Option<Segment> {
        let mut segments = self.lock();
        let holds = |segment: &&mut Segment| segment.seal.as_ref().is_none_or(|seal| key <= seal.last_key);
        let found = match segments.range_mut(..=key).next_back().map(|(_, segment)| segment).filter(holds) {
            Some(segment) => Some(segment.first_key),
            None => segments.range(key..).next().map(|(first_key, _)| *first_key),
        };
        let segment = segments.get_mut(&found?)?;
        segment.used = self.lookups.fetch_add(1, Ordering::Relaxed);
        Some(segment.clone())
    }

    /// The store of a segment, opened if necessary. At most [`SEALED_OPEN_MAX`] sealed segments stay open. None if the
    /// segment is deleted, or so damaged that it does not open: an error would end the daemon at each start.
    ///
    /// # Errors
    /// [`WalError`] if the operating system prevents the opening.
    pub(crate) fn open_store(&self, first_key: u64) -> Result<Option<Arc<dyn Store>>, WalError> {
        // Another lane may be opening the same store; it is open once this lock is taken.
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.lock().get(&first_key).map(|segment| segment.store.clone());
        match known {
            None => return Ok(None),
            Some(Some(store)) => return Ok(Some(store)),
            Some(None) => {}
        }
        let path = SegmentPaths::new(&self.folder, first_key).store;
        salvage::keep_original(&path);
        let opened = match self.engine.reopen(&path) {
            Ok(opened) => opened,
            Err(error) if error.is_the_systems() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "a segment does not open; the rest loads");
                self.report_damage(first_key);
                return Ok(None);
            }
        };
        let mut segments = self.lock();
        if let Some(segment) = segments.get_mut(&first_key) {
            segment.store = Some(Arc::clone(&opened));
        }
        let is_open = |segment: &&mut Segment| segment.seal.is_some() && segment.store.is_some();
        let mut used: Vec<u64> = segments.values_mut().filter(is_open).map(|segment| segment.used).collect();
        used.sort_unstable_by(|left, right| right.cmp(left));
        if let Some(oldest) = used.get(SEALED_OPEN_MAX) {
            for segment in segments.values_mut().filter(is_open).filter(|segment| segment.used <= *oldest) {
                segment.store = None;
            }
        }
        Ok(Some(opened))
    }

    /// Reports that a synced value cannot be read. The segment will be set aside instead of deleted.
    pub(crate) fn report_damage(&self, first_key: u64) {
        self.damaged.store(true, Ordering::Relaxed);
        let mut segments = self.lock();
        let Some(segment) = segments.get_mut(&first_key) else { return };
        match &mut segment.seal {
            Some(seal) => Arc::make_mut(seal).damaged = true,
            None => drop(self.lock_unsealed().insert(first_key)),
        }
    }

    /// True if a present segment has unreadable values. It will be set aside.
    #[must_use]
    pub fn holds_damage(&self) -> bool {
        let is_damaged = |segment: &Segment| segment.seal.as_ref().is_some_and(|seal| seal.damaged);
        self.lock().values().any(is_damaged) || !self.lock_unsealed().is_empty()
    }

    /// True if [`Wal::trim`] would delete a segment.
    #[must_use]
    pub fn can_trim(&self, cleared: &[u64]) -> bool {
        if let Some(oldest) = cleared.iter().min() {
            self.recent.release(*oldest);
        }
        trimmable(&self.lock(), cleared).next().is_some()
    }

    /// Deletes the segments that no lane needs: `cleared[lane]` is the key up to which the lane has nothing left to
    /// load. Before that it stores `committed`, the lanes' watermarks. The two differ: a lane without work passes keys
    /// of other lanes, which are not in its watermark in the database, and which the database would seem to have lost.
    /// The newest segment stays, even if sealed, because it has the producers' marks, without which a resend would
    /// count twice.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn trim(&self, cleared: &[u64], committed: &[u64], now_us: i64) -> Result<(), WalError> {
        let _trimming = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let done: Vec<Segment> = trimmable(&self.lock(), cleared).cloned().collect();
        // Unreadable values were never counted as loaded, and never will be.
        let unreadable = done.iter().filter_map(|segment| self.count_unreadable(segment)).sum();
        self.count_flushed(unreadable);
        for segment in &done {
            self.lock().remove(&segment.first_key);
        }
        if !done.is_empty() {
            self.note_committed(committed)?;
            tallyd_base::failpoint::hit("wal.trimming");
        }
        // Deleting excludes opening. Otherwise a lane could open a half-deleted folder, or sled could create a new
        // store there.
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        for segment in done {
            let Some(seal) = segment.seal else { continue };
            drop(segment.store);
            let paths = SegmentPaths::new(&self.folder, segment.first_key);
            if seal.damaged {
                let target = paths.set_aside(now_us)?;
                tracing::error!(target = %target.display(), "a damaged segment was set aside; its readable records are loaded");
            } else {
                paths.delete()?;
            }
            self.value_bytes.fetch_sub(seal.value_bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The number of a damaged segment's records that no lane can have loaded. None if it is not damaged.
    fn count_unreadable(&self, segment: &Segment) -> Option<u64> {
        let seal = segment.seal.as_ref().filter(|seal| seal.damaged)?;
        let count = |lane| self.count_records(lane, segment.first_key - 1, seal.last_key);
        Some(seal.records.saturating_sub((0..segment.lanes).map(count).sum()))
    }

    /// The folder of the WAL's files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds the segment that the writer has begun.
    pub(super) fn begin_segment(&self, opening: &Opening, store: Arc<dyn Store>) {
        let segment =
            Segment { first_key: opening.first_key, lanes: opening.lanes, store: Some(store), seal: None, used: 0 };
        self.lock().insert(opening.first_key, segment);
    }

    /// Ends the writer's segment. Returns its store, for the caller to close without the lock.
    pub(super) fn end_segment(&self, first_key: u64, mut seal: Seal) -> Option<Arc<dyn Store>> {
        let mut segments = self.lock();
        seal.damaged |= self.lock_unsealed().remove(&first_key);
        let segment = segments.get_mut(&first_key)?;
        segment.seal = Some(Arc::new(seal));
        segment.store.take()
    }

    /// Makes committed values visible to the lanes.
    pub(super) fn publish(&self, durable_key: u64, value_bytes: u64, chunks: impl Iterator<Item = StoredChunk>) {
        let mut records = 0;
        self.recent.push(chunks.inspect(|chunk| records += i64::from(chunk.records) + i64::from(chunk.refused)));
        self.value_bytes.fetch_add(value_bytes, Ordering::Relaxed);
        self.unflushed_records.fetch_add(records, Ordering::Relaxed);
        self.durable_key.send_replace(durable_key);
    }

    /// Stores the lanes' watermarks, with which the next start compares the database.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn note_committed(&self, committed: &[u64]) -> Result<(), WalError> {
        let _noting = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        files::write(&self.folder.join(COMMITTED_FILE), &committed)
    }

    fn lock_unsealed(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.damaged_unsealed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Segment>> {
        // The code under the lock does not panic; after a poisoning the map is still complete.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The segments that no lane needs, except the newest.
fn trimmable<'a>(segments: &'a BTreeMap<u64, Segment>, cleared: &'a [u64]) -> impl Iterator<Item = &'a Segment> {
    segments.values().rev().skip(1).filter(|segment| is_cleared(segment, cleared))
}

fn is_cleared(segment: &Segment, cleared: &[u64]) -> bool {
    let Some(seal) = &segment.seal else { return false };
    seal.lane_last_keys.iter().enumerate().all(|(lane, last)| cleared.get(lane).is_some_and(|mark| mark >= last))
}
