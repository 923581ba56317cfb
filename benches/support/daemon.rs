//! The release daemon on a data folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tallyd_client::{Endpoint, HelloOptions, Record, Session};

use super::{Calls, Cluster};

/// The most frames under way.
const WINDOW: usize = 32;
/// Records of one frame.
const FRAME_RECORDS: usize = 2_000;

pub struct Daemon {
    program: PathBuf,
    child: Child,
    pub folder: tempfile::TempDir,
}

impl Daemon {
    /// The program that was built with the benchmarks.
    pub fn program() -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_tallyd"))
    }

    /// Starts on an empty folder, connected to the database.
    pub fn start(cluster: &Cluster, program: &Path) -> Self {
        Self::start_with(cluster, program, &[])
    }

    /// As [`Self::start`], with environment variables.
    pub fn start_with(cluster: &Cluster, program: &Path, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("tallyd-bench").tempdir().expect("a folder");
        let child = spawn(Some(cluster), program, folder.path(), settings);
        let daemon = Self { program: program.to_owned(), child, folder };
        daemon.wait(|status| status["database"]["connected"] == true);
        daemon
    }

    /// Starts on an empty folder, with a private PostgreSQL.
    pub fn start_private(program: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("tallyd-bench").tempdir().expect("a folder");
        let child = spawn(None, program, folder.path(), &[]);
        let daemon = Self { program: program.to_owned(), child, folder };
        daemon.wait(|status| status["database"]["connected"] == true);
        daemon
    }

    /// SIGKILL, and a new start on the same folder; returns without waiting.
    pub fn kill_and_start_again(&mut self, cluster: &Cluster) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("the daemon's end");
        self.begin(Some(cluster));
    }

    /// Starts on the same folder after [`Self::end`], on a private PostgreSQL if `cluster` is none. Returns without
    /// waiting.
    pub fn begin(&mut self, cluster: Option<&Cluster>) {
        self.child = spawn(cluster, &self.program, self.folder.path(), &[]);
    }

    /// SIGTERM, and a clean end. The folder stays.
    pub fn end(&mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().expect("the daemon's end").success());
    }

    /// Connects as soon as the daemon accepts connections, sends a record, and waits for its acknowledgement.
    pub fn accept_one(&self, calls: &mut Calls) {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut session = loop {
            match Session::connect(&self.endpoint(), HelloOptions::new("after")) {
                Ok(session) => break session,
                Err(error) => assert!(Instant::now() < deadline, "the daemon did not start: {error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let record: Vec<Record> = calls.take(1).collect();
        session.send(session.last_seq() + 1, &record).expect("a frame");
        assert!(session.recv_ack().expect("an ack").rejected.is_empty());
    }

    /// Waits until the database answers, has its schema, and is loaded into.
    pub fn wait_loading(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let deadline = Instant::now() + Duration::from_secs(120);
        let is_loading = async || {
            let answer = tallyd::socket::get(self.folder.path(), "/healthz").await.unwrap_or_default();
            serde_json::from_slice::<serde_json::Value>(&answer).is_ok_and(|health| health["flusher"]["status"] == "ok")
        };
        while !runtime.block_on(is_loading()) {
            assert!(Instant::now() < deadline, "the daemon did not get there: {:#}", self.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::unix(self.folder.path().join("tallyd.sock"))
    }

    pub fn status(&self) -> serde_json::Value {
        let output = Command::new(Self::program())
            .args(["status", "--json"])
            .env("TALLYD_DATA_DIR", self.folder.path())
            .stderr(Stdio::null())
            .output()
            .expect("tallyd status");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until this many records are committed. Reads the daemon's counter from within this process: a command each
    /// time would take a good part of a core from both sides' PostgreSQL.
    pub fn wait_committed(&self, records: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let deadline = Instant::now() + Duration::from_secs(900);
        while runtime.block_on(self.committed()) < records {
            assert!(Instant::now() < deadline, "the daemon did not get there: {:#}", self.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    async fn committed(&self) -> usize {
        self.read_metric("tallyd_records_committed_total").await.map_or(0, |count| count as usize)
    }

    /// A metric without labels; None until it is there.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(self.read_metric(name))
    }

    async fn read_metric(&self, name: &str) -> Option<f64> {
        let answer = tallyd::socket::get(self.folder.path(), "/metrics").await.expect("the daemon's metrics");
        let text = String::from_utf8_lossy(&answer);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.trim().parse().expect("a number"))
    }

    pub fn wait(&self, done: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(300);
        while !done(&self.status()) {
            assert!(Instant::now() < deadline, "the daemon did not get there: {:#}", self.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// User and system time of the daemon so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the daemon's stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        // Linux counts in hundredths of a second.
        ticks as f64 / 100.0
    }

    /// Resident memory at its peak, MiB.
    pub fn peak_mib(&self) -> f64 {
        self.memory_mib("VmHWM:")
    }

    /// Resident memory now, MiB.
    pub fn resident_mib(&self) -> f64 {
        self.memory_mib("VmRSS:")
    }

    fn memory_mib(&self, field: &str) -> f64 {
        memory_mib(self.child.id(), field).expect("the daemon's memory")
    }

    /// Stops it with SIGSTOP: the process is there, but answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// SIGTERM, and a clean end.
    pub fn stop(mut self) {
        self.end();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A benchmark that fails must not leave a daemon behind; after `stop` both find no process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of a process's `/proc/PID/status`, MiB; none once the process has ended.
pub fn memory_mib(pid: u32, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// Sends this many records a second through one connection, for a number of seconds, or fewer if the daemon does not
/// take them as fast. Returns the number of records.
pub fn send_at(daemon: &Daemon, calls: &mut Calls, rate: usize, seconds: usize) -> usize {
    let mut session = Session::connect(&daemon.endpoint(), HelloOptions::new("bench")).expect("the daemon is there");
    let (mut under_way, mut sent, first) = (0, 0, session.last_seq() + 1);
    let start = Instant::now();
    let end = Duration::from_secs(seconds as u64);
    while start.elapsed() < end {
        let due = Duration::from_secs_f64(sent as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        let frame: Vec<Record> = calls.take(FRAME_RECORDS.min(rate)).collect();
        session.send(first + sent as u64, &frame).expect("a frame");
        sent += frame.len();
        under_way += 1;
        if under_way == WINDOW {
            assert!(session.recv_ack().expect("an ack").rejected.is_empty());
            under_way -= 1;
        }
    }
    for _ in 0..under_way {
        assert!(session.recv_ack().expect("an ack").rejected.is_empty());
    }
    sent
}

/// Sends all records through one connection, with a window of frames under way.
pub fn send_all(daemon: &Daemon, records: &[Record]) {
    let mut session = Session::connect(&daemon.endpoint(), HelloOptions::new("bench")).expect("the daemon is there");
    let mut under_way = 0;
    let mut seq = session.last_seq() + 1;
    for frame in records.chunks(FRAME_RECORDS) {
        session.send(seq, frame).expect("a frame");
        seq += frame.len() as u64;
        under_way += 1;
        if under_way == WINDOW {
            assert!(session.recv_ack().expect("an ack").rejected.is_empty());
            under_way -= 1;
        }
    }
    for _ in 0..under_way {
        assert!(session.recv_ack().expect("an ack").rejected.is_empty());
    }
}

fn spawn(cluster: Option<&Cluster>, program: &Path, folder: &Path, settings: &[(&str, &str)]) -> Child {
    Command::new(program)
        .envs(cluster.map(|cluster| ("TALLYD_DATABASE_URL", cluster.url())))
        .env("TALLYD_DATA_DIR", folder)
        .env("TALLYD_HTTP_LISTEN", "127.0.0.1:0")
        .env("TALLYD_LOG", std::env::var("TALLYD_LOG").unwrap_or_else(|_| "error".into()))
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .spawn()
        .expect("the daemon")
}
