//! A segment's store: values by key, appended by one thread and read by many.
//!
//! [`Store`] is the whole interface. The engine is sled, and all code that depends on sled is in this folder: its
//! calls, its errors and panics ([`sled`]), and its file, for values that sled no longer finds ([`salvage`]). Tests of
//! the WAL have a second engine, one file of frames ([`plain_file`]).

#[cfg(test)]
mod plain_file;
pub(crate) mod salvage;
mod sled;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use self::sled::SledStore;
#[cfg(test)]
pub(crate) use self::sled::alter;
use super::WalError;

/// An open store. Dropping it closes it; a failed close panics.
pub(crate) trait Store: Send + Sync {
    /// Adds a value in memory.
    fn insert(&self, key: u64, value: &[u8]) -> Result<(), WalError>;

    /// Passes all values to the operating system: they survive this process.
    fn flush(&self) -> Result<(), WalError>;

    /// Makes flushed values durable: they survive this machine.
    fn sync_data(&self) -> Result<(), WalError>;

    /// Fails if the store has files that [`Store::sync_data`] does not make durable.
    fn check_durable(&self) -> Result<(), WalError>;

    /// The value under `key`, unchecked. None also if the engine cannot read the value's place: the value then counts
    /// as missing.
    ///
    /// # Errors
    /// [`WalError`] if the operating system refuses.
    fn get(&self, key: u64) -> Result<Option<Vec<u8>>, WalError>;

    /// The highest key in the store.
    fn last_key(&self) -> Result<Option<u64>, WalError>;
}

/// The options of new stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// sled 0.34.7.
    Sled,
    /// One file of frames, not synced.
    #[cfg(test)]
    PlainFile,
}

impl Engine {
    /// Creates a store in this folder, and makes its existence durable.
    pub(crate) fn create(self, path: &Path) -> Result<Arc<dyn Store>, WalError> {
        Ok(match self {
            Self::Sled => Arc::new(SledStore::create(path)?),
            #[cfg(test)]
            Self::PlainFile => Arc::new(plain_file::PlainFile::create(path)?),
        })
    }

    /// Opens an existing store, which is only read from now on.
    pub(crate) fn reopen(self, path: &Path) -> Result<Arc<dyn Store>, WalError> {
        Ok(match self {
            Self::Sled => Arc::new(SledStore::reopen(path)?),
            #[cfg(test)]
            Self::PlainFile => Arc::new(plain_file::PlainFile::reopen(path)?),
        })
    }

    /// Opens the store, reads, and closes it. sled writes and syncs at the close, and panics if that fails.
    pub(crate) fn read<T>(
        self,
        path: &Path,
        read: impl FnOnce(&dyn Store) -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        let store = self.reopen(path)?;
        let seen = read(&*store);
        let closed = catch_unwind(AssertUnwindSafe(|| drop(store)));
        closed.map_err(|_| WalError::io("close", path, std::io::Error::other("sled could not write or sync it")))?;
        seen
    }
}
