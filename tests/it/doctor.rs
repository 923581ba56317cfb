//! `tallyd doctor` finds each fault with a hint, and none in a healthy installation.

use std::net::TcpListener;
use std::process::Output;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::pooler::{PoolMode, Pooler};
use crate::support::postgres::Postgres;

/// The report, and the exit code.
struct Found {
    report: Value,
    code: Option<i32>,
}

impl Found {
    fn by(daemon: &Daemon) -> Self {
        let Output { stdout, stderr, status } = daemon.run(&["doctor", "--json"]);
        let report = serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)));
        Self { report, code: status.code() }
    }

    fn check(&self, name: &str) -> &Value {
        let checks = self.report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name} in {:#}", self.report))
    }

    fn assert(&self, name: &str, state: &str, says: &str) {
        let check = self.check(name);
        assert_eq!(check["state"], state, "{check:#}");
        let text = format!("{} {}", check["found"].as_str().unwrap(), check["hint"].as_str().unwrap_or_default());
        assert!(text.contains(says), "{name}: {text}");
    }
}

#[test]
fn a_daemon_that_works_fails_no_check() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.until_status("all is well", |status| status["health"]["status"] == "ok");
    let found = Found::by(&daemon);
    assert_eq!(found.code, Some(0), "{:#}", found.report);
    assert_eq!(found.report["failed"], 0, "{:#}", found.report);
    for name in ["version", "configuration", "file system", "disk space", "clock", "time zone"] {
        found.check(name);
    }
    found.assert("disk sync", "ok", "ms median");
    found.assert("daemon", "ok", "process");
    found.assert("socket", "ok", "mode 0660");
    found.assert("server", "ok", "PostgreSQL");
    found.assert("clocks", "ok", " s ");
    found.assert("pooler", "ok", "none, or one in session mode");
    found.assert("schema", "ok", "up to date");
    found.assert("rights", "ok", "owns the tables");
    found.assert("certificate", "ok", "on this machine");
    let shown = String::from_utf8(daemon.run(&["doctor"]).stdout).unwrap();
    assert!(shown.ends_with("0 checks failed, 0 warnings\n") || shown.contains("hint: "), "{shown}");
    // The command left no file behind.
    let left = std::fs::read_dir(daemon.data()).unwrap().flatten();
    let left: Vec<_> =
        left.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains("doctor")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_stands_in_a_start_s_way_is_named_before_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut daemon = Daemon::on("postgresql://tallyd@127.0.0.1:1/app?sslmode=disable")
        .with("TALLYD_HTTP_LISTEN", &address)
        .with("TALLYD_WAL_MIN_FREE_BYTES", &(1_u64 << 60).to_string());
    let found = Found::by(&daemon);
    assert_eq!(found.code, Some(1), "{:#}", found.report);
    found.assert("daemon", "skipped", "tallyd serve");
    found.assert("http.listen", "failed", "another program listens on");
    found.assert("disk space", "failed", "no record would be taken");
    found.assert("database", "failed", "cannot be reached");
    assert_eq!(found.report["failed"], 3, "{:#}", found.report);
    for check in found.report["checks"].as_array().unwrap() {
        assert!(check["state"] != "failed" || check["hint"].is_string(), "{check:#}");
    }
    daemon.set("TALLYD_HTTP_LISTEN", "127.0.0.1:0");
    daemon.set("TALLYD_DATABASE_URL", "postgresql://tallyd@db.example.com/app?sslmode=require");
    daemon.set("TALLYD_DATABASE_CONNECT_TIMEOUT_MS", "100");
    let found = Found::by(&daemon);
    found.assert("certificate", "warning", "sslmode=verify-full");
    daemon.set("TALLYD_WAL_MIN_FREE_BYTES", "many");
    assert_eq!(daemon.run(&["doctor"]).status.code(), Some(2), "the configuration is wrong");
}

#[test]
fn a_pooler_is_told_by_its_mode() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url());
    for (mode, sessions, state, says) in [
        (PoolMode::Transaction, 3, "ok", "transaction mode"),
        (PoolMode::Session, 20, "ok", "session mode"),
        (PoolMode::Transaction, 1, "failed", "one session for all"),
    ] {
        let pooler = Pooler::start(&postgres, mode, sessions);
        daemon.set("TALLYD_DATABASE_URL", &pooler.url());
        Found::by(&daemon).assert("pooler", state, says);
    }
}

#[test]
fn a_role_that_cannot_load_and_a_schema_that_is_not_there_are_told() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url());
    let found = Found::by(&daemon);
    found.assert("schema", "ok", "not applied yet");
    found.assert("rights", "skipped", "not complete");
    assert!(daemon.run(&["migrate"]).status.success());
    Found::by(&daemon).assert("rights", "ok", "owns the tables");
    postgres.psql(
        "CREATE ROLE other LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO other; \
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO other; \
         ALTER TABLE tallyd_schema_history DISABLE ROW LEVEL SECURITY; ALTER TABLE tallyd_settings DISABLE ROW LEVEL SECURITY",
    );
    daemon.set("TALLYD_DATABASE_URL", &postgres.url().replace("user=postgres", "user=other"));
    let found = Found::by(&daemon);
    found.assert("rights", "failed", "row level security");
    found.assert("rights", "failed", "BYPASSRLS");
    assert_eq!(found.code, Some(1));
    postgres.psql(
        "INSERT INTO tallyd_schema_history SELECT 999, 'later', applied_on, '1' FROM tallyd_schema_history LIMIT 1",
    );
    Found::by(&daemon).assert("schema", "failed", "run a newer tallyd");
}
