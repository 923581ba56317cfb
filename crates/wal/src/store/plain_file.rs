//! A store for tests of the WAL: one file of frames, key, length, CRC32C and value, and the same in memory.
//!
//! Nothing is synced: these tests at most kill the process, and values written by [`Store::flush`] survive that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::Store;
use crate::WalError;

pub(super) struct PlainFile {
    file: File,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    values: BTreeMap<u64, Vec<u8>>,
    unwritten: Vec<u8>,
}

/// Key, length, checksum.
const FRAME_HEAD_BYTES: usize = 8 + 4 + 4;

impl PlainFile {
    pub(super) fn create(folder: &Path) -> Result<Self, WalError> {
        fs::create_dir_all(folder).map_err(|error| WalError::io("create", folder, error))?;
        let path = folder.join("frames");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|error| WalError::io("create", &path, error))?;
        Ok(Self { file, path, state: Mutex::default() })
    }

    pub(super) fn reopen(folder: &Path) -> Result<Self, WalError> {
        let path = folder.join("frames");
        let mut file = File::open(&path).map_err(|error| WalError::io("open", &path, error))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| WalError::io("read", &path, error))?;
        let mut state = State::default();
        let mut rest = &bytes[..];
        while let Some((key, value, later)) = frame(rest) {
            state.values.insert(key, value.to_vec());
            rest = later;
        }
        Ok(Self { file, path, state: Mutex::new(state) })
    }
}

/// The first frame, and the rest. None at the end, and for a torn frame.
fn frame(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>()?;
    let key = u64::from_le_bytes(head[..8].try_into().ok()?);
    let length = u32::from_le_bytes(head[8..12].try_into().ok()?);
    let (value, later) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    (crc32c::crc32c(value).to_le_bytes() == head[12..]).then_some((key, value, later))
}

impl Store for PlainFile {
    fn insert(&self, key: u64, value: &[u8]) -> Result<(), WalError> {
        let mut state = self.state.lock().unwrap();
        state.unwritten.extend(key.to_le_bytes());
        state.unwritten.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        state.unwritten.extend(crc32c::crc32c(value).to_le_bytes());
        state.unwritten.extend(value);
        state.values.insert(key, value.to_vec());
        Ok(())
    }

    fn flush(&self) -> Result<(), WalError> {
        let unwritten = std::mem::take(&mut self.state.lock().unwrap().unwritten);
        (&self.file).write_all(&unwritten).map_err(|error| WalError::io("write", &self.path, error))
    }

    fn sync_data(&self) -> Result<(), WalError> {
        Ok(())
    }

    fn check_durable(&self) -> Result<(), WalError> {
        Ok(())
    }

    fn get(&self, key: u64) -> Result<Option<Vec<u8>>, WalError> {
        Ok(self.state.lock().unwrap().values.get(&key).cloned())
    }

    fn last_key(&self) -> Result<Option<u64>, WalError> {
        Ok(self.state.lock().unwrap().values.keys().next_back().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_is_there_up_to_a_torn_frame() {
        let folder = tempfile::tempdir().unwrap();
        let store = PlainFile::create(folder.path()).unwrap();
        for key in 1..=3 {
            store.insert(key, &[key as u8; 20]).unwrap();
            store.flush().unwrap();
        }
        store.insert(4, b"not flushed").unwrap();
        let reopened = PlainFile::reopen(folder.path()).unwrap();
        assert_eq!(reopened.last_key().unwrap(), Some(3));
        assert_eq!(reopened.get(2).unwrap(), Some(vec![2; 20]));
        let torn = fs::metadata(&store.path).unwrap().len() - 1;
        File::options().write(true).open(&store.path).unwrap().set_len(torn).unwrap();
        assert_eq!(PlainFile::reopen(folder.path()).unwrap().last_key().unwrap(), Some(2));
    }
}
