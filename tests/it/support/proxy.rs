//! A Unix socket between the daemon and PostgreSQL that breaks the connection at chosen messages.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// The end of a batch on the wire: a simple query.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// The beginning of a batch's rows.
const COPY: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The server's socket, by its default port.
const SOCKET: &str = ".s.PGSQL.5432";

/// A proxy that runs until it is dropped.
pub struct Proxy {
    folder: tempfile::TempDir,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    streams: Mutex<Vec<UnixStream>>,
    commits_to_lose: AtomicU32,
    commits_lost: AtomicU32,
    copies_to_swallow: AtomicU32,
    copies_swallowed: AtomicU32,
    ended: AtomicBool,
}

impl Proxy {
    /// A proxy to the server whose socket is in `upstream`.
    pub fn to(upstream: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("tallyd-it-").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let (state, upstream) = (Arc::new(State::default()), upstream.join(SOCKET));
        let proxy = Self { folder, state: Arc::clone(&state) };
        thread::spawn(move || accept(&listener, &upstream, &state));
        proxy
    }

    /// The folder of its socket.
    pub fn sockets(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for stream in self.state.streams.lock().unwrap().drain(..) {
            // The connection may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets the next `count` COMMITs through, and cuts their connections instead of passing the server's reply on.
    pub fn lose_commits(&self, count: u32) {
        self.state.commits_to_lose.fetch_add(count, Ordering::SeqCst);
    }

    /// Swallows the next `count` COPYs from their first rows on: their connections stay open, and nothing answers.
    pub fn swallow_copies(&self, count: u32) {
        self.state.copies_to_swallow.fetch_add(count, Ordering::SeqCst);
    }

    /// The number of swallowed COPYs.
    pub fn copies_swallowed(&self) -> u32 {
        self.state.copies_swallowed.load(Ordering::SeqCst)
    }

    /// The number of lost replies to a COMMIT.
    pub fn commits_lost(&self) -> u32 {
        self.state.commits_lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the accept call, which then sees the flag.
        let _ = UnixStream::connect(self.folder.path().join(SOCKET));
    }
}

fn accept(listener: &UnixListener, upstream: &Path, state: &Arc<State>) {
    while let Ok((client, _)) = listener.accept() {
        if state.ended.load(Ordering::SeqCst) {
            return;
        }
        // If the server is down, the client's connection closes.
        let Ok(server) = UnixStream::connect(upstream) else { continue };
        let clone = |stream: &UnixStream| stream.try_clone().unwrap();
        state.streams.lock().unwrap().extend([clone(&client), clone(&server)]);
        let losing = Arc::new(AtomicBool::new(false));
        let (to_server, to_client) = ((clone(&client), clone(&server)), (server, client));
        let (up, down) = (Arc::clone(state), Arc::clone(state));
        let lost = Arc::clone(&losing);
        let mut swallowing = false;
        thread::spawn(move || {
            pump(to_server, |bytes| {
                notice_commit(bytes, &up, &losing);
                swallowing = swallowing || notice_copy(bytes, &up);
                if swallowing { Pass::Swallow } else { Pass::On }
            });
        });
        thread::spawn(move || {
            pump(to_client, |_| {
                let lose = lost.load(Ordering::SeqCst);
                down.commits_lost.fetch_add(u32::from(lose), Ordering::SeqCst);
                if lose { Pass::End } else { Pass::On }
            });
        });
    }
}

/// Marks a connection that has a COMMIT on its way, if its reply is to be lost.
fn notice_commit(bytes: &[u8], state: &State, losing: &AtomicBool) {
    if bytes.windows(COMMIT.len()).any(|window| window == COMMIT) {
        let take = |left: u32| left.checked_sub(1);
        if state.commits_to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            losing.store(true, Ordering::SeqCst);
        }
    }
}

/// True if these bytes begin a COPY that is to be swallowed.
fn notice_copy(bytes: &[u8], state: &State) -> bool {
    let take = |left: u32| left.checked_sub(1);
    let swallows = bytes.windows(COPY.len()).any(|window| window == COPY)
        && state.copies_to_swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
    state.copies_swallowed.fetch_add(u32::from(swallows), Ordering::SeqCst);
    swallows
}

/// How the pump treats bytes that it has read.
enum Pass {
    On,
    /// Drops them, and keeps the connection open.
    Swallow,
    /// Drops them, and closes the connection.
    End,
}

/// Passes bytes on as `pass` decides, then ends both connections.
fn pump((mut from, mut to): (UnixStream, UnixStream), mut pass: impl FnMut(&[u8]) -> Pass) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        match pass(&buffer[..read]) {
            Pass::Swallow => {}
            Pass::On if to.write_all(&buffer[..read]).is_ok() => {}
            Pass::On | Pass::End => break,
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
