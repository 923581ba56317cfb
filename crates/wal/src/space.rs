//! The WAL's bounds: its own bytes, and the free space of its disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::WalError;

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceBounds {
    /// Largest number of bytes of values.
    pub max_bytes: u64,
    /// Bytes that must stay free on the disk.
    pub min_free_bytes: u64,
}

/// The bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The WAL has reached its own bound.
    Bytes,
    /// The disk has too few free bytes.
    Disk,
}

/// Checks the bounds. It reads the disk's free space, a system call, only after a number of bytes or some time. The
/// time is needed because other programs may fill the disk.
pub struct Space {
    folder: PathBuf,
    bounds: SpaceBounds,
    asked_at: Option<(u64, Instant)>,
}

const ASK_EVERY_BYTES: u64 = 1024 * 1024;
const ASK_EVERY: Duration = Duration::from_millis(100);

impl Space {
    /// Checks the disk of `folder`.
    #[must_use]
    pub fn new(folder: &Path, bounds: SpaceBounds) -> Self {
        Self { folder: folder.to_owned(), bounds, asked_at: None }
    }

    /// Returns the bound that is reached, if any, given the present bytes of the WAL.
    ///
    /// # Errors
    /// [`WalError::Io`] if the free space cannot be read.
    pub fn check(&mut self, value_bytes: u64) -> Result<Option<Full>, WalError> {
        if value_bytes >= self.bounds.max_bytes {
            return Ok(Some(Full::Bytes));
        }
        let recently =
            |(bytes, at): (u64, Instant)| value_bytes.abs_diff(bytes) < ASK_EVERY_BYTES && at.elapsed() < ASK_EVERY;
        if self.asked_at.is_some_and(recently) {
            return Ok(None);
        }
        let disk = rustix::fs::statvfs(&self.folder)
            .map_err(|error| WalError::io("ask for the free space of", &self.folder, error.into()))?;
        let free = disk.f_bavail * disk.f_frsize;
        let full = free < self.bounds.min_free_bytes;
        self.asked_at = (!full).then(|| (value_bytes, Instant::now()));
        Ok(full.then_some(Full::Disk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = |max_bytes, min_free_bytes, bytes| {
            Space::new(folder.path(), SpaceBounds { max_bytes, min_free_bytes }).check(bytes).unwrap()
        };
        assert_eq!(check(100, 1, 99), None);
        assert_eq!(check(100, 1, 100), Some(Full::Bytes));
        assert_eq!(check(100, u64::MAX, 0), Some(Full::Disk));
    }
}
