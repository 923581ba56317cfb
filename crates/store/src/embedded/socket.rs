//! The folder by which clients reach the cluster's Unix socket.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::EmbeddedError;

/// The socket's name in its folder. Its port 5432 is only a part of the name.
const SOCKET: &str = ".s.PGSQL.5432";
/// Largest length of a socket's path in bytes, without the final NUL (104 is the shortest field in use, on macOS).
const MAX_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The folder's name for clients, and the descriptor that the name may depend on.
#[derive(Debug)]
pub(super) struct SocketDir {
    /// The value of `host` for clients.
    pub(super) host: PathBuf,
    _held: Option<File>,
}

impl SocketDir {
    /// Finds a name for `cluster` that fits into a socket's address.
    pub(super) fn of(cluster: &Path) -> Result<Self, EmbeddedError> {
        let name = cluster.as_os_str().as_bytes();
        // A comma would end the host's name for clients.
        if name.len() + 1 + SOCKET.len() <= MAX_BYTES && !name.contains(&b',') {
            return Ok(Self { host: cluster.to_owned(), _held: None });
        }
        if !cfg!(target_os = "linux") {
            return Err(EmbeddedError::LongPath { path: cluster.to_owned(), max: MAX_BYTES });
        }
        let held = File::open(cluster).map_err(EmbeddedError::io("open", cluster))?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&held);
        // With this process' id, not `self`: `psql` is another process.
        let host = PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()));
        Ok(Self { host, _held: Some(held) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_fits_is_used_as_it_is() {
        let longest = PathBuf::from(format!("/{}", "x".repeat(MAX_BYTES - SOCKET.len() - 2)));
        assert_eq!(SocketDir::of(&longest).unwrap().host, longest);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_long_path_and_one_with_a_comma_go_through_a_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a,b".to_owned(), "x".repeat(MAX_BYTES)] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("proof"), "here").unwrap();
            let socket_dir = SocketDir::of(&path).unwrap();
            assert!(socket_dir.host.as_os_str().len() < 40);
            assert_eq!(std::fs::read_to_string(socket_dir.host.join("proof")).unwrap(), "here");
        }
    }
}
