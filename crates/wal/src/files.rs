//! Small files that are replaced atomically: a line of checksum and JSON, renamed into place, synced with their folder.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::WalError;

/// Writes `content` to `path`. After a crash the file is either the old one or the new one, complete.
///
/// # Errors
/// [`WalError::Io`].
pub fn write(path: &Path, content: &impl Serialize) -> Result<(), WalError> {
    // The types written here are plain structs of numbers, texts and lists.
    let json = serde_json::to_string(content).expect("metadata serializes");
    let line = format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
    write_bytes(path, line.as_bytes())
}

/// Writes bytes that carry a checksum of their own, in the same way.
///
/// # Errors
/// [`WalError::Io`].
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), WalError> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(|error| WalError::io("create", &temporary, error))?;
    file.write_all(bytes).map_err(|error| WalError::io("write", &temporary, error))?;
    file.sync_all().map_err(|error| WalError::io("sync", &temporary, error))?;
    fs::rename(&temporary, path).map_err(|error| WalError::io("rename", &temporary, error))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Reads a file that [`write`] wrote.
///
/// # Errors
/// [`WalError::Io`] if it cannot be read, [`WalError::Foreign`] if it is incomplete.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, WalError> {
    let text = fs::read_to_string(path).map_err(|error| WalError::io("read", path, error))?;
    parse(&text).map_err(|reason| WalError::Foreign { path: path.display().to_string(), reason })
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let (crc, json) = text.trim_end().split_once(' ').ok_or("it has no checksum")?;
    let stored = u32::from_str_radix(crc, 16).map_err(|_| "its checksum is not a number")?;
    if stored != crc32c::crc32c(json.as_bytes()) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Makes the folder's entries durable.
///
/// # Errors
/// [`WalError::Io`].
pub(crate) fn sync_folder(path: &Path) -> Result<(), WalError> {
    let folder = File::open(path).map_err(|error| WalError::io("open", path, error))?;
    folder.sync_all().map_err(|error| WalError::io("sync", path, error))
}

/// A folder for tests that do not depend on durability: in memory if the system has such a folder, because syncs take
/// most of such a test's time.
#[cfg(test)]
pub(crate) fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_or_altered_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.open");
        write(&path, &vec![1, 2, 300]).unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), [1, 2, 300]);
        let text = fs::read_to_string(&path).unwrap();
        for broken in [&text[..text.len() - 3], &text.replace("300", "301"), ""] {
            fs::write(&path, broken).unwrap();
            assert!(matches!(read::<Vec<u32>>(&path), Err(WalError::Foreign { .. })), "{broken}");
        }
    }
}
