//! The window of stated identities: the keys of calls whose identity was stated ([`tallyd_model::call::Key`]), by which
//! a second record of a call is recognised as a duplicate.
//!
//! ## Constraints
//! * An acknowledged record is known, also after a kill and a power cut.
//! * A record that was not committed does not leave a key: its resend would count as a duplicate, and the call would be
//!   lost.
//! * Memory and disk are bounded by time (`wal.identity_window_days`) and by number (`wal.max_identities`).
//! * A record whose id a client library made never gets here.
//!
//! ## Design
//! The writer thread owns the window, as it owns the producers' marks, and looks keys up in the order of the channel.
//! So the order of two records is unambiguous. The lookup is before the record is appended; known records are taken out
//! of their chunk.
//!
//! Keys are not written beside records: the keys of a segment follow from its values (two flags of each call's entry
//! tell which calls have keys). When a segment is sealed, its keys are written to `identities/`, a file for each
//! segment, after the segment's store was synced and before its seal. A start reads these files, and gets the keys of
//! segments without a seal from the scan that they need anyway. So a commit has nothing more to sync.
//!
//! ## Slices
//! Keys are forgotten a slice at a time, with the files of the slice. A slice ends with a segment, once it has a
//! quarter of the window's time or of its number; the writer ends a segment for it. So a key is remembered at least for
//! the window's time, and at most a quarter longer. At the bound in number the oldest slice is dropped early, which is
//! counted. The wall clock may jump by years, so no slice is forgotten within an hour of having been read or begun.
//!
//! A slice is 256 sets, by the keys' last byte. A growing set moves its keys, and 256 short pauses delay
//! acknowledgements less than one long pause would. Sets are hashed with a random key, because senders choose ids.
//!
//! ## Errors
//! A damaged file is set aside and logged. Its keys are forgotten: calls of that time that are sent again count again,
//! and `tallyd duplicates` finds them.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::producers::GRACE;
use super::{WalError, files};
use crate::chunk::{Chunk, Claim};
use tallyd_model::call::{Call, Key};

/// The number of slices in the window's time and number.
const SLICES: u32 = 4;
const SHARDS: usize = 256;
/// The first bytes of a file of keys; the last of them is the format.
const MAGIC: [u8; 8] = *b"tallyid\x01";
const KEY_BYTES: usize = size_of::<Key>();
const HEAD_BYTES: usize = MAGIC.len() + 2 * size_of::<i64>();
const CRC_BYTES: usize = size_of::<u32>();

/// The window's bounds.
#[derive(Debug, Clone, Copy)]
pub struct WindowBounds {
    /// How long a key is remembered.
    pub span: Duration,
    /// Largest number of keys.
    pub max: usize,
}

/// Keys, and the times of their records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    list: Vec<Key>,
    /// The first and last time, microseconds since 1970; none without keys.
    span: Option<(i64, i64)>,
}

impl Keys {
    fn add(&mut self, key: Key, at_us: i64) {
        let (first, last) = self.span.unwrap_or((at_us, at_us));
        self.span = Some((first.min(at_us), last.max(at_us)));
        self.list.push(key);
    }

    /// Adds a call's key with its time.
    pub fn add_call(&mut self, call: &Call<'_>, written_us: i64) {
        call.keys().for_each(|key| self.add(key, written_us));
    }

    /// Writes them to a segment's file, unless it exists. Does nothing without keys.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn keep(&self, wal: &Path, first_key: u64) -> Result<Option<PathBuf>, WalError> {
        let Some((first_us, last_us)) = self.span else { return Ok(None) };
        let folder = folder(wal);
        let path = folder.join(format!("{first_key:020}"));
        if path.exists() {
            return Ok(Some(path));
        }
        if !folder.exists() {
            fs::create_dir(&folder).map_err(|error| WalError::io("create", &folder, error))?;
            files::sync_folder(wal)?;
        }
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.list.len() * KEY_BYTES + CRC_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&first_us.to_le_bytes());
        bytes.extend_from_slice(&last_us.to_le_bytes());
        bytes.extend_from_slice(self.list.as_flattened());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        files::write_bytes(&path, &bytes)?;
        Ok(Some(path))
    }

    fn read(path: &Path) -> Result<Self, WalError> {
        let bytes = fs::read(path).map_err(|error| WalError::io("read", path, error))?;
        Self::parse(&bytes).ok_or_else(|| WalError::Foreign {
            path: path.display().to_string(),
            reason: "it is cut short, or its checksum is wrong".into(),
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
        let rest = content.strip_prefix(&MAGIC).filter(|_| crc32c::crc32c(content) == u32::from_le_bytes(*crc))?;
        let (first_us, rest) = rest.split_first_chunk()?;
        let (last_us, rest) = rest.split_first_chunk()?;
        let (list, rest) = rest.as_chunks::<KEY_BYTES>();
        let span = (i64::from_le_bytes(*first_us), i64::from_le_bytes(*last_us));
        rest.is_empty().then(|| Self { list: list.to_vec(), span: Some(span) })
    }
}

fn folder(wal: &Path) -> PathBuf {
    wal.join("identities")
}

struct Slice {
    shards: Vec<HashSet<Key>>,
    len: usize,
    first_us: i64,
    last_us: i64,
    /// Time at which it was begun or read, by a monotonic clock.
    heard: Instant,
    files: Vec<PathBuf>,
}

impl Slice {
    fn new() -> Self {
        Self {
            shards: vec![HashSet::new(); SHARDS],
            len: 0,
            first_us: i64::MAX,
            last_us: i64::MIN,
            heard: Instant::now(),
            files: Vec::new(),
        }
    }

    fn has(&self, key: &Key) -> bool {
        self.shards[usize::from(key[KEY_BYTES - 1])].contains(key)
    }

    fn add(&mut self, key: Key) {
        self.len += usize::from(self.shards[usize::from(key[KEY_BYTES - 1])].insert(key));
    }

    fn reach(&mut self, first_us: i64, last_us: i64) {
        self.first_us = self.first_us.min(first_us);
        self.last_us = self.last_us.max(last_us);
    }
}

/// The window's public figures.
#[derive(Debug, Default)]
pub struct WindowState {
    known: AtomicU64,
    oldest_us: AtomicI64,
    duplicates: AtomicU64,
    forgotten_early: AtomicU64,
}

/// The window at a glance.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct WindowStatus {
    /// Stated ids that are remembered.
    pub known: u64,
    /// When the oldest of them was recorded, microseconds since 1970 UTC. None without any.
    pub oldest_us: Option<i64>,
    /// Records since the start whose stated id was known: they are acknowledged and not counted again.
    pub duplicates: u64,
    /// Ids since the start that were forgotten before their time, because there were more than `wal.max_identities`.
    pub forgotten_early: u64,
}

impl WindowState {
    /// The present values.
    #[must_use]
    pub fn status(&self) -> WindowStatus {
        let known = self.known.load(Ordering::Relaxed);
        WindowStatus {
            known,
            oldest_us: (known > 0).then(|| self.oldest_us.load(Ordering::Relaxed)),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            forgotten_early: self.forgotten_early.load(Ordering::Relaxed),
        }
    }
}

/// The remembered keys. The last slice takes new ones.
pub struct IdentityWindow {
    wal: PathBuf,
    bounds: WindowBounds,
    slices: VecDeque<Slice>,
    /// Keys of the segment that is being written.
    fresh: Keys,
    state: Arc<WindowState>,
}

impl IdentityWindow {
    /// Reads the files of earlier segments in the WAL's folder.
    ///
    /// # Errors
    /// [`WalError::Io`]. A damaged file is not an error: it is set aside.
    pub fn open(wal: &Path, bounds: WindowBounds, now_us: i64) -> Result<Self, WalError> {
        let slices = VecDeque::from([Slice::new()]);
        let mut window = Self { wal: wal.to_owned(), bounds, slices, fresh: Keys::default(), state: Arc::default() };
        for path in window.files()? {
            match Keys::read(&path) {
                Ok(keys) => window.load(keys, path),
                Err(error @ WalError::Io { .. }) => return Err(error),
                Err(error) => window.set_aside(&path, &error, now_us)?,
            }
        }
        window.tell();
        Ok(window)
    }

    fn files(&self) -> Result<Vec<PathBuf>, WalError> {
        let folder = folder(&self.wal);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let failed = |error| WalError::io("read", &folder, error);
        let entries = fs::read_dir(&folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        // A file that was being written when the daemon was killed has another suffix, and its segment does not have a
        // seal.
        files.retain(|path| path.extension().is_none());
        files.sort();
        Ok(files)
    }

    fn load(&mut self, keys: Keys, path: PathBuf) {
        let (first_us, last_us) = keys.span.unwrap_or_default();
        let slice = self.current();
        slice.reach(first_us, last_us);
        slice.files.push(path);
        keys.list.into_iter().for_each(|key| slice.add(key));
        self.turn(last_us);
    }

    fn set_aside(&self, path: &Path, error: &WalError, now_us: i64) -> Result<(), WalError> {
        let folder = self.wal.join("damaged");
        fs::create_dir_all(&folder).map_err(|error| WalError::io("create", &folder, error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = folder.join(format!("identities-{name}-{now_us}"));
        fs::rename(path, &target).map_err(|error| WalError::io("rename", path, error))?;
        tracing::error!(
            %error, target = %target.display(),
            "a damaged file of stated ids was set aside: calls of its time that are sent again count again, and `tallyd \
             duplicates list` finds them"
        );
        Ok(())
    }

    /// The public figures.
    #[must_use]
    pub fn state(&self) -> Arc<WindowState> {
        Arc::clone(&self.state)
    }

    fn current(&mut self) -> &mut Slice {
        // There is always at least one slice.
        self.slices.back_mut().expect("a slice to add to")
    }

    /// Takes known calls out of a chunk, and adds the keys of the others. Returns the number of known calls.
    ///
    /// # Errors
    /// [`WalError::Foreign`], for a chunk that does not decode.
    pub fn deduplicate(&mut self, chunk: &mut Chunk, now_us: i64) -> Result<u64, WalError> {
        // The usual case: calls with ids made by client libraries do not have claims.
        if chunk.claims.list.is_empty() {
            return Ok(0);
        }
        let known = self.take(&chunk.claims.list, now_us);
        let count = known.len() as u64;
        if count > 0 {
            let rest = chunk.without(&known).map_err(|error| WalError::Foreign {
                path: self.wal.display().to_string(),
                reason: error.to_string(),
            })?;
            std::mem::replace(chunk, rest).claims.set_known(known);
            self.state.duplicates.fetch_add(count, Ordering::Relaxed);
        }
        Ok(count)
    }

    /// The places of the known calls; the keys of the others are added. A call is known if one of its keys is.
    fn take(&mut self, claims: &[Claim], now_us: i64) -> Vec<u32> {
        let mut known = Vec::new();
        for of_call in claims.chunk_by(|a, b| a.place == b.place) {
            if of_call.iter().any(|claim| self.slices.iter().rev().any(|slice| slice.has(&claim.key))) {
                known.push(of_call[0].place);
                continue;
            }
            for claim in of_call {
                self.current().add(claim.key);
                self.fresh.add(claim.key, now_us);
            }
        }
        if known.len() < claims.len() {
            self.current().reach(now_us, now_us);
            self.tell();
        }
        known
    }

    /// True if the segment should end, so that a slice can end.
    #[must_use]
    pub(crate) fn wants_seal(&self, now_us: i64) -> bool {
        !self.fresh.list.is_empty() && self.is_due(now_us)
    }

    fn is_due(&self, now_us: i64) -> bool {
        let slice = self.slices.back().expect("a slice to add to");
        let max = self.bounds.max / SLICES as usize;
        slice.len > 0
            && (slice.len >= max || now_us.saturating_sub(slice.first_us) >= micros(self.bounds.span / SLICES))
    }

    /// Writes the keys of a segment that was synced and is about to be sealed.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn seal(&mut self, first_key: u64, now_us: i64) -> Result<(), WalError> {
        let file = std::mem::take(&mut self.fresh).keep(&self.wal, first_key)?;
        self.current().files.extend(file);
        self.turn(now_us);
        Ok(())
    }

    /// Begins a slice if it is time for one. All keys of the last one are in files.
    fn turn(&mut self, now_us: i64) {
        if self.is_due(now_us) {
            self.slices.push_back(Slice::new());
        }
    }

    /// Forgets keys that are too old or too many. Called periodically.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn forget(&mut self, now_us: i64) -> Result<(), WalError> {
        let oldest_us = now_us.saturating_sub(micros(self.bounds.span));
        let grace = GRACE.min(self.bounds.span);
        while self.slices.len() > 1 {
            // The last slice may still grow to its share.
            let ended: usize = self.slices.iter().rev().skip(1).map(|slice| slice.len).sum();
            let first = &self.slices[0];
            let is_old = first.last_us < oldest_us && first.heard.elapsed() >= grace;
            if !is_old && ended <= self.bounds.max - self.bounds.max / SLICES as usize {
                break;
            }
            if !is_old {
                self.state.forgotten_early.fetch_add(first.len as u64, Ordering::Relaxed);
            }
            let Some(slice) = self.slices.pop_front() else { break };
            for file in &slice.files {
                fs::remove_file(file).map_err(|error| WalError::io("delete", file, error))?;
            }
        }
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let known: usize = self.slices.iter().map(|slice| slice.len).sum();
        let oldest_us = self.slices.iter().map(|slice| slice.first_us).min().unwrap_or(i64::MAX);
        self.state.known.store(known as u64, Ordering::Relaxed);
        self.state.oldest_us.store(oldest_us, Ordering::Relaxed);
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
