//! A private cluster with the server's defaults, except for more room for its write-ahead log, which all sides write
//! alike.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};

use super::Daemon;

const SETTINGS: [&str; 3] = ["listen_addresses=", "max_wal_size=4GB", "log_min_messages=fatal"];

pub struct Cluster {
    folder: tempfile::TempDir,
    /// The build whose schema the database has.
    program: PathBuf,
    child: Child,
    more: Vec<&'static str>,
}

impl Cluster {
    /// A cluster with this build's schema.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A cluster with another build's schema. Each build has a cluster of its own, because an older build refuses a
    /// newer schema.
    pub fn of(program: &Path) -> Self {
        Self::made_by(program, &[])
    }

    /// As [`Self::start`], with more settings, each `name=value`.
    pub fn start_with(more: &[&'static str]) -> Self {
        Self::made_by(Daemon::program(), more)
    }

    fn made_by(program: &Path, more: &[&'static str]) -> Self {
        let folder = tempfile::Builder::new().prefix("tallyd-bench").tempdir().expect("a folder");
        own(folder.path());
        let made = as_server(bin_dir().join("initdb"))
            .args(["-U", "tallyd", "-A", "trust", "--locale=C", "--encoding=UTF8", "-D"])
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("initdb").success());
        let child = serve(folder.path(), more);
        let cluster = Self { folder, program: program.to_owned(), child, more: more.to_vec() };
        cluster.wait_ready();
        cluster.sql_in("postgres", "CREATE DATABASE tallyd").expect("a database");
        let migrated = Command::new(program)
            .arg("migrate")
            .env("TALLYD_DATABASE_URL", cluster.url())
            .stdout(Stdio::null())
            .status();
        assert!(migrated.expect("tallyd migrate").success());
        cluster
    }

    /// Stops the server, as `pg_ctl stop -m fast` does.
    pub fn stop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }

    pub fn restart(&mut self) {
        self.child = serve(self.folder.path(), &self.more);
        self.wait_ready();
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.sql_in("postgres", "SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "the cluster did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The build whose schema the database has.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The folder of the server's socket, also for files that the server reads.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("host={} user=tallyd dbname=tallyd", self.folder.path().display())
    }

    /// A connection on a task of the current runtime.
    pub async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    /// The server's version, and its settings that affect speed.
    pub fn describe(&self) -> String {
        self.sql(
            "SELECT version() || E'\\nsettings: ' || string_agg(name || '=' || setting, ' ' ORDER BY name) \
             FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', \
             'shared_buffers', 'max_wal_size')",
        )
    }

    /// Empties the call log, the rollups and the loader's tables.
    pub fn empty_tables(&self) {
        // By their names' beginnings, so that a new rollup is emptied, too.
        self.sql(
            "DO $$ BEGIN EXECUTE (SELECT 'TRUNCATE api_usage_log, ingest_watermark, dead_letters, ' \
                 || string_agg(relname, ', ') FROM pg_class WHERE relkind = 'r' \
                 AND relname ~ '^(daily_|hourly_|user_api_|tallyd_user_|tallyd_dropped_|tallyd_proven_)'); END $$",
        );
        self.sql("VACUUM");
        self.sql("CHECKPOINT");
    }

    /// Merges the users' deltas by the daemon's own code. Returns the seconds.
    pub fn merge_seconds(&self) -> f64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = self.connect().await;
            let mut seconds = 0.0;
            while let Some(merged) = tallyd_store::user_deltas::merge(&client).await.expect("a merge") {
                seconds += merged.took.as_secs_f64();
            }
            seconds
        })
    }

    /// Fails if the rollups are not the sum of the call log.
    pub fn check_equal(&self) {
        let equal = Command::new(&self.program)
            .arg("reconcile")
            .env("TALLYD_DATABASE_URL", self.url())
            .stdout(Stdio::null())
            .status();
        assert!(equal.expect("tallyd reconcile").success(), "the rollups differ from the log");
    }

    /// Computes the rollups anew from the call log.
    pub fn rebuild_rollups(&self) {
        assert!(self.start_rebuild().wait().expect("tallyd rollups").success());
    }

    /// Begins to compute the rollups anew.
    pub fn start_rebuild(&self) -> Child {
        Command::new(Daemon::program())
            .args(["rollups", "rebuild", "--time-zone", "UTC", "--yes"])
            .env("TALLYD_DATABASE_URL", self.url())
            .stdout(Stdio::null())
            .spawn()
            .expect("tallyd rollups")
    }

    /// Runs a statement, or several in one transaction, by psql; returns the unaligned output.
    pub fn sql(&self, statement: &str) -> String {
        self.sql_in("tallyd", statement).unwrap_or_else(|error| panic!("{error}\nin {statement}"))
    }

    fn sql_in(&self, database: &str, statement: &str) -> Result<String, String> {
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "tallyd", "-d", database, "-h"]).arg(self.folder.path());
        let output = psql.args(["-c", statement]).output().map_err(|error| error.to_string())?;
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

fn serve(folder: &Path, more: &[&str]) -> Child {
    let mut command = as_server(bin_dir().join("postgres"));
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    for setting in SETTINGS.iter().chain(more) {
        command.args(["-c", setting]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("postgres")
}

fn bin_dir() -> PathBuf {
    let output = Command::new("pg_config").arg("--bindir").output();
    let output = output.expect("pg_config, of the package postgresql-common or libpq-dev");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// As root, the server's programs run as the user `postgres`, because PostgreSQL refuses to run as root.
fn as_server(program: PathBuf) -> Command {
    if !getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program).current_dir("/");
    command
}

fn own(folder: &Path) {
    if getuid().is_root() {
        let owned = Command::new("chown").arg("postgres").arg(folder).status();
        assert!(owned.expect("chown").success());
    }
}
