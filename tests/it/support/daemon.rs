//! The daemon under test: the real program as a child process, on a data folder of its own.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tallyd_client::{Endpoint, HelloOptions, Session, SessionError};

use super::{PATIENCE, bound_to_us, secret, signal, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tallyd");

/// A data folder, settings, and the daemon while it runs.
pub struct Daemon {
    home: tempfile::TempDir,
    data: PathBuf,
    settings: Vec<(String, String)>,
    program: PathBuf,
    /// Words before the program, such as `strace …`.
    wrapper: Vec<String>,
    child: Option<Child>,
}

impl Daemon {
    /// A daemon that is not started yet, on a new data folder. It retries quickly, so that tests are fast.
    pub fn on(url: &str) -> Self {
        Self::embedded().with("TALLYD_DATABASE_URL", url)
    }

    /// Like [`Daemon::on`], with a PostgreSQL of its own.
    pub fn embedded() -> Self {
        let home = tempfile::Builder::new().prefix("tallyd-it-").tempdir().unwrap();
        let data = home.path().join("data");
        Self {
            home,
            data: data.clone(),
            settings: Vec::new(),
            program: PROGRAM.into(),
            wrapper: Vec::new(),
            child: None,
        }
        .with_data(&data)
        .with("TALLYD_HTTP_LISTEN", "127.0.0.1:0")
        .with("TALLYD_OTLP_GRPC_LISTEN", "127.0.0.1:0")
        .with("TALLYD_FLUSHER_FLUSH_INTERVAL_MS", "20")
        .with("TALLYD_FLUSHER_RETRY_MIN_MS", "10")
        .with("TALLYD_FLUSHER_RETRY_MAX_MS", "100")
        .with("TALLYD_LOG", "info,tallyd=debug")
    }

    /// Moves the data folder.
    pub fn with_data(mut self, folder: &Path) -> Self {
        self.data = folder.to_owned();
        self.with("TALLYD_DATA_DIR", &folder.display().to_string())
    }

    /// Uses another build of the program.
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Puts words before the program from the next start on. They must end by executing the program.
    pub fn wrap(&mut self, words: Vec<String>) {
        self.wrapper = words;
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Resets a setting to its default, from the next start on.
    pub fn unset(&mut self, name: &str) {
        self.settings.retain(|(known, _)| known != name);
    }

    /// Changes a setting, from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.into(), value.into()));
    }

    /// Starts it for the first time, and waits until it accepts records.
    pub fn start(mut self) -> Self {
        self.up();
        self
    }

    /// Starts it, and waits until it accepts records.
    pub fn up(&mut self) {
        self.up_with(&["serve"]);
    }

    /// Like [`Daemon::up`], with other arguments.
    pub fn up_with(&mut self, arguments: &[&str]) {
        self.spawn_with(arguments);
        self.until_accepting();
    }

    /// Starts it without waiting, for a daemon that may be about to die.
    pub fn spawn(&mut self) {
        self.spawn_with(&["serve"]);
    }

    fn spawn_with(&mut self, arguments: &[&str]) {
        assert!(self.child.is_none(), "the daemon runs already");
        let log = fs::File::options().append(true).create(true).open(self.log_path()).unwrap();
        let mut command = match self.wrapper.split_first() {
            None => bound_to_us(&self.program),
            Some((first, rest)) => {
                let mut command = bound_to_us(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        command.args(arguments);
        let child = self.environment(command).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.unwrap());
    }

    pub fn until_accepting(&mut self) {
        self.until_status("it accepts records", |status| status["health"]["ingest"]["status"] == "ok");
    }

    /// Its exit status, if it has ended.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut().expect("the daemon was started").try_wait().unwrap();
        if ended.is_some() {
            self.child = None;
        }
        ended
    }

    /// A command of the program, with the daemon's settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment(Command::new(PROGRAM));
        command.args(arguments);
        command
    }

    /// Runs a command of the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Gives a command the daemon's settings and home, and little else of the environment.
    pub fn environment(&self, mut command: Command) -> Command {
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TMPDIR"));
        command.envs(self.settings.iter().cloned()).current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    pub fn kill(&mut self) {
        self.note_memory();
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM. Returns the exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.note_memory();
        signal(self.pid(), Signal::TERM);
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        until("the daemon ends", || child.try_wait().unwrap().ok_or_else(|| "it runs".into()))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.data().join("tallyd.sock")
    }

    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// A connection to its socket whose reads fail after [`PATIENCE`].
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A session of the client library that asks for costs.
    pub fn session(&self, producer: &str) -> Session {
        self.try_session(producer).unwrap()
    }

    /// Like [`Daemon::session`], or the daemon's refusal.
    pub fn try_session(&self, producer: &str) -> Result<Session, SessionError> {
        let (want_costs, read_timeout, secret) = (true, Some(PATIENCE), secret(producer));
        let options = HelloOptions { want_costs, read_timeout, secret, ..HelloOptions::new(producer) };
        Session::connect(&Endpoint::unix(self.socket()), options)
    }

    /// Sends lines, and returns the answers.
    pub fn lines(&self, text: &str) -> Vec<Value> {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }

    /// Its status, as `tallyd status --json` prints it, if a daemon answers.
    pub fn status(&self) -> Option<Value> {
        serde_json::from_str(self.ask("/status").ok()?.split_once("\r\n\r\n")?.1).ok()
    }

    /// Its metrics in Prometheus's format.
    pub fn metrics(&self) -> String {
        self.ask("/metrics").unwrap()
    }

    /// Uses the control socket, which is faster than a process of `tallyd status`.
    fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.data.join("control.sock"))?;
        // A frozen daemon does not answer.
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: tallyd\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Waits for a status.
    #[track_caller]
    pub fn until_status(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the daemon has ended: {ended:?}");
            self.note_memory();
            match self.status() {
                Some(status) if holds(&status) => Ok(status),
                other => Err(format!("{other:#?}")),
            }
        })
    }

    /// Asserts by `tallyd reconcile` that every rollup equals the call log.
    #[track_caller]
    pub fn assert_reconciled(&self) -> Value {
        let output = self.run(&["reconcile", "--json"]);
        let found: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("reconcile: {}", String::from_utf8_lossy(&output.stderr)));
        assert!(output.status.success() && found["equal"] == true, "{found:#}");
        found
    }

    /// Its resident memory in bytes: now, and its peak.
    pub fn resident_bytes(&self) -> (u64, u64) {
        resident_bytes(self.pid()).expect("the daemon runs")
    }

    /// Keeps the peak of its memory for [`peak_resident_bytes`].
    fn note_memory(&self) {
        let most = self.child.as_ref().and_then(|child| resident_bytes(child.id()));
        PEAK.set(PEAK.get().max(most.map_or(0, |(_, most)| most)));
    }

    /// The daemon log, over all starts.
    pub fn log(&self) -> String {
        let mut log = String::new();
        // There is none before the first start.
        let _ = fs::File::open(self.log_path()).and_then(|mut file| file.read_to_string(&mut log));
        log
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }
}

thread_local! {
    static PEAK: Cell<u64> = const { Cell::new(0) };
}

/// The peak of resident memory over the daemons of this thread, each taken when it ended or was asked last.
pub fn peak_resident_bytes() -> u64 {
    PEAK.get()
}

/// A process's resident memory in bytes, now and at its peak. None if it has ended.
fn resident_bytes(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(100);
            eprintln!("--- the daemon's log ends with:");
            log.lines().skip(from).for_each(|line| eprintln!("{line}"));
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
