//! The server's programs as child processes.
//!
//! [`command`] prepares one: its user, its descriptors, and a signal if the parent dies. [`Keeper`] is the thread that
//! starts the server, watches it, and ends it. [`ClusterLock`] lasts as long as any process of the server.
//!
//! Linux signals a child when the *thread* that started it dies, not the process. So the server is started by a thread
//! that does nothing else and lives until the server has ended. Threads of the async runtime's pool end when they are
//! idle, which would shut the server down without a visible reason.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::error::EmbeddedError;
use super::server_log::ServerLog;
use super::user::OsAccount;
use super::{DATABASE, USER};

/// Time between two checks that the server still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// The same while waiting for the server's end.
const STOP_POLL: Duration = Duration::from_millis(5);
/// Checks of the server between two checks of the server log's size.
const LOOKS_PER_LOG_CHECK: u32 = 300;
/// Time limit of a fast shutdown (it writes a checkpoint) before an immediate one.
const FAST_DEADLINE: Duration = Duration::from_secs(30);
/// Time limit of an immediate shutdown before the server is killed. Neither loses a committed transaction.
const QUIT_DEADLINE: Duration = Duration::from_secs(5);

/// The name of an inherited folder's descriptor in a started program.
pub(super) fn inherited_name(dir: &File, path: &Path) -> std::path::PathBuf {
    if cfg!(target_os = "linux") { format!("/proc/self/fd/{}", dir.as_raw_fd()).into() } else { path.to_owned() }
}

/// A server program that runs as `account`, inherits `descriptors` under their present numbers, and is interrupted when
/// the thread that starts it ends.
pub(super) fn command(program: &Path, account: Option<OsAccount>, descriptors: &[BorrowedFd<'_>]) -> Command {
    let mut command = Command::new(program);
    // An environment of its own: ours may have secrets, PG* variables, and a locale that the server would adopt.
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
    for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(OsAccount { uid, gid }) = account {
        // As root, `uid` also gives up the supplementary groups.
        command.uid(uid).gid(gid);
    }
    // Ctrl-C in a terminal signals the whole foreground group, and the server must not end before the daemon.
    command.process_group(0);
    let descriptors: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe functions are allowed.
    // It makes system calls (fcntl, prctl, getppid) that neither allocate nor lock, and reads memory that was allocated before.
    unsafe {
        command.pre_exec(move || before_exec(&descriptors, parent));
    }
    command
}

/// Runs in the child, after it has changed its user (which would reset the signal).
fn before_exec(descriptors: &[RawFd], parent: Pid) -> io::Result<()> {
    for fd in descriptors {
        // SAFETY: the descriptors are open: the child has a copy of the parent's table, and the parent's values are
        // borrowed by the caller of `command`, who keeps them until the program has been started.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(Signal::INT))?;
        // The parent may have died before the signal was requested.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(Errno::SRCH.raw_os_error()));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    Ok(())
}

/// The lock that marks the cluster's owner, while held.
///
/// `flock` belongs to the open file, and a process inherits open files: passed to the server, the lock lasts as long as
/// any process of the server. So its holder knows that no process works on the cluster, and that a remaining
/// `postmaster.pid` is stale. That matters in containers, where process ids start from the same low numbers each time.
/// The server would take any process with the old number for its predecessor.
#[derive(Debug)]
pub(super) struct ClusterLock(File);

impl ClusterLock {
    /// Takes the lock, or returns `None` if another process has it.
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

/// The parts that the server needs while it runs.
pub(super) struct Server {
    /// The command, from [`command`].
    pub(super) command: Command,
    /// The cluster's folder, inherited by the server.
    pub(super) dir: File,
    /// The cluster's lock, inherited by the server.
    pub(super) lock: ClusterLock,
    /// The target of its standard error.
    pub(super) log: ServerLog,
}

/// A running server, and the thread that keeps it.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
    ended: Arc<OnceLock<ExitStatus>>,
}

impl Keeper {
    /// Starts the server on a thread of its own. It does not wait until the server accepts connections.
    pub(super) fn start(mut server: Server) -> io::Result<Self> {
        let log = server.log.open()?;
        server.command.stdout(log.try_clone()?).stderr(log);
        let (stop, stopped) = mpsc::channel();
        let (started, outcome) = mpsc::channel();
        let ended = Arc::new(OnceLock::new());
        let ended_in_thread = Arc::clone(&ended);
        let thread = thread::Builder::new().name("tallyd-postgres".into()).spawn(move || {
            match server.command.spawn() {
                Ok(mut child) => {
                    // The receiver below waits for this message.
                    let _ = started.send(Ok(()));
                    let status = keep(&mut child, &stopped, &server.log);
                    drop((server.lock, server.dir));
                    let _ = ended_in_thread.set(status);
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        outcome.recv().map_err(|_| io::Error::other("the thread that starts PostgreSQL has panicked"))??;
        Ok(Self { stop, thread, ended })
    }

    /// The server's exit status, once it has ended.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        self.ended.get().copied()
    }

    /// Shuts the server down and waits for its end, at most [`FAST_DEADLINE`] and [`QUIT_DEADLINE`]. Blocks the thread.
    pub(super) fn stop(self) {
        // If the send fails, or the thread has panicked, the server has ended.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Watches the server until it ends, or until a message from `stopped` (or its drop) requests the end.
fn keep(child: &mut Child, stopped: &mpsc::Receiver<()>, log: &ServerLog) -> ExitStatus {
    let mut looks = 0u32;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(WATCH_INTERVAL) {
        if let Some(status) = wait_until(child, Instant::now()) {
            tracing::error!(%status, log = %log.path.display(), "the private PostgreSQL has ended by itself");
            return status;
        }
        looks += 1;
        if looks.is_multiple_of(LOOKS_PER_LOG_CHECK) {
            log.keep_bounded();
        }
    }
    for (signal, deadline) in
        [(Signal::INT, FAST_DEADLINE), (Signal::QUIT, QUIT_DEADLINE), (Signal::KILL, QUIT_DEADLINE)]
    {
        // The child was not waited for, so the number is still its own; if it has just ended, the signal has no effect.
        let _ = kill_process(Pid::from_child(child), signal);
        if let Some(status) = wait_until(child, Instant::now() + deadline) {
            return status;
        }
        tracing::warn!(?signal, seconds = deadline.as_secs(), "the private PostgreSQL did not stop in time");
    }
    // Killed and still there: it hangs in the kernel, on a dead disk. Nothing more can be done.
    ExitStatus::from_raw(Signal::KILL.as_raw())
}

fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() >= deadline => return None,
            Ok(None) => thread::sleep(STOP_POLL),
            // Other code in this process has waited for every child: the child is gone, and so is its status.
            Err(_) => return Some(ExitStatus::from_raw(0)),
        }
    }
}

/// Borrows the descriptors that a server program inherits.
pub(super) fn inherit<'a>(dir: &'a File, lock: &'a ClusterLock) -> [BorrowedFd<'a>; 2] {
    [dir.as_fd(), lock.as_fd()]
}

/// One attempt to connect, over a Unix socket.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

fn config(host: &Path, database: &str) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host_path(host).user(USER).dbname(database).application_name("tallyd start");
    config
}

/// The result of an attempt to connect.
pub(super) enum Reach {
    /// The server accepts sessions. (All of them may be in use.)
    Up,
    /// The server accepts sessions, and does not have the database yet.
    NoDatabase,
    /// No answer, or one that says that it is starting up or shutting down.
    Down,
}

/// Tries to open a session with the server in `host`.
pub(super) async fn probe(host: &Path) -> Reach {
    match timeout(PROBE_DEADLINE, config(host, DATABASE).connect(NoTls)).await {
        Ok(Ok(_session)) => Reach::Up,
        Ok(Err(error)) => match error.code() {
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => Reach::NoDatabase,
            Some(code) if code.code().starts_with("57") => Reach::Down,
            Some(_) => Reach::Up,
            None => Reach::Down,
        },
        Err(_elapsed) => Reach::Down,
    }
}

/// Makes the database in a new cluster.
pub(super) async fn create_database(host: &Path) -> Result<(), EmbeddedError> {
    let (client, driver) = config(host, "postgres").connect(NoTls).await.map_err(EmbeddedError::CreateDatabase)?;
    let driver = tokio::spawn(driver);
    let made = client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await;
    drop(client);
    // The driver ends because its client was dropped. The client reports any error.
    let _ = driver.await;
    made.map_err(EmbeddedError::CreateDatabase)
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
