//! A file is imported exactly once, however often it is tried, and also if a process is killed meanwhile.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::until;

/// A file of `rows` rows, each with its own number of tokens.
fn file(daemon: &Daemon, rows: u64) -> PathBuf {
    let mut text = String::from("TIMESTAMP,Tokens,Who\n");
    for row in 1..=rows {
        writeln!(text, "2024-05-{:02}T{:02}:00:00Z,{row},user-{}", 1 + row % 28, row % 24, row % 100).unwrap();
    }
    let path = daemon.data().with_file_name("calls.csv");
    std::fs::write(&path, text).unwrap();
    path
}

const HOW: [&str; 5] = [
    "--map",
    "occurred_at=TIMESTAMP,input_tokens=Tokens,user_id=Who",
    "--set",
    "provider=claude,model=claude-sonnet-4-5",
    "--json",
];

fn assert_holds_once(postgres: &Postgres, rows: u64) {
    postgres.until_calls(usize::try_from(rows).unwrap());
    let found =
        postgres.psql("SELECT count(DISTINCT input_tokens), min(input_tokens), max(input_tokens) FROM api_usage_log");
    assert_eq!(found, format!("{rows}|1|{rows}"));
}

#[test]
fn a_file_that_is_imported_twice_is_there_once() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let path = file(&daemon, 1_000);
    let import = |daemon: &Daemon| -> Value {
        let output = daemon.run(&[&["import", path.to_str().unwrap()], &HOW[..]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = import(&daemon);
    assert_holds_once(&postgres, 1_000);
    let again = import(&daemon);
    assert_ne!(first, again, "the second one says that it added nothing");
    // The daemon knows the file after a restart, too.
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    import(&daemon);
    // Nor does it take the same rows from another file, with other line ends.
    let windows = std::fs::read_to_string(&path).unwrap().replace('\n', "\r\n");
    std::fs::write(&path, windows).unwrap();
    let copy = import(&daemon);
    assert_eq!((&copy["recorded"], &copy["skipped"]), (&0.into(), &1_000.into()), "{copy:#}");
    daemon.lines(r#"{"provider":"claude","input_tokens":1001}"#);
    postgres.until_calls(1_001);
    daemon.assert_reconciled();
}

#[test]
fn an_import_goes_on_where_it_was_when_it_or_the_daemon_is_killed() {
    const ROWS: u64 = 200_000;
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let path = file(&daemon, ROWS);
    let arguments = [&["import", path.to_str().unwrap()], &HOW[..]].concat();
    let mut import = daemon.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let key = |status: &Value| status["wal"]["durable_key"].as_u64().unwrap();
    let status = daemon.until_status("some rows are recorded", |status| key(status) > 0);
    import.kill().unwrap();
    assert!(!import.wait().unwrap().success(), "it was done before it could be killed: the test proves nothing");
    let before = key(&daemon.status().unwrap_or(status));
    let mut import = daemon.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    daemon.until_status("more rows are recorded", |status| key(status) > before);
    daemon.kill();
    assert!(import.try_wait().unwrap().is_none(), "it was done before the daemon was killed: the test proves nothing");
    daemon.up();
    let status = until("the import ends", || import.try_wait().unwrap().ok_or_else(|| "it runs".into()));
    assert!(status.success());
    assert_holds_once(&postgres, ROWS);
    daemon.assert_reconciled();
}
