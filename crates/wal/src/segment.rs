//! One segment: a sled store, and the two small files that say what must be in it.
//!
//! The store is opened with everything of sled's own housekeeping off that the log does not need: no background flush
//! (the writer syncs), no compression, a small cache. Every call runs inside `catch_unwind`, because sled panics on some
//! kinds of damage and where the system refuses a write or a sync.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sled::IVec;
use uuid::Uuid;

use super::producers::Snapshot;
use super::{WalError, files};
use tallyd_base::threads;

/// What a segment's `.open` file says, from its creation on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The log that the segment belongs to.
    pub buffer_id: Uuid,
    /// The key of its first value.
    pub first_key: u64,
    /// Lanes that share its chunks.
    pub lanes: u16,
    /// Every producer's mark at the segment's beginning.
    pub producers: Vec<Snapshot>,
}

/// What a segment's `.sealed` file says, once nothing more is written to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The key of its last value.
    pub last_key: u64,
    /// Calls and refused records in it.
    pub records: u64,
    /// Bytes of its values.
    pub value_bytes: u64,
    /// CRC32C over its values' checksums, in order.
    pub checksum: u32,
    /// Each lane's last key in it, 0 for none.
    pub lane_last_keys: Vec<u64>,
    /// True if values are missing that had been synced.
    pub damaged: bool,
}

/// Where a segment's files are.
#[derive(Debug, Clone)]
pub struct SegmentPaths {
    /// The sled store.
    pub store: PathBuf,
    /// [`Opening`].
    pub opening: PathBuf,
    /// [`Seal`].
    pub seal: PathBuf,
}

impl SegmentPaths {
    /// The paths of the segment that begins with `first_key`.
    #[must_use]
    pub fn new(folder: &Path, first_key: u64) -> Self {
        let name = format!("{first_key:020}");
        Self {
            store: folder.join(&name),
            opening: folder.join(format!("{name}.open")),
            seal: folder.join(format!("{name}.sealed")),
        }
    }

    /// The log's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.store.parent().unwrap_or(Path::new("."))
    }

    /// Deletes the segment. Its store is renamed first, so that a half-deleted segment is not taken for a damaged one.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn delete(&self) -> Result<(), WalError> {
        let doomed = self.doomed();
        if self.store.exists() {
            fs::rename(&self.store, &doomed).map_err(|error| WalError::io("rename", &self.store, error))?;
            tallyd_base::failpoint::hit("wal.deleting");
        }
        for file in [&self.seal, &self.opening].into_iter().filter(|file| file.exists()) {
            fs::remove_file(file).map_err(|error| WalError::io("delete", file, error))?;
        }
        if doomed.exists() {
            fs::remove_dir_all(&doomed).map_err(|error| WalError::io("delete", &doomed, error))?;
        }
        Ok(())
    }

    /// True if a deletion was begun and not finished.
    #[must_use]
    pub fn is_half_deleted(&self) -> bool {
        self.doomed().exists()
    }

    fn doomed(&self) -> PathBuf {
        self.store.with_extension("deleting")
    }

    /// Moves the segment into `damaged/`, whole. Nothing is deleted.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn set_aside(&self, now_us: i64) -> Result<PathBuf, WalError> {
        let folder = self.folder().join("damaged");
        let name = self.store.file_name().unwrap_or_default().to_string_lossy();
        let target = folder.join(format!("{name}-{now_us}"));
        fs::create_dir_all(&target).map_err(|error| WalError::io("create", &target, error))?;
        for path in [&self.store, &self.seal, &self.opening] {
            if let Some(name) = path.file_name().filter(|_| path.exists()) {
                fs::rename(path, target.join(name)).map_err(|error| WalError::io("move", path, error))?;
            }
        }
        files::sync_folder(&target)?;
        Ok(target)
    }
}

/// An open sled store.
pub struct Store {
    /// None while it is dropped.
    db: Option<sled::Db>,
    file: File,
    path: PathBuf,
}

/// How long another handle of the same store may take to let go of its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

impl Store {
    /// Creates a store, and makes its existence durable.
    ///
    /// # Errors
    /// [`WalError`].
    pub fn create(path: &Path) -> Result<Self, WalError> {
        let store = Self::open_once(path)?;
        store.sync()?;
        for name in ["conf", "db"] {
            let file = path.join(name);
            let opened = File::open(&file).map_err(|error| WalError::io("open", &file, error))?;
            opened.sync_all().map_err(|error| WalError::io("sync", &file, error))?;
        }
        files::sync_folder(path)?;
        files::sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        Ok(store)
    }

    /// Opens a store that exists. It is only read from now on.
    ///
    /// # Errors
    /// [`WalError`], also where sled panics.
    pub fn reopen(path: &Path) -> Result<Self, WalError> {
        remove_unfinished_snapshots(path)?;
        let start = Instant::now();
        loop {
            match Self::open_once(path) {
                Err(WalError::Store { source: sled::Error::Io(error), .. })
                    if is_locked(&error) && start.elapsed() < LOCK_PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    fn open_once(path: &Path) -> Result<Self, WalError> {
        threads::assure(0).map_err(|error| WalError::io("open", path, error))?;
        let config = sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None)
            .use_compression(false)
            .cache_capacity(8 * 1024 * 1024);
        let db = guarded("open", path, || config.open())?;
        let data = path.join("db");
        let file = File::open(&data).map_err(|error| WalError::io("open", &data, error))?;
        Ok(Self { db: Some(db), file, path: path.to_owned() })
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it is taken when the store is dropped, and by nobody else")
    }

    /// Puts a value in memory and in sled's buffer.
    ///
    /// # Errors
    /// [`WalError::Store`].
    pub fn insert(&self, key: u64, value: &[u8]) -> Result<(), WalError> {
        guarded("append", &self.path, || self.db().insert(key.to_be_bytes(), value)).map(drop)
    }

    /// Hands everything to the operating system: it survives this process.
    ///
    /// # Errors
    /// [`WalError::Store`].
    pub fn flush(&self) -> Result<(), WalError> {
        guarded("flush", &self.path, || self.db().flush()).map(drop)
    }

    /// Makes what has been flushed durable: it survives this machine.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn sync_data(&self) -> Result<(), WalError> {
        self.file.sync_data().map_err(|error| WalError::io("sync", &self.path, error))
    }

    /// [`Store::flush`] and [`Store::sync_data`].
    ///
    /// # Errors
    /// [`WalError`].
    pub fn sync(&self) -> Result<(), WalError> {
        self.flush()?;
        self.sync_data()
    }

    /// Fails if sled has written a blob file.
    ///
    /// # Errors
    /// [`WalError::Blob`].
    pub fn check_blobs(&self) -> Result<(), WalError> {
        let blobs = fs::read_dir(self.path.join("blobs")).is_ok_and(|mut entries| entries.next().is_some());
        if blobs { Err(WalError::Blob { path: self.path.display().to_string() }) } else { Ok(()) }
    }

    /// The value under `key`, unchecked. None also where sled cannot make sense of its page: it is missing then.
    ///
    /// # Errors
    /// [`WalError`] if the operating system refuses.
    pub fn get(&self, key: u64) -> Result<Option<IVec>, WalError> {
        match guarded("read", &self.path, || self.db().get(key.to_be_bytes())) {
            Err(error) if !error.is_the_systems() => Ok(None),
            found => found,
        }
    }

    /// The highest key in the store.
    ///
    /// # Errors
    /// [`WalError::Store`].
    pub fn last_key(&self) -> Result<Option<u64>, WalError> {
        let last = guarded("read", &self.path, || self.db().last())?;
        Ok(last.and_then(|(key, _)| key.as_ref().try_into().ok().map(u64::from_be_bytes)))
    }
}

impl Drop for Store {
    /// sled syncs its file once more, and panics where the system refuses that: whoever hears of it is told the file.
    fn drop(&mut self) {
        let db = self.db.take();
        let closed = guarded("close", &self.path, || {
            drop(db);
            Ok(())
        });
        match closed {
            Err(error) if std::thread::panicking() => tracing::error!(%error, "another failure comes first"),
            Err(error) => panic!("{error}"),
            Ok(()) => {}
        }
    }
}

/// What sled says, and what it panics with.
fn guarded<T>(action: &'static str, path: &Path, ask: impl FnOnce() -> sled::Result<T>) -> Result<T, WalError> {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(answer) => answer.map_err(|error| WalError::store(action, path, error)),
        Err(panic) => Err(WalError::panicked(action, path, panic.as_ref())),
    }
}

/// A snapshot that was being written when the process died keeps sled from opening the store.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), WalError> {
    let entries = fs::read_dir(path).map_err(|error| WalError::io("read", path, error))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let file = entry.path();
            fs::remove_file(&file).map_err(|error| WalError::io("delete", &file, error))?;
        }
    }
    Ok(())
}

/// sled wraps the lock's error in one of its own, so only the text tells.
fn is_locked(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_unfinished_snapshot_does_not_keep_the_store_shut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::create(&path).unwrap();
        store.insert(1, b"x").unwrap();
        store.sync().unwrap();
        drop(store);
        fs::write(path.join("snap.0000000000000001.generating"), b"torn").unwrap();
        let store = Store::reopen(&path).unwrap();
        assert_eq!(store.get(1).unwrap().as_deref(), Some(&b"x"[..]));
        assert_eq!(store.last_key().unwrap(), Some(1));
    }

    #[test]
    fn a_reopen_waits_for_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::create(&path).unwrap();
        let (opening, opened) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || {
                opening.send(()).unwrap();
                Store::reopen(&path).map(drop)
            }
        });
        opened.recv().unwrap();
        drop(store);
        second.join().unwrap().unwrap();
    }

    #[test]
    fn full_leaves_of_the_largest_values_make_no_blob() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("store")).unwrap();
        for key in 0..200 {
            store.insert(key, &vec![key as u8; super::super::value::VALUE_BYTES_MAX]).unwrap();
        }
        store.sync().unwrap();
        store.check_blobs().unwrap();
    }
}
