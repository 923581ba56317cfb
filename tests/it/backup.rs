//! A backup under load, a kill, a restore: no call is counted twice, and lost are exactly the calls that the report names.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::{Load, Sent};
use crate::support::postgres::Postgres;
use crate::support::until;

const ACCEPT: [&str; 2] = ["serve", "--accept-rewound-database"];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The JSON of a command that succeeds.
#[track_caller]
fn json(daemon: &Daemon, words: &[&str]) -> Value {
    let output = daemon.run(words);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asserts that a command fails with this code and message.
#[track_caller]
fn assert_refused(daemon: &Daemon, words: &[&str], code: i32, says: &str) {
    let output = daemon.run(words);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
    assert!(said(&output).contains(says), "{words:?}: {}", said(&output));
}

fn folder(daemon: &Daemon) -> String {
    daemon.data().with_file_name("backup").display().to_string()
}

fn ask(daemon: &Daemon, sql: &str) -> Result<String, String> {
    let output = daemon.run(&["psql", "-XAtqc", sql]);
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(said(&output)) }
}

/// Waits until a private cluster has calls.
fn until_loaded(daemon: &Daemon) {
    until("calls are loaded", || match ask(daemon, "SELECT count(*) > 100 FROM api_usage_log")?.trim() {
        "t" => Ok(()),
        other => Err(other.to_owned()),
    });
}

/// The sequence numbers of the calls of the one producer, in order.
fn numbers(daemon: &Daemon) -> Vec<u64> {
    let found = ask(daemon, "SELECT input_tokens FROM api_usage_log ORDER BY input_tokens").unwrap();
    found.lines().map(|line| line.parse().unwrap()).collect()
}

/// The first keys of the WAL's segments.
fn segments(daemon: &Daemon) -> Vec<u64> {
    let list = json(daemon, &["wal", "list", "--json"]);
    list.as_array().unwrap().iter().map(|segment| segment["first_key"].as_u64().unwrap()).collect()
}

fn moved_away(daemon: &Daemon) -> PathBuf {
    let before = daemon.data().join("postgres.before");
    fs::rename(daemon.data().join("postgres"), &before).unwrap();
    before
}

/// Everything that was sent is sent again, to the daemon that has loaded all it has.
fn settle(daemon: &mut Daemon, load: Load) -> Sent {
    let sent = load.finish();
    sent.resend(&daemon.socket());
    daemon.until_status("everything is loaded", |status| status["wal"]["unflushed_records"] == 0);
    daemon.assert_reconciled();
    sent
}

#[test]
fn a_private_cluster_comes_back_and_the_wal_has_the_rest() {
    let mut daemon = Daemon::embedded().start();
    let backup = folder(&daemon);
    let load = Load::start(&daemon.socket(), 1);
    load.until_acked(300);
    until_loaded(&daemon);
    let manifest = json(&daemon, &["backup", &backup, "--json"]);
    assert_eq!(manifest["kind"], "cluster");
    assert_refused(&daemon, &["backup", &backup], 1, "is not empty");
    load.until_acked(500);
    assert_refused(&daemon, &["restore", &backup], 3, "is in use by tallyd serve");
    daemon.kill();
    assert_refused(&daemon, &["restore", &backup], 1, "does not overwrite");
    moved_away(&daemon);
    let restored = json(&daemon, &["restore", &backup, "--json"]);
    assert_eq!(restored["reconciliation"]["equal"], true, "{restored:#}");
    assert_eq!(restored["wal"]["gaps"].as_array().unwrap().len(), 0, "no segment was deleted: {restored:#}");
    let rows = restored["reconciliation"]["log_rows"].as_u64().unwrap();
    daemon.up();
    let sent = settle(&mut daemon, load);
    assert!((100..sent.records()).contains(&rows), "the backup has {rows} calls of {}", sent.records());
    assert_eq!(numbers(&daemon), (1..=sent.records()).collect::<Vec<_>>());
}

#[test]
fn deleted_segments_are_lost_and_the_report_names_them() {
    // One lane loads the one producer's calls in order, so the lost ones are one range.
    let mut daemon =
        Daemon::embedded().with("TALLYD_WAL_SEGMENT_BYTES", "65536").with("TALLYD_FLUSHER_LANES", "1").start();
    let backup = folder(&daemon);
    let load = Load::start(&daemon.socket(), 1);
    until_loaded(&daemon);
    json(&daemon, &["backup", &backup, "--json"]);
    let newest = *segments(&daemon).last().unwrap();
    until("segments of after the backup are deleted", || match segments(&daemon)[0] {
        first if first > newest + 100 => Ok(()),
        first => Err(format!("{first}, {newest}")),
    });
    daemon.kill();
    moved_away(&daemon);
    let restored = json(&daemon, &["restore", &backup, "--json"]);
    let (wal, found) = (&restored["wal"], &restored["reconciliation"]);
    assert_eq!(found["equal"], true, "{restored:#}");
    assert_eq!(wal["gaps"].as_array().unwrap().len(), 1, "{restored:#}");
    assert_eq!(wal["gaps"][0]["last_key"].as_u64(), Some(segments(&daemon)[0] - 1), "{restored:#}");
    assert!(wal["lost_from"].as_str() < wal["lost_until"].as_str(), "{restored:#}");

    // Without the flag it holds.
    daemon.up();
    daemon.until_status("loading holds", |status| status["database"]["lanes"][0]["hold"] == true);
    daemon.kill();
    daemon.up_with(&ACCEPT);
    let sent = settle(&mut daemon, load);
    let rows = found["log_rows"].as_u64().unwrap();
    let numbers = numbers(&daemon);
    let (of_backup, later) = numbers.split_at(usize::try_from(rows).unwrap());
    assert_eq!(of_backup, (1..=rows).collect::<Vec<_>>());
    assert!(later[0] > rows + 1, "nothing is lost");
    assert_eq!(later, (later[0]..=sent.records()).collect::<Vec<_>>());
}

#[test]
fn a_dump_moves_the_tables_of_tallyd_alone_into_another_database() {
    let (first, second) = (Postgres::start(), Postgres::start());
    for postgres in [&first, &second] {
        postgres.psql("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)");
    }
    let mut daemon = Daemon::on(&first.url()).start();
    let backup = folder(&daemon);
    let load = Load::start(&daemon.socket(), 3);
    first.until("SELECT count(*) > 300 FROM api_usage_log", "t");
    for words in [["budgets", "set", "90", "--for", "user=user-1"], ["token", "create", "--name", "t", "--role=read"]] {
        let output = daemon.run(&words);
        assert!(output.status.success(), "{}", said(&output));
    }
    let manifest = json(&daemon, &["backup", &backup, "--json"]);
    assert_eq!(manifest["kind"], "dump");
    assert!(!manifest["tables"].to_string().contains("orders"), "{manifest:#}");
    load.until_acked(300);
    daemon.kill();

    daemon.set("TALLYD_DATABASE_URL", &second.url());
    // A restore that fails half way changes nothing.
    second.psql("CREATE FUNCTION tallyd_day(timestamptz) RETURNS date LANGUAGE sql AS 'SELECT current_date'");
    assert_refused(&daemon, &["restore", &backup], 1, "tallyd_day");
    assert_eq!(second.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"), "1");
    second.psql("DROP FUNCTION tallyd_day");
    let restored = json(&daemon, &["restore", &backup, "--json"]);
    assert_eq!(restored["reconciliation"]["equal"], true, "{restored:#}");
    assert_refused(&daemon, &["restore", &backup], 1, "does not overwrite");
    for table in ["orders", "api_budgets", "tallyd_tokens", "api_prices", "tallyd_settings", "tallyd_audit_log"] {
        let rows = format!("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} AS t");
        assert_eq!(second.psql(&rows), first.psql(&rows), "{table}");
        assert!(!second.psql(&rows).starts_with("0|"), "{table} is empty");
    }
    let triggers = "SELECT string_agg(concat_ws(' ', tgrelid::regclass, tgname, tgenabled), ', ' ORDER BY tgrelid::regclass::text, tgname) \
        FROM pg_trigger WHERE NOT tgisinternal";
    let partitions = "SELECT string_agg(p::text, ', ' ORDER BY p::text) FROM tallyd_partitions() AS p";
    for sql in [triggers, partitions] {
        assert_eq!(second.psql(sql), first.psql(sql));
    }

    daemon.up_with(&ACCEPT);
    let output = daemon.run(&["budgets", "set", "91", "--for", "user=user-2"]);
    assert!(output.status.success(), "a new row gets a new number: {}", said(&output));
    let sent = settle(&mut daemon, load);
    sent.assert_only(&second);
}
