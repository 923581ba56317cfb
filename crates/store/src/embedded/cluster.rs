//! The cluster itself: made once, started, reached, taken over, stopped. See the module's header.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::USER;
use super::error::EmbeddedError;
use super::process::{self, ClusterLock, Keeper, Reach, Server, create_database, probe};
use super::programs::Programs;
use super::server_log::ServerLog;
use super::socket::SocketDir;
use super::user::{self, OsAccount};

/// Time limit for another process' server to shut down, or to start.
const BUSY_DEADLINE: Duration = Duration::from_secs(60);
/// Time limit for our server's start. Crash recovery replays at most `max_wal_size`, which takes seconds.
const START_DEADLINE: Duration = Duration::from_secs(600);
/// The pause between two checks while waiting.
const POLL: Duration = Duration::from_millis(25);

/// Settings on which a promise depends: on the command line, so that a file cannot weaken them.
const FIXED: [&str; 9] = [
    "listen_addresses=",
    "port=5432",
    // Relative to the cluster's folder, because many paths are too long for a socket's address.
    "unix_socket_directories=.",
    "unix_socket_permissions=0700",
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "logging_collector=off",
    "log_destination=stderr",
];

/// Preferences: appended once to `postgresql.conf`, where the machine's administrator may change them.
const PREFERENCES: &str = "
# tallyd's preferences; change them as you like.
shared_buffers = 128MB
max_connections = 100
max_wal_size = 2GB
checkpoint_timeout = 15min
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
# Not the errors of statements: whoever sent one gets it anyway.
log_min_messages = log
";

/// A private cluster that this process runs, or uses.
#[derive(Debug)]
pub struct Embedded {
    data_dir: PathBuf,
    cluster: PathBuf,
    bin_dir: Option<PathBuf>,
    socket: SocketDir,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The server is a child of ours.
    Owned(Keeper),
    /// The server is another process'.
    Attached,
    /// It was stopped on purpose, and is not started again.
    Stopped,
}

impl Embedded {
    /// Attaches to the cluster in `data_dir` if it runs, starts it if it does not, creates it if it is missing.
    ///
    /// `bin_dir` is the folder of the server programs; without it they are looked for.
    ///
    /// # Errors
    /// [`EmbeddedError`], if any of that fails; each has a remedy.
    pub async fn open(data_dir: &Path, bin_dir: Option<&Path>) -> Result<Self, EmbeddedError> {
        let dir = data_dir.to_owned();
        blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(EmbeddedError::io("create", &dir))
        })
        .await?;
        Self::acquired(data_dir, bin_dir).await
    }

    /// The same for an existing cluster, or, if `daemon_runs`, one that the data folder's daemon is about to create. It
    /// never creates one: the folder's name may be misspelt.
    ///
    /// # Errors
    /// [`EmbeddedError::NoCluster`]; otherwise as [`Embedded::open`].
    pub async fn open_existing(
        data_dir: &Path,
        bin_dir: Option<&Path>,
        daemon_runs: fn(&Path) -> bool,
    ) -> Result<Self, EmbeddedError> {
        let deadline = Instant::now() + BUSY_DEADLINE;
        while major_of(&data_dir.join("postgres")).is_none() {
            if !daemon_runs(data_dir) || Instant::now() >= deadline {
                return Err(EmbeddedError::NoCluster { path: data_dir.to_owned() });
            }
            sleep(POLL).await;
        }
        Self::acquired(data_dir, bin_dir).await
    }

    /// Puts a cluster that was copied elsewhere into a data folder that does not have one. `fill` copies its files into
    /// the given folder. The server is not started. Waits until a server that was here has ended.
    ///
    /// # Errors
    /// [`EmbeddedError`], or that of `fill`; there is no cluster then.
    pub async fn place<E: From<EmbeddedError>>(
        data_dir: &Path,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let lock_path = data_dir.join("postgres.lock");
        let deadline = Instant::now() + BUSY_DEADLINE;
        let _lock = loop {
            if let Some(lock) = ClusterLock::try_take(&lock_path)? {
                break lock;
            }
            if Instant::now() >= deadline {
                return Err(EmbeddedError::Busy { lock: lock_path, waited: BUSY_DEADLINE }.into());
            }
            sleep(POLL).await;
        };
        let account = user::account_for(&data_dir.join("postgres"))?;
        tokio::task::block_in_place(|| {
            let half_made = begin(data_dir)?;
            fill(&half_made)?;
            if let Some(account) = account {
                user::give_all(&half_made, account).map_err(EmbeddedError::io("give away", &half_made))?;
            }
            Ok(finish(data_dir, &half_made)?)
        })
    }

    async fn acquired(data_dir: &Path, bin_dir: Option<&Path>) -> Result<Self, EmbeddedError> {
        // Clients' names for it must not depend on the working directory.
        let data_dir = fs::canonicalize(data_dir).map_err(EmbeddedError::io("find", data_dir))?;
        let cluster = data_dir.join("postgres");
        let state = acquire(&data_dir, bin_dir).await?;
        let socket = SocketDir::of(&cluster)?;
        Ok(Self { data_dir, cluster, bin_dir: bin_dir.map(Path::to_owned), socket, state: Mutex::new(state) })
    }

    /// The value of `host` for clients.
    #[must_use]
    pub fn host(&self) -> &Path {
        &self.socket.host
    }

    /// The cluster's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.cluster
    }

    /// The folder of the programs for this cluster, or `None` if they are no longer installed.
    #[must_use]
    pub fn programs(&self) -> Option<PathBuf> {
        Programs::find(self.bin_dir.as_deref(), major_of(&self.cluster)).ok().map(|programs| programs.dir)
    }

    /// True if the server is a child of this process.
    pub async fn is_owned(&self) -> bool {
        matches!(&*self.state.lock().await, State::Owned(keeper) if keeper.ended().is_none())
    }

    /// Makes sure that a server accepts connections: starts ours again if it has crashed, or takes the cluster over if
    /// its owner has ended. Returns at once if the server is up.
    ///
    /// # Errors
    /// [`EmbeddedError::Stopped`] after [`Embedded::stop`]; otherwise as [`Embedded::open`].
    pub async fn ensure(&self) -> Result<(), EmbeddedError> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Stopped => return Err(EmbeddedError::Stopped),
            // The server may be about to end; the wait ends when it accepts connections or has ended.
            State::Owned(keeper) => match wait_until_ready(&self.data_dir, keeper).await {
                Err(EmbeddedError::Exited { .. }) => {}
                outcome => return outcome,
            },
            State::Attached => {}
        }
        *state = acquire(&self.data_dir, self.bin_dir.as_deref()).await?;
        Ok(())
    }

    /// Stops the server if it is ours, and waits for its end (a fast shutdown, 35 s at most). Another process' server
    /// keeps running. In either case nothing is started again.
    pub async fn stop(&self) {
        let state = std::mem::replace(&mut *self.state.lock().await, State::Stopped);
        if let State::Owned(keeper) = state {
            blocking(move || keeper.stop()).await;
        }
    }
}

/// Runs a blocking call. A panic goes on in the caller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Attaches, or takes the lock and starts the server.
async fn acquire(data_dir: &Path, bin_dir: Option<&Path>) -> Result<State, EmbeddedError> {
    let lock_path = data_dir.join("postgres.lock");
    let cluster = data_dir.join("postgres");
    let deadline = Instant::now() + BUSY_DEADLINE;
    loop {
        if let Some(lock) = ClusterLock::try_take(&lock_path)? {
            return start(data_dir, bin_dir, lock).await.map(State::Owned);
        }
        // While its owner is still creating the cluster, it does not have a folder to name.
        if cluster.exists() && matches!(probe(&SocketDir::of(&cluster)?.host).await, Reach::Up) {
            return Ok(State::Attached);
        }
        if Instant::now() >= deadline {
            return Err(EmbeddedError::Busy { lock: lock_path, waited: BUSY_DEADLINE });
        }
        sleep(POLL).await;
    }
}

async fn start(data_dir: &Path, bin_dir: Option<&Path>, lock: ClusterLock) -> Result<Keeper, EmbeddedError> {
    let (owned_dir, owned_bin) = (data_dir.to_owned(), bin_dir.map(Path::to_owned));
    let keeper = blocking(move || launch(&owned_dir, owned_bin.as_deref(), lock)).await?;
    match wait_until_ready(data_dir, &keeper).await {
        Ok(()) => Ok(keeper),
        Err(error) => {
            blocking(move || keeper.stop()).await;
            Err(error)
        }
    }
}

/// Creates the cluster if it is missing, and starts the server. Blocks.
fn launch(data_dir: &Path, bin_dir: Option<&Path>, lock: ClusterLock) -> Result<Keeper, EmbeddedError> {
    let cluster = data_dir.join("postgres");
    let account = user::account_for(&cluster)?;
    let major = major_of(&cluster);
    let programs = Programs::find(bin_dir, major)?;
    if major.is_none() {
        make(data_dir, &programs, account, &lock)?;
    }
    let dir = File::open(&cluster).map_err(EmbeddedError::io("open", &cluster))?;
    remove_stale_pid(&cluster)?;
    let program = programs.program("postgres");
    let mut command = process::command(&program, account, &process::inherit(&dir, &lock));
    command.arg("-D").arg(process::inherited_name(&dir, &cluster));
    for setting in FIXED {
        command.arg("-c").arg(setting);
    }
    let log = ServerLog { path: data_dir.join("postgres.log") };
    Keeper::start(Server { command, dir, lock, log }).map_err(|source| EmbeddedError::Run { program, source })
}

/// The major version of a cluster, or `None` if there is no cluster.
fn major_of(cluster: &Path) -> Option<u32> {
    fs::read_to_string(cluster.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// Creates a cluster beside its final place, and moves it there once it is complete and on disk.
fn make(
    data_dir: &Path,
    programs: &Programs,
    account: Option<OsAccount>,
    lock: &ClusterLock,
) -> Result<(), EmbeddedError> {
    let half_made = begin(data_dir)?;
    let dir = File::open(&half_made).map_err(EmbeddedError::io("open", &half_made))?;
    if let Some(OsAccount { uid, gid }) = account {
        fchown(&dir, Some(uid), Some(gid)).map_err(EmbeddedError::io("give away", &half_made))?;
    }
    let program = programs.program("initdb");
    let output = process::command(&program, account, &process::inherit(&dir, lock))
        .arg("-D")
        .arg(process::inherited_name(&dir, &half_made))
        .args(["--username", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"])
        .output()
        .map_err(|source| EmbeddedError::Run { program, source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(EmbeddedError::Initdb { path: half_made, status: output.status, output: said });
    }
    let settings = half_made.join("postgresql.conf");
    File::options()
        .append(true)
        .open(&settings)
        .and_then(|mut file| file.write_all(PREFERENCES.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(EmbeddedError::io("write", &settings))?;
    finish(data_dir, &half_made)
}

/// The empty folder in which a cluster is made.
fn begin(data_dir: &Path) -> Result<PathBuf, EmbeddedError> {
    let (cluster, half_made) = (data_dir.join("postgres"), data_dir.join("postgres.new"));
    if major_of(&cluster).is_some() {
        return Err(EmbeddedError::Standing { path: cluster });
    }
    if cluster.exists() && !user::is_empty(&cluster) {
        return Err(EmbeddedError::NotACluster { path: cluster });
    }
    if half_made.exists() {
        fs::remove_dir_all(&half_made).map_err(EmbeddedError::io("remove", &half_made))?;
    }
    DirBuilder::new().mode(0o700).create(&half_made).map_err(EmbeddedError::io("create", &half_made))?;
    Ok(half_made)
}

/// Moves a complete cluster to its place.
fn finish(data_dir: &Path, half_made: &Path) -> Result<(), EmbeddedError> {
    fs::rename(half_made, data_dir.join("postgres")).map_err(EmbeddedError::io("move into place", half_made))?;
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(EmbeddedError::io("sync", data_dir))
}

/// Removes the file by which a server says that it runs. We hold the lock, so none that `tallyd` started does.
///
/// One that a person started by hand does not hold it: its working directory tells.
fn remove_stale_pid(cluster: &Path) -> Result<(), EmbeddedError> {
    let path = cluster.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let pid = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    if let Some(pid) = pid
        && fs::canonicalize(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == cluster)
    {
        return Err(EmbeddedError::Foreign { path: cluster.to_owned(), pid });
    }
    fs::remove_file(&path).map_err(EmbeddedError::io("remove", &path))
}

/// Waits until our server accepts connections, and makes the database if there is none.
async fn wait_until_ready(data_dir: &Path, keeper: &Keeper) -> Result<(), EmbeddedError> {
    let cluster = data_dir.join("postgres");
    let log = ServerLog { path: data_dir.join("postgres.log") };
    let socket = SocketDir::of(&cluster)?;
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        match probe(&socket.host).await {
            Reach::Up => return Ok(()),
            Reach::NoDatabase => return create_database(&socket.host).await,
            Reach::Down => {}
        }
        if let Some(status) = keeper.ended() {
            return Err(EmbeddedError::Exited { status: status.to_string(), tail: log.tail(), log: log.path });
        }
        if Instant::now() >= deadline {
            return Err(EmbeddedError::NotReady { path: cluster, waited: START_DEADLINE, log: log.path });
        }
        sleep(POLL).await;
    }
}
