//! One segment: a store, and the two small files that list its contents.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::producers::ProducerState;
use super::{WalError, files};

/// The content of a segment's `.open` file, written at its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// The WAL that the segment belongs to.
    pub buffer_id: Uuid,
    /// The key of its first value.
    pub first_key: u64,
    /// Lanes that share its chunks.
    pub lanes: u16,
    /// Every producer's mark at the segment's beginning.
    pub producers: Vec<ProducerState>,
}

/// The content of a segment's `.sealed` file, written at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
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
    /// True if synced values are missing.
    pub damaged: bool,
}

/// Paths of a segment's files.
#[derive(Debug, Clone)]
pub(crate) struct SegmentPaths {
    /// The store's folder.
    pub store: PathBuf,
    /// [`Opening`].
    pub opening: PathBuf,
    /// [`Seal`].
    pub seal: PathBuf,
}

impl SegmentPaths {
    /// The paths of the segment that begins with `first_key`.
    #[must_use]
    pub(crate) fn new(folder: &Path, first_key: u64) -> Self {
        let name = format!("{first_key:020}");
        Self {
            store: folder.join(&name),
            opening: folder.join(format!("{name}.open")),
            seal: folder.join(format!("{name}.sealed")),
        }
    }

    /// The WAL's folder.
    #[must_use]
    pub(crate) fn folder(&self) -> &Path {
        self.store.parent().unwrap_or(Path::new("."))
    }

    /// Deletes the segment. Its store is renamed first, so that a half-deleted segment does not count as damaged.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub(crate) fn delete(&self) -> Result<(), WalError> {
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

    /// True if a deletion was interrupted.
    #[must_use]
    pub(crate) fn is_half_deleted(&self) -> bool {
        self.doomed().exists()
    }

    fn doomed(&self) -> PathBuf {
        self.store.with_extension("deleting")
    }

    /// Moves the complete segment into `damaged/`. Nothing is deleted.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub(crate) fn set_aside(&self, now_us: i64) -> Result<PathBuf, WalError> {
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
