//! The daemon's local socket, and its client.
//!
//! A socket's path may have 107 bytes, and a data folder's may have more. In that case the socket is bound and reached
//! through the folder's descriptor, `/proc/self/fd/N/control.sock`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "control.sock";
/// The longest path of a socket, bytes (Linux).
const PATH_BYTES_MAX: usize = 107;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No daemon listens in this data folder.
    #[error("no daemon is running on the data folder {0}; start one with `tallyd serve`")]
    NotRunning(PathBuf),
    /// The folder, and why the daemon's answer could not be used.
    #[error("the daemon on {0} did not answer: {1}")]
    Broken(PathBuf, String),
}

/// A path that is short enough, and the open folder that it leads through, if it does.
fn short_path(data_dir: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = data_dir.join(NAME);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok((path, None));
    }
    let folder = File::open(data_dir)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd())), Some(folder)))
}

/// Binds the socket, for the daemon's own user only. The caller holds the data folder's lock.
///
/// # Errors
/// The system's.
pub fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let (path, _folder) = short_path(data_dir)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// True if a daemon listens in this data folder.
#[must_use]
pub fn is_answered(data_dir: &Path) -> bool {
    short_path(data_dir).is_ok_and(|(path, _folder)| std::os::unix::net::UnixStream::connect(path).is_ok())
}

/// Sends a GET to the running daemon. Returns the answer's body.
///
/// # Errors
/// [`AskError`].
pub async fn get(data_dir: &Path, route: &str) -> Result<Bytes, AskError> {
    let not_running = || AskError::NotRunning(data_dir.to_owned());
    let (path, _folder) = short_path(data_dir).map_err(|_| not_running())?;
    let stream = UnixStream::connect(&path).await.map_err(|_| not_running())?;
    let broken = |error: hyper::Error| AskError::Broken(data_dir.to_owned(), error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driving = tokio::spawn(connection);
    let request = hyper::Request::get(route).header("host", "tallyd").body(Empty::<Bytes>::new());
    // The routes are constants, with names of dimensions that are checked.
    let request = request.expect("such a route is a URI");
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
    driving.abort();
    if status.is_success() {
        return Ok(body);
    }
    Err(AskError::Broken(data_dir.to_owned(), format!("{status}: {}", String::from_utf8_lossy(&body))))
}
