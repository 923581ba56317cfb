//! Reads segments without changing them, also beside a running daemon.
//!
//! The files `.open` and `.sealed` are only read. A sled store is never opened in place, because opening locks it, and
//! sled writes to it. It is copied to a temporary folder and opened there, so neither a daemon nor the evidence of a
//! damage is disturbed.
//!
//! ## Valid values
//! The same values as at a start ([`super::recovery`]): all before the first key that is missing and not claimed as
//! synced. Later values were never acknowledged, so their senders have sent them again.

mod contents;
mod copy;
mod kept;

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::recent::StoredChunk;
use super::segment::{Opening, Seal, SegmentPaths};
use super::store::salvage;
use super::{WalError, files};
use contents::assemble;
use copy::{Copy, from_store};
pub use kept::{Gap, Kept};

/// The folder of segments that were set aside.
pub(crate) const DAMAGED: &str = "damaged";
/// In such a segment's folder: marks it as replayed.
const REPLAYED_FILE: &str = "replayed";
/// Largest number of keys for which a segment without a seal is searched without sled.
const UNSEALED_KEYS_MAX: u64 = 1 << 24;

/// State of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// Being written, or left so by a daemon that was killed.
    Active,
    /// Full, or from an earlier start; waits until every lane has loaded it.
    Sealed,
    /// Sealed, with unreadable values: it is set aside once the rest is loaded.
    SealedDamaged,
    /// Set aside as damaged.
    SetAside,
    /// Set aside, and its readable records have been loaded.
    Replayed,
}

/// A segment's properties from its small files.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentReport {
    /// Its name: the first key, and, if it was set aside, the time of that.
    pub name: String,
    /// How it is.
    pub state: SegmentState,
    /// The key of its first value.
    pub first_key: u64,
    /// The key of its last value, if it has a seal.
    pub last_key: Option<u64>,
    /// Calls and refused records, according to its seal.
    pub records: Option<u64>,
    /// Bytes of its store on disk.
    pub disk_bytes: u64,
    /// Where it is.
    pub path: PathBuf,
    #[serde(skip)]
    paths: SegmentPaths,
    #[serde(skip)]
    folder: PathBuf,
}

/// The readable contents of a segment.
pub struct SegmentContents {
    /// The WAL's identity; none if the `.open` file is damaged.
    pub buffer_id: Option<uuid::Uuid>,
    /// Valid, complete chunks, in the order of their keys.
    pub chunks: Vec<StoredChunk>,
    /// Synced keys that cannot be read, or whose chunk is incomplete.
    pub missing: Vec<RangeInclusive<u64>>,
    /// Values after the first key that is missing and not claimed as synced: never acknowledged.
    pub unacknowledged: u64,
    /// Values that were found without sled.
    pub salvaged: u64,
    /// sled's error if it did not open the store.
    pub store_error: Option<String>,
}

/// The result of a segment's replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayNote {
    /// Time of the replay, microseconds since 1970.
    pub at_us: i64,
    /// Loaded calls of all finished runs.
    pub loaded: u64,
}

/// All segments of a WAL; those that were set aside come last. A segment that is deleted meanwhile may be missing.
///
/// # Errors
/// [`WalError::Io`] if the folder cannot be read.
pub fn list(wal: &Path) -> Result<Vec<SegmentReport>, WalError> {
    let mut segments: Vec<_> = names(wal)?.into_iter().filter_map(|name| kept(wal, &name)).collect();
    let damaged = wal.join(DAMAGED);
    if damaged.exists() {
        segments.extend(names(&damaged)?.into_iter().filter_map(|name| set_aside(&damaged, &name)));
    }
    Ok(segments)
}

/// Names of segments that were set aside and not replayed yet.
#[must_use]
pub fn unsettled(wal: &Path) -> Vec<String> {
    let damaged = wal.join(DAMAGED);
    let all = names(&damaged).unwrap_or_default().into_iter();
    all.filter(|name| digits(name).is_some() && !damaged.join(name).join(REPLAYED_FILE).exists()).collect()
}

fn names(folder: &Path) -> Result<Vec<String>, WalError> {
    let entries = fs::read_dir(folder).map_err(|error| WalError::io("read", folder, error))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// The first key in a name that begins with it.
fn digits(name: &str) -> Option<u64> {
    name.get(..20).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn kept(wal: &Path, name: &str) -> Option<SegmentReport> {
    let first_key = digits(name).filter(|_| name.len() == 20)?;
    let paths = SegmentPaths::new(wal, first_key);
    let seal = files::read::<Seal>(&paths.seal).ok();
    let state = match &seal {
        None => SegmentState::Active,
        Some(seal) if seal.damaged => SegmentState::SealedDamaged,
        Some(_) => SegmentState::Sealed,
    };
    Some(describe(name, state, first_key, seal, paths, wal))
}

fn set_aside(damaged: &Path, name: &str) -> Option<SegmentReport> {
    let first_key = digits(name)?;
    let folder = damaged.join(name);
    let paths = SegmentPaths::new(&folder, first_key);
    let state = if folder.join(REPLAYED_FILE).exists() { SegmentState::Replayed } else { SegmentState::SetAside };
    let seal = files::read::<Seal>(&paths.seal).ok();
    Some(describe(name, state, first_key, seal, paths, &folder))
}

fn describe(
    name: &str,
    state: SegmentState,
    first_key: u64,
    seal: Option<Seal>,
    paths: SegmentPaths,
    folder: &Path,
) -> SegmentReport {
    SegmentReport {
        name: name.to_owned(),
        state,
        first_key,
        last_key: seal.as_ref().map(|seal| seal.last_key),
        records: seal.as_ref().map(|seal| seal.records),
        disk_bytes: disk_bytes(&paths.store),
        path: paths.store.clone(),
        folder: folder.to_owned(),
        paths,
    }
}

fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

impl SegmentReport {
    /// Reads the readable values into memory: a segment has tens of mebibytes.
    ///
    /// # Errors
    /// [`WalError::Io`] if the store's files cannot be copied; a store that is damaged, or without its file, is not an error.
    pub fn read(&self) -> Result<SegmentContents, WalError> {
        let opening = files::read::<Opening>(&self.paths.opening).ok();
        let copy = Copy::of(&self.paths.store)?;
        let last_key = self.last_key.unwrap_or(self.first_key + UNSEALED_KEYS_MAX);
        let keys = self.first_key..=last_key;
        let before_sled = salvage::files(&copy.path);
        let (mut values, store_error) = match from_store(&copy.path, &keys) {
            Ok(values) => (values, None),
            Err(error) => (BTreeMap::new(), Some(error.to_string())),
        };
        let before = values.len();
        if self.last_key.is_none() || (values.len() as u64) <= last_key - self.first_key {
            for file in &before_sled {
                for (key, value) in salvage::values(file, &keys) {
                    values.entry(key).or_insert(value);
                }
            }
        }
        let salvaged = (values.len() - before) as u64;
        let mut contents = assemble(&values, self.first_key, self.last_key);
        contents.buffer_id = opening.map(|opening| opening.buffer_id);
        contents.salvaged = salvaged;
        contents.store_error = store_error;
        Ok(contents)
    }

    /// Waits until no other process replays the segment. The lock lasts as long as the returned file.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn lock(&self) -> Result<fs::File, WalError> {
        let locked = fs::File::open(&self.folder).and_then(|folder| {
            rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
            Ok(folder)
        });
        locked.map_err(|error| WalError::io("lock", &self.folder, error))
    }

    /// The note of an earlier replay.
    #[must_use]
    pub fn replayed(&self) -> Option<ReplayNote> {
        files::read(&self.folder.join(REPLAYED_FILE)).ok()
    }

    /// Marks the segment as replayed: health no longer reports it.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn note_replayed(&self, note: ReplayNote) -> Result<(), WalError> {
        files::write(&self.folder.join(REPLAYED_FILE), &note)
    }
}
