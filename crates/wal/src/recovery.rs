//! Recovery at a start.
//!
//! A start trusts the seals of sealed segments: they are opened when a lane reaches them, and each value is checked
//! then. So a start takes the same time with and without a backlog. Only the newest used segment is scanned, and any
//! other without a seal. The scan rebuilds the producers' marks, and distinguishes an unsynced tail from damage.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use uuid::Uuid;

use super::mark::Mark;
use super::producers::Producers;
use super::scan::scan;
use super::segment::{Opening, Seal, SegmentPaths};
use super::store::{Engine, salvage};
use super::wal::{COMMITTED_FILE, DAMAGE_LEAP, Recovered};
use super::window::Keys;
use super::{WalError, files};

/// The input of recovery.
pub struct Recovery<'a> {
    /// The WAL's folder; created if missing. The caller holds the data folder's lock.
    pub folder: &'a Path,
    /// The options of new stores.
    pub engine: Engine,
    /// The identity of a new WAL.
    pub new_buffer_id: Uuid,
    /// The time, microseconds since 1970.
    pub now_us: i64,
    /// True if `sync` may lose records that a lane has loaded: keys that PostgreSQL may know are never used again.
    pub may_lose_committed: bool,
}

/// Reads the existing segments, fills `producers`, and opens the mark.
///
/// # Errors
/// [`WalError`] if the folder cannot be read or written, or has another format. Damage is not an error: damaged
/// segments are set aside, and [`Recovered::damaged`] is set.
pub fn recover(recovery: &Recovery<'_>, producers: &mut Producers) -> Result<(Recovered, Mark), WalError> {
    let folder = recovery.folder;
    // Other users may not read the records.
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|error| WalError::io("create", folder, error))?;
    let (mark, marked_key) = Mark::open(&folder.join("synced"))?;
    let first_keys = find_segments(folder)?;
    let buffer_id = identity(recovery, &first_keys)?;
    // Without this file, fewer states of the database can be recognised as outdated.
    let committed = files::read(&folder.join(COMMITTED_FILE)).unwrap_or_default();
    let mut recovered =
        Recovered { buffer_id, engine: recovery.engine, segments: Vec::new(), next_key: 1, damaged: false, committed };
    let mut unclean = false;
    // From the newest on, until a segment has the marks: one whose creation was interrupted, or that is set aside, does
    // not have them.
    let mut goal = ScanGoal { marks: true, claimed: marked_key };
    for first_key in first_keys.into_iter().rev() {
        let paths = SegmentPaths::new(folder, first_key);
        unclean |= !paths.seal.exists();
        let is_used = paths.opening.exists();
        match recover_segment(&paths, recovery.engine, buffer_id, goal, producers) {
            Ok(Some((opening, seal))) => {
                recovered.damaged |= seal.damaged;
                recovered.next_key = recovered.next_key.max(seal.last_key + 1);
                recovered.segments.push((opening, seal));
                goal = ScanGoal { marks: false, claimed: 0 };
            }
            Ok(None) => {
                paths.delete()?;
                goal.marks &= !is_used;
            }
            // A disk that fails, or is full, is not a damaged store: the store may be readable at the next start.
            Err(error) if error.is_the_systems() => return Err(error),
            Err(error) => {
                recovered.damaged = true;
                goal.claimed = 0;
                let target = paths.set_aside(recovery.now_us)?;
                tracing::error!(%error, target = %target.display(), "a damaged segment was set aside, whole");
            }
        }
    }
    recovered.segments.reverse();
    recovered.next_key = recovered.next_key.max(marked_key + 1);
    if recovered.damaged || (unclean && recovery.may_lose_committed) {
        recovered.next_key += DAMAGE_LEAP;
    }
    Ok((recovered, mark))
}

/// The WAL's identity: from its file, or else from a segment, or else a new one.
fn identity(recovery: &Recovery<'_>, first_keys: &BTreeSet<u64>) -> Result<Uuid, WalError> {
    let file = recovery.folder.join("buffer");
    if file.exists() {
        return files::read(&file);
    }
    let openings = first_keys.iter().map(|key| SegmentPaths::new(recovery.folder, *key).opening);
    let known = openings.filter_map(|opening| files::read::<Opening>(&opening).ok()).next();
    let buffer_id = known.map_or(recovery.new_buffer_id, |opening| opening.buffer_id);
    files::write(&file, &buffer_id)?;
    Ok(buffer_id)
}

/// The first keys of all segments with any file left. Half-deleted segments are deleted.
fn find_segments(folder: &Path) -> Result<BTreeSet<u64>, WalError> {
    let mut first_keys = BTreeSet::new();
    let entries = fs::read_dir(folder).map_err(|error| WalError::io("read", folder, error))?;
    for entry in entries {
        let name = entry.map_err(|error| WalError::io("read", folder, error))?.file_name();
        let name = name.to_string_lossy();
        let digits = name.split('.').next().unwrap_or_default();
        if digits.len() != 20 || name.ends_with(".new") {
            continue;
        }
        let Ok(first_key) = digits.parse() else { continue };
        let paths = SegmentPaths::new(folder, first_key);
        if paths.is_half_deleted() {
            paths.delete()?;
        } else {
            first_keys.insert(first_key);
        }
    }
    // A file may have been listed before the half-deleted store of its segment.
    first_keys.retain(|first_key| {
        let paths = SegmentPaths::new(folder, *first_key);
        paths.store.exists() || paths.opening.exists() || paths.seal.exists()
    });
    Ok(first_keys)
}

/// The open goals of the recovery.
#[derive(Clone, Copy)]
struct ScanGoal {
    /// The producers' marks.
    marks: bool,
    /// The key that a scan must find, because the mark claims it.
    claimed: u64,
}

/// None if the segment never had an acknowledged value.
fn recover_segment(
    paths: &SegmentPaths,
    engine: Engine,
    buffer_id: Uuid,
    goal: ScanGoal,
    producers: &mut Producers,
) -> Result<Option<(Opening, Seal)>, WalError> {
    if !paths.opening.exists() {
        // Its creation was interrupted: the `.open` file is written before the first value.
        let empty = !paths.seal.exists() && engine.read(&paths.store, |store| store.last_key())?.is_none();
        return if empty { Ok(None) } else { Err(foreign(paths, "its .open file is missing")) };
    }
    let opening: Opening = files::read(&paths.opening)?;
    if opening.buffer_id != buffer_id {
        return Err(foreign(paths, "it belongs to another log"));
    }
    for state in &opening.producers {
        if let Some(identity) = state.identity() {
            producers.restore(identity, state.last_seq, state.seen_us);
        }
    }
    let sealed: Option<Seal> = if paths.seal.exists() { Some(files::read(&paths.seal)?) } else { None };
    if let Some(seal) = sealed.clone().filter(|_| !goal.marks) {
        return Ok(Some((opening, seal)));
    }
    salvage::keep_original(&paths.store);
    let mut keys = Keys::default();
    let found = engine
        .read(&paths.store, |store| scan(store, &opening, sealed.as_ref(), goal.claimed, producers, &mut keys))?;
    if !found.damaged {
        salvage::forget_original(&paths.store);
    }
    if found.last_key == 0 {
        return if found.damaged { Err(foreign(paths, "synced values are gone")) } else { Ok(None) };
    }
    keys.keep(paths.folder(), opening.first_key)?;
    if sealed.as_ref() != Some(&found) {
        files::write(&paths.seal, &found)?;
    }
    Ok(Some((opening, found)))
}

fn foreign(paths: &SegmentPaths, reason: &str) -> WalError {
    WalError::Foreign { path: paths.store.display().to_string(), reason: reason.into() }
}
