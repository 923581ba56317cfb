//! The mark: a file of eight bytes with the highest synced key of the WAL.
//!
//! It is written after each sync, without a sync of its own. So it is never too high, survives a killed process, and
//! after a power cut is at most some seconds old. If recovery finds less than the mark claims, there is damage, above
//! all a sled store that opened empty.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::WalError;

/// The open mark file.
pub struct Mark {
    file: File,
    path: std::path::PathBuf,
}

const BYTES: usize = 12;

impl Mark {
    /// Opens or creates the mark, and returns its key, 0 if it is new.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn open(path: &Path) -> Result<(Self, u64), WalError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| WalError::io("open", path, error))?;
        let mut bytes = [0; BYTES];
        let key = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => parse(&bytes).unwrap_or(0),
            Err(_) => 0,
        };
        Ok((Self { file, path: path.to_owned() }, key))
    }

    /// Stores that everything up to `key` is synced.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn set(&self, key: u64) -> Result<(), WalError> {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&key.to_be_bytes());
        bytes[8..].copy_from_slice(&crc32c::crc32c(&key.to_be_bytes()).to_be_bytes());
        self.file.write_all_at(&bytes, 0).map_err(|error| WalError::io("write", &self.path, error))
    }
}

/// A torn mark counts as 0.
fn parse(bytes: &[u8; BYTES]) -> Option<u64> {
    let (key, crc) = bytes.split_first_chunk::<8>()?;
    (crc32c::crc32c(key).to_be_bytes() == crc).then(|| u64::from_be_bytes(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_survives_and_a_torn_one_claims_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synced");
        let (mark, key) = Mark::open(&path).unwrap();
        assert_eq!(key, 0);
        mark.set(77).unwrap();
        assert_eq!(Mark::open(&path).unwrap().1, 77);
        std::fs::write(&path, [0, 0, 0, 0, 0, 0, 0, 78, 1, 2, 3, 4]).unwrap();
        assert_eq!(Mark::open(&path).unwrap().1, 0);
    }
}
