//! The server's log file: its standard error, bounded.
//!
//! The server appends to an inherited descriptor, so the file is never renamed: its content is copied to
//! `postgres.log.1`, and the file is emptied. Lines written in between are lost; the file does not have calls.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes from which on the file is rotated. There are at most two files.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of the file's end that an error message quotes.
const TAIL_BYTES: u64 = 1500;

/// The server's log file of a cluster.
#[derive(Debug, Clone)]
pub(super) struct ServerLog {
    pub(super) path: PathBuf,
}

impl ServerLog {
    /// Opens it for a server that is about to start. Only its owner can read it, because it may quote statements.
    pub(super) fn open(&self) -> io::Result<File> {
        self.rotate(MAX_BYTES)?;
        File::options().create(true).append(true).mode(0o600).open(&self.path)
    }

    /// Rotates the file if it is too large, while the server runs. After a failure (a full disk) the file is unchanged,
    /// and the next call tries again.
    pub(super) fn keep_bounded(&self) {
        if let Err(error) = self.rotate(MAX_BYTES) {
            tracing::debug!(path = %self.path.display(), %error, "the PostgreSQL log could not be rotated");
        }
    }

    fn rotate(&self, max_bytes: u64) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(meta) if meta.len() > max_bytes => {
                fs::copy(&self.path, self.path.with_extension("log.1"))?;
                File::options().write(true).open(&self.path)?.set_len(0)
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The last lines, for an error message.
    pub(super) fn tail(&self) -> String {
        tail(&self.path).unwrap_or_else(|error| format!("(unreadable: {error})"))
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_writer_that_holds_the_file_goes_on_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let log = ServerLog { path: dir.path().join("postgres.log") };
        let mut writer = log.open().unwrap();
        writer.write_all(b"first\n").unwrap();
        log.rotate(6).unwrap();
        assert_eq!(log.tail(), "first", "at the bound it is left alone");
        log.rotate(5).unwrap();
        writer.write_all(b"second\n").unwrap();
        assert_eq!(log.tail(), "second");
        assert_eq!(fs::read_to_string(dir.path().join("postgres.log.1")).unwrap(), "first\n");
    }
}
