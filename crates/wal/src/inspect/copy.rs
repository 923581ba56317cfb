//! A copy of a store, which is opened instead of the store.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::store::Engine;
use crate::{WalError, value};

/// A copy of a store in a folder of its own, which is deleted with this value.
pub(super) struct Copy {
    /// The copy's folder.
    pub path: PathBuf,
}

impl Copy {
    /// Copies a store's files.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub(super) fn of(store: &Path) -> Result<Self, WalError> {
        let name = format!("tallyd-inspect-{}-{:016x}", std::process::id(), rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        // Other users may not read the records.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| WalError::io("create", &path, error))?;
        let copy = Self { path };
        copy_files(store, &copy.path)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Remaining files are in the system's temporary folder.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<(), WalError> {
    let entries = fs::read_dir(from).map_err(|error| WalError::io("read", from, error))?;
    for entry in entries {
        let path = entry.map_err(|error| WalError::io("read", from, error))?.path();
        let Some(target) = path.file_name().map(|name| to.join(name)) else { continue };
        if path.is_file() {
            match fs::copy(&path, &target) {
                // sled replaces its snapshots.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => drop(other.map_err(|error| WalError::io("copy", &path, error))?),
            }
        }
    }
    Ok(())
}

/// All values that sled finds and whose checksum is right.
pub(crate) fn from_store(path: &Path, keys: &RangeInclusive<u64>) -> Result<BTreeMap<u64, Vec<u8>>, WalError> {
    let store = Engine::Sled.reopen(path)?;
    let mut values = BTreeMap::new();
    let Some(last) = store.last_key()? else { return Ok(values) };
    for key in *keys.start()..=last.min(*keys.end()) {
        // An unreadable page does not affect the others.
        let Ok(Some(value)) = store.get(key) else { continue };
        if value::decode(key, &value).is_ok() {
            values.insert(key, value.to_vec());
        }
    }
    Ok(values)
}
