//! The writer's end of the WAL: append, commit, rotate, seal.

use std::sync::Arc;

use super::lanes::Lanes;
use super::mark::Mark;
use super::producers::ProducerState;
use super::recent::{Payload, StoredChunk};
use super::segment::{Opening, Seal, SegmentPaths};
use super::store::Store;
use super::value::{self, Stamp};
use super::wal::Wal;
use super::window::IdentityWindow;
use super::{WalError, files};
use crate::chunk::{Bundle, Chunk};
use crate::identity::ProducerIdentity;
use tallyd_base::failpoint;

/// The durability that a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The disk: committed values survive a power cut.
    Disk,
    /// The operating system: committed values survive this process.
    Os,
}

/// Appends to the newest segment.
pub struct Appender {
    wal: Arc<Wal>,
    mark: Mark,
    lanes: Lanes,
    store: Arc<dyn Store>,
    opening: Opening,
    seal: Seal,
    next_key: u64,
    /// The highest key that is known to be on disk. Values include it, so it must never be too high.
    disk_key: u64,
    /// Values appended since the last commit.
    fresh: Vec<StoredChunk>,
    fresh_bytes: u64,
    value: Vec<u8>,
}

impl Appender {
    /// Begins a new segment at `next_key`, for `lanes` lanes.
    ///
    /// # Errors
    /// [`WalError`].
    pub fn new(
        wal: Arc<Wal>,
        mark: Mark,
        next_key: u64,
        lanes: u16,
        producers: Vec<ProducerState>,
    ) -> Result<Self, WalError> {
        let (store, opening) = create_segment(&wal, next_key, lanes, producers)?;
        Ok(Self {
            wal,
            mark,
            lanes: Lanes(lanes),
            store,
            opening,
            seal: empty_seal(lanes),
            next_key,
            disk_key: next_key - 1,
            fresh: Vec::new(),
            fresh_bytes: 0,
            value: Vec::with_capacity(value::VALUE_BYTES_MAX),
        })
    }

    /// Appends a bundle. It is neither durable nor visible to lanes before [`Appender::commit`]. Returns the number of
    /// its values.
    ///
    /// # Errors
    /// [`WalError`]; the WAL must not be used afterwards.
    pub fn append(
        &mut self,
        bundle: impl Into<Bundle>,
        producer: &ProducerIdentity,
        written_us: i64,
    ) -> Result<usize, WalError> {
        let mut values = 0;
        let mut chunks = bundle.into().chunks.into_iter().peekable();
        while let Some((hint, chunk)) = chunks.next() {
            let lane = self.lanes.for_chunk(hint, self.next_key, self.wal.unflushed_records());
            let more = chunks.peek().is_some();
            let ProducerIdentity { name, proof } = producer;
            let stamp = Stamp { synced: self.disk_key, written_us, producer: name, proof: *proof, lane, more };
            values += self.append_chunk(chunk, stamp, name)?;
        }
        Ok(values)
    }

    fn append_chunk(&mut self, chunk: Chunk, stamp: Stamp<'_>, producer: &Arc<str>) -> Result<usize, WalError> {
        let parts = value::parts_of(chunk.payload.len(), producer);
        let first_key = self.next_key;
        for part in 0..parts {
            value::encode(&mut self.value, self.next_key, stamp, &chunk, part, parts);
            self.store.insert(self.next_key, &self.value)?;
            self.seal.checksum = fold_checksum(self.seal.checksum, &self.value);
            self.fresh_bytes += self.value.len() as u64;
            self.next_key += 1;
        }
        let last_key = self.next_key - 1;
        self.seal.last_key = last_key;
        self.seal.records += u64::from(chunk.records) + u64::from(chunk.refused);
        self.seal.lane_last_keys[usize::from(stamp.lane)] = last_key;
        if parts > 1 {
            // Only records of unusual size get here.
            self.store.check_durable()?;
        }
        self.fresh.push(stored(first_key, last_key, chunk, producer, stamp));
        Ok(parts)
    }

    /// Makes all appended values durable, as far as `durability` says, and passes them to the lanes.
    ///
    /// # Errors
    /// [`WalError`]; the WAL must not be used afterwards.
    pub(crate) fn commit(&mut self, durability: Durability) -> Result<(), WalError> {
        failpoint::hit("wal.appended");
        self.store.flush()?;
        failpoint::hit("wal.flushed");
        if durability == Durability::Disk {
            self.store.sync_data()?;
            failpoint::hit("wal.synced");
            self.disk_key = self.next_key - 1;
            self.mark.set(self.disk_key)?;
        }
        self.seal.value_bytes += self.fresh_bytes;
        self.wal.publish(self.next_key - 1, std::mem::take(&mut self.fresh_bytes), self.fresh.drain(..));
        Ok(())
    }

    /// True if values were committed to the operating system and not yet to the disk.
    #[must_use]
    pub(crate) fn owes_sync(&self) -> bool {
        self.disk_key < self.next_key - 1
    }

    /// Bytes of the segment's values.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.seal.value_bytes
    }

    /// The highest appended key.
    #[must_use]
    pub fn last_key(&self) -> u64 {
        self.next_key - 1
    }

    /// Seals the segment and begins the next. All values must be committed.
    ///
    /// # Errors
    /// [`WalError`]; the WAL must not be used afterwards.
    pub fn rotate(
        &mut self,
        producers: Vec<ProducerState>,
        window: &mut IdentityWindow,
        now_us: i64,
    ) -> Result<(), WalError> {
        self.seal(window, now_us)?;
        failpoint::hit("wal.sealed");
        let (store, opening) = create_segment(&self.wal, self.next_key, self.lanes.0, producers)?;
        let sealed = std::mem::replace(&mut self.store, store);
        self.opening = opening;
        self.seal = empty_seal(self.lanes.0);
        // The store flushes and syncs as it closes; acknowledgements need not wait for that.
        std::thread::spawn(move || drop(sealed));
        Ok(())
    }

    /// Seals the segment: its file lists the contents, and the window's file the calls with a stated identity. A
    /// segment without values is left to the next start.
    ///
    /// # Errors
    /// [`WalError`]; the WAL must not be used afterwards.
    pub fn seal(&mut self, window: &mut IdentityWindow, now_us: i64) -> Result<(), WalError> {
        self.store.check_durable()?;
        self.store.flush()?;
        self.store.sync_data()?;
        if self.seal.last_key == 0 {
            return Ok(());
        }
        // After the sync, so that no key belongs to a lost record, and before the seal, which the next start trusts.
        window.seal(self.opening.first_key, now_us)?;
        failpoint::hit("wal.identities");
        let paths = SegmentPaths::new(self.wal.folder(), self.opening.first_key);
        files::write(&paths.seal, &self.seal)?;
        drop(self.wal.end_segment(self.opening.first_key, self.seal.clone()));
        Ok(())
    }
}

/// Folds one value's checksum into its segment's.
#[must_use]
pub(crate) fn fold_checksum(checksum: u32, value: &[u8]) -> u32 {
    crc32c::crc32c_append(checksum, &value::stored_checksum(value).to_le_bytes())
}

/// The seal of a segment without values.
#[must_use]
pub(crate) fn empty_seal(lanes: u16) -> Seal {
    Seal {
        last_key: 0,
        records: 0,
        value_bytes: 0,
        checksum: 0,
        lane_last_keys: vec![0; usize::from(lanes)],
        damaged: false,
    }
}

fn create_segment(
    wal: &Wal,
    first_key: u64,
    lanes: u16,
    producers: Vec<ProducerState>,
) -> Result<(Arc<dyn Store>, Opening), WalError> {
    let paths = SegmentPaths::new(wal.folder(), first_key);
    let opening = Opening { buffer_id: wal.buffer_id(), first_key, lanes, producers };
    // The `.open` file is written last: a segment without one was never used.
    let store = wal.engine().create(&paths.store)?;
    failpoint::hit("wal.created");
    files::write(&paths.opening, &opening)?;
    wal.begin_segment(&opening, Arc::clone(&store));
    Ok((store, opening))
}

fn stored(first_key: u64, last_key: u64, chunk: Chunk, producer: &Arc<str>, stamp: Stamp<'_>) -> StoredChunk {
    StoredChunk {
        first_key,
        last_key,
        lane: stamp.lane,
        records: chunk.records,
        refused: chunk.refused,
        min_us: chunk.min_us,
        max_us: chunk.max_us,
        columns: chunk.columns,
        written_us: stamp.written_us,
        producer: Arc::clone(producer),
        payload: Payload::Held(chunk.payload),
    }
}
