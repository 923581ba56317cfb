//! sled 0.34.7 as a store, and its peculiarities.
//!
//! A store is opened without the parts of sled that the WAL does not need: no background flush (the writer syncs), no
//! compression, a small cache. Every call runs inside `catch_unwind`, because sled panics on some kinds of damage, and
//! if the system refuses a write or a sync. The crate's header lists the limits in which sled keeps the WAL's promise.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Store;
use crate::{WalError, files};
use tallyd_base::threads;

/// An open sled store.
pub(super) struct SledStore {
    /// None during the drop.
    db: Option<sled::Db>,
    file: File,
    path: PathBuf,
    /// True for a store that existed before, which is only read.
    is_reopened: bool,
}

/// Time limit for another handle of the same store to release its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// A process that cannot allocate this has too little memory to distinguish a damaged store.
const PLENTY_BYTES: usize = 64 << 20;

impl SledStore {
    /// Creates a store, and makes its existence durable.
    pub(super) fn create(path: &Path) -> Result<Self, WalError> {
        let store = Self::open_once(path, false)?;
        store.flush()?;
        store.sync_data()?;
        for name in ["conf", "db"] {
            let file = path.join(name);
            let opened = File::open(&file).map_err(|error| WalError::io("open", &file, error))?;
            opened.sync_all().map_err(|error| WalError::io("sync", &file, error))?;
        }
        files::sync_folder(path)?;
        files::sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        Ok(store)
    }

    /// Opens an existing store, which is only read from now on.
    pub(super) fn reopen(path: &Path) -> Result<Self, WalError> {
        remove_unfinished_snapshots(path)?;
        let start = Instant::now();
        loop {
            match Self::open_once(path, true) {
                Err(WalError::Store { source, .. }) if is_locked(&source) && start.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    fn open_once(path: &Path, is_reopened: bool) -> Result<Self, WalError> {
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
        Ok(Self { db: Some(db), file, path: path.to_owned(), is_reopened })
    }

    /// The lowest key that is not below this one.
    fn from(&self, key: u64) -> Result<Option<u64>, WalError> {
        let found = guarded("read", &self.path, || self.db().range(key.to_be_bytes()..).next().transpose())?;
        Ok(found.and_then(|(key, _)| key.as_ref().try_into().ok().map(u64::from_be_bytes)))
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it is taken when the store is dropped, and by nobody else")
    }
}

impl Store for SledStore {
    fn insert(&self, key: u64, value: &[u8]) -> Result<(), WalError> {
        guarded("append", &self.path, || self.db().insert(key.to_be_bytes(), value)).map(drop)
    }

    fn flush(&self) -> Result<(), WalError> {
        guarded("flush", &self.path, || self.db().flush()).map(drop)
    }

    fn sync_data(&self) -> Result<(), WalError> {
        self.file.sync_data().map_err(|error| WalError::io("sync", &self.path, error))
    }

    /// Fails if sled has written a blob file.
    fn check_durable(&self) -> Result<(), WalError> {
        let blobs = fs::read_dir(self.path.join("blobs")).is_ok_and(|mut entries| entries.next().is_some());
        if blobs { Err(WalError::Blob { path: self.path.display().to_string() }) } else { Ok(()) }
    }

    fn get(&self, key: u64) -> Result<Option<Vec<u8>>, WalError> {
        match guarded("read", &self.path, || self.db().get(key.to_be_bytes())) {
            Err(error) if !error.is_the_systems() => Ok(None),
            found => Ok(found?.map(|value| value.to_vec())),
        }
    }

    /// Searches between the bounds of a key. sled's `last()` would put a key of 1 MiB into the program, as the end of all keys.
    ///
    /// A part of the store that cannot be read has keys, too. It is an error if no readable key is above it.
    fn last_key(&self) -> Result<Option<u64>, WalError> {
        let (mut last, mut low, mut high) = (self.from(0), 0, u64::MAX);
        if matches!(last, Ok(None)) {
            return last;
        }
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.from(middle) {
                Ok(None) => high = middle - 1,
                found => {
                    low = found.as_ref().ok().copied().flatten().unwrap_or(middle);
                    last = found;
                }
            }
        }
        last
    }
}

impl Drop for SledStore {
    /// sled syncs its file once more, and panics if the system refuses that: the message names the file. A store that
    /// was only read cannot lose anything.
    fn drop(&mut self) {
        let db = self.db.take();
        let closed = guarded("close", &self.path, || {
            drop(db);
            Ok(())
        });
        match closed {
            Err(error) if self.is_reopened => {
                tracing::warn!(%error, "a store that was only read was not closed properly");
            }
            Err(error) if std::thread::panicking() => tracing::error!(%error, "another failure comes first"),
            Err(error) => panic!("{error}"),
            Ok(()) => {}
        }
    }
}

/// Converts sled's errors and panics.
fn guarded<T>(action: &'static str, path: &Path, ask: impl FnOnce() -> sled::Result<T>) -> Result<T, WalError> {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(answer) => answer.map_err(|error| reported(action, path, error)),
        Err(panic) => Err(panicked(action, path, panic.as_ref())),
    }
}

/// sled's error with its text. The kind tells whether the system or the bytes are the cause
/// ([`WalError::is_the_systems`]).
fn reported(action: &'static str, path: &Path, error: sled::Error) -> WalError {
    let kind = match &error {
        sled::Error::Io(error) => error.kind(),
        _ => io::ErrorKind::InvalidData,
    };
    WalError::Store { action, path: path.display().to_string(), source: io::Error::new(kind, error) }
}

/// The cause of sled's panic. It panics on damage, and if the system refuses memory or a thread.
fn panicked(action: &'static str, path: &Path, panic: &(dyn std::any::Any + Send)) -> WalError {
    let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    // sled's message for lack of memory depends on the place.
    let is_starved = Vec::<u8>::new().try_reserve_exact(PLENTY_BYTES).is_err();
    if is_starved || ["allocate", "os error", "Os {"].iter().any(|sign| said.contains(sign)) {
        return WalError::io(action, path, io::Error::other(said));
    }
    let reason = format!("sled panicked when it was to {action} the store: {said}");
    WalError::Foreign { path: path.display().to_string(), reason }
}

/// A snapshot that was being written when the process died prevents sled from opening the store.
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

/// sled wraps the lock's error in one of its own, so only the text identifies it.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

/// Replaces or removes a value without the WAL's knowledge.
#[cfg(test)]
pub(crate) fn alter(path: &Path, key: u64, value: Option<&[u8]>) {
    let db = sled::open(path).unwrap();
    match value {
        Some(value) => drop(db.insert(key.to_be_bytes(), value).unwrap()),
        None => drop(db.remove(key.to_be_bytes()).unwrap().unwrap()),
    }
    db.flush().unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_unfinished_snapshot_does_not_keep_the_store_shut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = SledStore::create(&path).unwrap();
        store.insert(1, b"x").unwrap();
        store.flush().unwrap();
        drop(store);
        fs::write(path.join("snap.0000000000000001.generating"), b"torn").unwrap();
        let store = SledStore::reopen(&path).unwrap();
        assert_eq!(store.get(1).unwrap().as_deref(), Some(&b"x"[..]));
        assert_eq!(store.last_key().unwrap(), Some(1));
    }

    #[test]
    fn a_reopen_waits_for_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = SledStore::create(&path).unwrap();
        let (opening, opened) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || {
                opening.send(()).unwrap();
                SledStore::reopen(&path).map(drop)
            }
        });
        opened.recv().unwrap();
        drop(store);
        second.join().unwrap().unwrap();
    }

    #[test]
    fn full_leaves_of_the_largest_values_make_no_blob() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::create(&folder.path().join("store")).unwrap();
        for key in 0..200 {
            store.insert(key, &vec![key as u8; crate::value::VALUE_BYTES_MAX]).unwrap();
        }
        store.flush().unwrap();
        store.check_durable().unwrap();
    }
}
