//! The lock that says who runs the cluster.
//!
//! `flock` belongs to the open file, and a process inherits open files: handed to the server, the lock lasts as long as
//! any process of the server does. So whoever gets it knows that no process works on the cluster, and that a
//! `postmaster.pid` that is still there is stale. That matters: in a container process ids start from the same low
//! numbers each time, and the server would take any process that happens to have the old number for its predecessor.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::EmbeddedError;

/// The lock, held. It is free again once this, and every process that inherited the descriptor, is gone.
#[derive(Debug)]
pub(super) struct ClusterLock(File);

impl ClusterLock {
    /// Takes the lock, or returns `None` if somebody has it.
    pub(super) fn try_take(path: &Path) -> Result<Option<Self>, EmbeddedError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(EmbeddedError::io("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(EmbeddedError::io("lock", path)(error.into())),
        }
    }
}

impl AsFd for ClusterLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = ClusterLock::try_take(&path).unwrap().expect("it is free");
        assert!(ClusterLock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(ClusterLock::try_take(&path).unwrap().is_some());
    }
}
