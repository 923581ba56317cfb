//! The data folder's lock: one process at a time. A second one gets the holder's name.
//!
//! The lock is the operating system's (`flock`), so it ends with the process, even after a kill. The file's text names
//! the holder, for people.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Holds the folder until it is dropped.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process holds the folder.
    #[error(
        "the data folder {folder} is in use by {holder}; stop that process, or give this one another TALLYD_DATA_DIR"
    )]
    Held {
        folder: PathBuf,
        /// The holder as the file names it.
        holder: String,
    },
    /// The folder or the file cannot be used.
    #[error("cannot use the data folder {folder}: {source}")]
    Io {
        folder: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl DataLock {
    /// Takes the folder, and creates it if need be. `what` is the holder's name for a second taker.
    ///
    /// # Errors
    /// [`LockError`].
    pub(crate) fn take(folder: &Path, what: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { folder: folder.to_owned(), source };
        // The folder has records, with users' ids, so only its owner may read it. An existing folder keeps its
        // permissions.
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let path = folder.join("tallyd.lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without the text the message is only less helpful.
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another process".into() } else { holder.trim().into() };
                return Err(LockError::Held { folder: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{what} (process {})", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Whether the process that wrote the lock's file runs: a daemon that may not have bound its socket yet. The lock
/// itself is not tried, because a daemon that starts at this moment would find it taken.
#[must_use]
pub(crate) fn holder_runs(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join("tallyd.lock")).unwrap_or_default();
    let pid = text.trim_end().strip_suffix(')').and_then(|text| text.rsplit_once("(process "));
    let pid = pid.and_then(|(_, pid)| Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 0)?));
    // In a new container this process may have the number of the daemon in the last one.
    let pid = pid.filter(|pid| *pid != rustix::process::getpid());
    // A process of another account cannot be signalled, but it runs.
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(Errno::SRCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataLock::take(folder.path(), "tallyd serve").unwrap();
        let error = DataLock::take(folder.path(), "tallyd serve").unwrap_err().to_string();
        assert!(error.contains(&format!("tallyd serve (process {})", std::process::id())), "{error}");
        drop(first);
        DataLock::take(folder.path(), "tallyd serve").unwrap();
    }

    #[test]
    fn a_holder_runs_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(folder.path().join("tallyd.lock"), text).unwrap();
        assert!(!holder_runs(folder.path()));
        let mut gone = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let named = format!("tallyd serve (process {})\n", gone.id());
        write(&named);
        assert!(holder_runs(folder.path()));
        gone.kill().unwrap();
        gone.wait().unwrap();
        let own = format!("tallyd serve (process {})", std::process::id());
        for text in [&*named, &*own, "", "tallyd serve (process -1)", "(process )"] {
            write(text);
            assert!(!holder_runs(folder.path()), "{text:?}");
        }
    }
}
