//! What the benchmarks share: a private cluster, the release daemon, records, figures.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tallyd_client::{Endpoint, HelloOptions, Record, Session};

/// Frames under way before an acknowledgement is awaited.
const WINDOW: usize = 32;
/// Records of one frame.
const FRAME_RECORDS: usize = 2_000;

/// What the command line says.
pub struct Options {
    pub records: usize,
    pub rounds: usize,
    /// Distinct users: what the users' rollups cost goes by them.
    pub users: usize,
    /// Another build of the daemon, to be measured in turn with this one.
    pub against: Option<PathBuf>,
    /// PostgreSQL is stopped while the records are sent: what is measured is how fast the backlog loads.
    pub backlog: bool,
    json: Option<PathBuf>,
}

impl Options {
    pub fn from_arguments() -> Self {
        let mut options =
            Self { records: 1_000_000, rounds: 5, users: 10_000, against: None, backlog: false, json: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            if argument == "--backlog" {
                options.backlog = true;
                continue;
            }
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} takes a value"));
            match argument.as_str() {
                "--records" => options.records = value().parse().expect("a number of records"),
                "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
                "--users" => options.users = value().parse().expect("a number of users"),
                "--against" => options.against = Some(value().into()),
                "--json" => options.json = Some(value().into()),
                "--bench" => {}
                other => {
                    panic!(
                        "unknown argument {other}: there are --records, --rounds, --users, --against, --backlog and --json"
                    )
                }
            }
        }
        options
    }

    pub fn write_json(&self, tallyd: &[f64], copy: &[f64], ratios: &[f64]) {
        let Some(path) = &self.json else { return };
        let report = serde_json::json!({
            "records": self.records,
            "rounds": self.rounds,
            "users": self.users,
            "backlog": self.backlog,
            "tallyd_records_per_second": tallyd,
            "copy_rows_per_second": copy,
            "ratio_median": median(ratios),
            "ratios": ratios,
        });
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("the report's folder");
        }
        std::fs::write(path, format!("{report:#}\n")).expect("the report");
        println!("written to {}", path.display());
    }
}

pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Calls of so many users, seven in eight to Claude's models and the others to RentCast, a fifth of Claude's with cache
/// tokens: as many distinct keys in each of the users' rollups, in no order. The same ones every time.
pub fn records(count: usize, user_count: usize) -> Vec<Record> {
    const MODELS: [&str; 6] = [
        "claude-opus-4-5",
        "claude-sonnet-4-5-20250929",
        "claude-sonnet-4-5",
        "claude-haiku-4-5",
        "claude-sonnet-4-20250514",
        "claude-opus-4-1",
    ];
    let users: Vec<&'static str> =
        (0..user_count).map(|user| &*format!("0192f0c1-7a10-7000-8000-{user:012}").leak()).collect();
    let now_us = chrono::DateTime::parse_from_rfc3339("2026-11-20T12:00:00Z").expect("a time").timestamp_micros();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let call = |index: usize, random: &mut dyn FnMut(u64) -> u64| {
        let user = random(user_count as u64) as usize;
        let mut record = if user.is_multiple_of(8) {
            Record::rentcast(if random(2) == 0 { "/v1/avm/value" } else { "/v1/properties" })
        } else {
            let mut call = Record::claude(MODELS[random(6) as usize], 200 + random(4_000), 20 + random(900));
            call.endpoint = "/v1/messages".into();
            if random(5) == 0 {
                call.cache_read_tokens = random(20_000);
            }
            call
        };
        record.user_id = users[user].into();
        record.app = "api".into();
        record.occurred_at = Some(now_us + index as i64 * 37);
        record.id = Some((u128::from(random(u64::MAX)) << 64 | index as u128).to_be_bytes());
        record.latency_ms = Some(300 + random(4_000) as u32);
        record
    };
    (0..count).map(|index| call(index, &mut random)).collect()
}

/// Sends all records through one connection, a window of frames under way.
pub fn send_all(daemon: &Daemon, batch: &[Record]) {
    let endpoint = Endpoint::unix(daemon.folder.path().join("tallyd.sock"));
    let mut session = Session::connect(&endpoint, HelloOptions::new("bench")).expect("the daemon is there");
    let mut under_way = 0;
    let mut seq = session.last_seq() + 1;
    for frame in batch.chunks(FRAME_RECORDS) {
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

/// The release daemon on a fresh data folder.
pub struct Daemon {
    child: Child,
    pub folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start(cluster: &Cluster, binary: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let child = Command::new(binary)
            .env("TALLYD_DATABASE_URL", cluster.url())
            .env("TALLYD_DATA_DIR", folder.path())
            .env("TALLYD_HTTP_LISTEN", "127.0.0.1:0")
            .env("TALLYD_LOG", std::env::var("TALLYD_LOG").unwrap_or_else(|_| "warn".into()))
            .stdin(Stdio::null())
            .spawn()
            .expect("the daemon");
        let daemon = Self { child, folder };
        daemon.wait(|status| status["database"]["connected"] == true);
        daemon
    }

    pub fn status(&self) -> serde_json::Value {
        let output = Command::new(env!("CARGO_BIN_EXE_tallyd"))
            .args(["status", "--json"])
            .env("TALLYD_DATA_DIR", self.folder.path())
            .stderr(Stdio::null())
            .output()
            .expect("tallyd status");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until so many records are committed. Asks the daemon's counter from within this process: a command a look
    /// would take a good part of a core from both sides' PostgreSQL.
    pub fn wait_committed(&self, records: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let deadline = Instant::now() + Duration::from_secs(600);
        while runtime.block_on(self.committed()) < records {
            assert!(Instant::now() < deadline, "the daemon did not get there: {:#}", self.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    async fn committed(&self) -> usize {
        let answer = tallyd::http::socket::get(self.folder.path(), "/metrics").await.expect("the daemon's metrics");
        let text = String::from_utf8_lossy(&answer);
        let line = text.lines().find_map(|line| line.strip_prefix("tallyd_records_committed_total "));
        line.map_or(0, |count| count.trim().parse().expect("a count"))
    }

    fn wait(&self, done: impl Fn(&serde_json::Value) -> bool) {
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

    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the daemon's status");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        assert!(self.child.wait().expect("the daemon's end").success());
    }
}

/// A private cluster with the server's defaults, but for room for the write-ahead log, which both sides write alike.
pub struct Cluster {
    folder: tempfile::TempDir,
    child: Child,
}

impl Cluster {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("tallyd-bench").tempdir().expect("a folder");
        let bin = bin_dir();
        let data = folder.path().join("data");
        own(folder.path());
        let made = as_server(bin.join("initdb"))
            .args(["-U", "tallyd", "-A", "trust", "--locale=C", "--encoding=UTF8", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("initdb").success());
        let child = serve(folder.path());
        let cluster = Self { folder, child };
        cluster.wait_ready();
        cluster.psql("postgres", "CREATE DATABASE tallyd").expect("a database");
        let migrated = Command::new(env!("CARGO_BIN_EXE_tallyd"))
            .arg("migrate")
            .env("TALLYD_DATABASE_URL", cluster.url())
            .stdout(Stdio::null())
            .status();
        assert!(migrated.expect("tallyd migrate").success());
        cluster
    }

    /// Stops the server, as `pg_ctl stop -m fast` does.
    pub fn stop(&mut self) {
        interrupt(&self.child);
        let _ = self.child.wait();
    }

    /// Starts it again.
    pub fn restart(&mut self) {
        self.child = serve(self.folder.path());
        self.wait_ready();
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.psql("postgres", "SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "the cluster did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn url(&self) -> String {
        format!("host={} user=tallyd dbname=tallyd", self.folder.path().display())
    }

    pub fn describe(&self) -> String {
        let sql = "SELECT version() || E'\\nsettings: ' || string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings \
             WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'shared_buffers', 'max_wal_size')";
        self.psql("tallyd", sql).expect("the cluster's settings")
    }

    pub fn empty_tables(&self) {
        let sql = "TRUNCATE api_usage_log, daily_api_costs, daily_user_api_costs, user_api_totals, ingest_watermark, \
             dead_letters; VACUUM; CHECKPOINT";
        for statement in sql.split("; ") {
            self.psql("tallyd", statement).expect("emptied tables");
        }
    }

    pub fn check_equal(&self) {
        let equal = Command::new(env!("CARGO_BIN_EXE_tallyd"))
            .arg("reconcile")
            .env("TALLYD_DATABASE_URL", self.url())
            .stdout(Stdio::null())
            .status();
        assert!(equal.expect("tallyd reconcile").success(), "the rollups differ from the log");
    }

    pub fn dump_log(&self) -> PathBuf {
        let file = self.folder.path().join("rows");
        self.psql("tallyd", &format!("\\copy (SELECT * FROM api_usage_log) TO '{}' BINARY", file.display()))
            .expect("rows");
        file
    }

    pub fn copy_back(&self, file: &std::path::Path) {
        self.psql("tallyd", &format!("\\copy api_usage_log FROM '{}' BINARY", file.display())).expect("a copy");
    }

    fn psql(&self, database: &str, command: &str) -> Result<String, String> {
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "tallyd", "-d", database, "-h"]).arg(self.folder.path());
        let output = psql.args(["-c", command]).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        let _ = std::io::stdout().flush();
    }
}

fn serve(folder: &Path) -> Child {
    as_server(bin_dir().join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args(["-c", "listen_addresses=", "-c", "max_wal_size=4GB", "-c", "log_min_messages=fatal"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres")
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
}

fn bin_dir() -> PathBuf {
    let output = Command::new("pg_config").arg("--bindir").output();
    let output = output.expect("pg_config, of the package postgresql-common or libpq-dev");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// PostgreSQL refuses to run as root: then its programs run as the user `postgres`.
fn as_server(program: PathBuf) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program).current_dir("/");
    command
}

fn own(folder: &std::path::Path) {
    if rustix::process::getuid().is_root() {
        let owned = Command::new("chown").arg("postgres").arg(folder).status();
        assert!(owned.expect("chown").success());
    }
}
