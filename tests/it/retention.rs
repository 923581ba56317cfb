//! Old partitions are dropped by the daemon or by hand, and the rollups keep their sums.

use std::process::{Child, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::Postgres;
use crate::support::{bound_to_us, until};

/// 2025-01-01T00:00:00Z, in microseconds.
const JANUARY_US: i64 = 1_735_689_600_000_000;
const DAY_US: i64 = 86_400_000_000;
const DROP: [&str; 5] = ["partitions", "drop", "--before", "2025-03-01", "--yes"];

/// Calls of the first two months of 2025.
fn old_calls(count: usize, seed: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let (at, user) = (JANUARY_US + random.random_range(0..58 * DAY_US), random.random_range(0..5));
            format!(
                "{{\"provider\":\"rentcast\",\"endpoint\":\"/avm\",\"user_id\":\"u{user}\",\"occurred_at\":{at}}}\n"
            )
        })
        .collect()
}

fn spawn(daemon: &Daemon, arguments: &[&str]) -> Child {
    let settings = daemon.command(arguments);
    let mut command = bound_to_us(env!("CARGO_BIN_EXE_tallyd"));
    command.args(settings.get_args()).current_dir(settings.get_current_dir().unwrap()).env_clear();
    command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = daemon.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const OLD_PARTITIONS: &str = "SELECT count(*) FROM tallyd_partitions() WHERE to_at <= '2025-03-01Z'";

#[test]
fn the_daemon_drops_what_is_older_than_it_is_told_to_keep() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(&old_calls(200, 1));
    daemon.lines(r#"{"provider":"rentcast","user_id":"u1"}"#);
    postgres.until_calls(201);
    let totals = postgres.psql("SELECT sum(calls), sum(cost_usd) FROM user_api_totals");
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(postgres.psql(OLD_PARTITIONS), "2", "for ever, unless told otherwise");

    daemon.set("TALLYD_RETENTION_LOG_DAYS", "400");
    daemon.up();
    postgres.until(OLD_PARTITIONS, "0");
    let found = daemon.assert_reconciled();
    assert_eq!((&found["log_rows"], &found["dropped_rows"]), (&1.into(), &200.into()), "{found:#}");
    assert_eq!(postgres.psql("SELECT sum(calls), sum(cost_usd) FROM user_api_totals"), totals);
    assert_eq!(postgres.psql("SELECT DISTINCT actor FROM tallyd_audit_log"), "retention.log_days");
    // Late calls of that time are accepted, and are dropped at the next upkeep.
    daemon.lines(&old_calls(50, 2));
    postgres.until_calls(51);
    daemon.assert_reconciled();
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    postgres.until(OLD_PARTITIONS, "0");
    let found = daemon.assert_reconciled();
    assert_eq!((&found["log_rows"], &found["dropped_rows"]), (&1.into(), &250.into()), "{found:#}");
    let metrics = until("the metrics are there", || {
        let text = daemon.metrics();
        if text.contains("tallyd_retention_dropped_calls_total 50") { Ok(text) } else { Err(text) }
    });
    assert!(metrics.contains("tallyd_retention_dropped_partitions_total 2"), "{metrics}");
    assert!(metrics.contains("tallyd_retention_overdue_partitions 0"), "{metrics}");
}

#[test]
fn partitions_that_are_loaded_are_dropped_by_hand_and_every_record_is_counted_once() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    postgres.until("SELECT to_regclass('tallyd_dropped_costs') IS NOT NULL", "t");
    let made = json(&daemon, &["partitions", "ensure", "--from", "2025-01-01", "--to", "2025-03-01", "--json"]);
    assert_eq!(made, serde_json::json!(["api_usage_log_2025_01", "api_usage_log_2025_02"]));
    let load = Load::start(&daemon.socket(), 2);
    let mut sent = 0;
    for seed in 0..4 {
        // The daemon remembers the partitions, and finds them gone.
        let lines = old_calls(100, seed);
        let sending = std::thread::scope(|scope| {
            let sending = scope.spawn(|| daemon.lines(&lines).len());
            for _ in 0..3 {
                daemon.run(&DROP);
            }
            sending.join().unwrap()
        });
        sent += sending;
        daemon.assert_reconciled();
    }
    let others = load.finish();
    let all = others.records() as usize + sent;
    postgres.until("SELECT sum(calls) FROM user_api_totals", &all.to_string());
    until("nothing of it is left", || {
        let output = daemon.run(&DROP);
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    let found = daemon.assert_reconciled();
    assert_eq!(found["dropped_rows"], sent, "{found:#}");
    others.assert_among(&postgres);
    assert_eq!(postgres.psql("SELECT count(*) FROM dead_letters"), "0");
    let listed = json(&daemon, &["partitions", "list", "--json"]);
    let first = &listed.as_array().unwrap()[0];
    assert!(first["from"].as_str().unwrap() > "2025-03" && first["bytes"].as_i64().unwrap() > 0, "{listed:#}");
}

#[test]
fn a_drop_that_is_killed_is_whole_or_not_there_and_goes_on() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(&old_calls(100, 3));
    postgres.until_calls(100);
    let dry = json(&daemon, &["partitions", "drop", "--before", "2025-03-01", "--dry-run", "--json"]);
    assert_eq!(dry["due"].as_array().unwrap().len(), 2, "{dry:#}");
    postgres.until_calls(100);

    // The sums are computed, and a reader's lock keeps the command from truncating the partition.
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'tallyd partitions' AND wait_event_type = 'Lock'";
    let mut reader = postgres.session();
    reader.run("BEGIN; SELECT count(*) FROM api_usage_log_2025_01");
    let mut dropping = spawn(&daemon, &DROP);
    postgres.until(waits, "t");
    dropping.kill().unwrap();
    dropping.wait().unwrap();
    postgres.until("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tallyd partitions'", "0");
    let found = daemon.assert_reconciled();
    assert_eq!((&found["log_rows"], &found["dropped_rows"]), (&100.into(), &0.into()), "{found:#}");

    // The partition is truncated, and a reader of the call log keeps the empty partition from being dropped.
    reader.run("ROLLBACK; BEGIN; LOCK TABLE ONLY api_usage_log IN ACCESS SHARE MODE");
    let mut dropping = spawn(&daemon, &DROP);
    postgres.until(waits, "t");
    dropping.kill().unwrap();
    dropping.wait().unwrap();
    reader.run("ROLLBACK");
    let found = daemon.assert_reconciled();
    let january = postgres.psql("SELECT sum(calls) FROM tallyd_dropped_partitions");
    assert_eq!(found["dropped_rows"].to_string(), january, "{found:#}");
    assert_eq!(postgres.psql(OLD_PARTITIONS), "2", "an empty one, and a full one");

    assert!(daemon.run(&DROP).status.success());
    assert_eq!(postgres.psql(OLD_PARTITIONS), "0");
    assert_eq!(daemon.assert_reconciled()["dropped_rows"], 100);

    // Calls in dropped partitions keep their old cost.
    let reprice = daemon.run(&["reprice", "--from", "2025-02-01", "--to", "2025-04-01", "--yes"]);
    let said = String::from_utf8_lossy(&reprice.stderr).into_owned();
    assert!(!reprice.status.success() && said.contains("cannot be computed anew"), "{said}");
    for (from, more) in [("2025-02-01", "--skip-dropped"), ("2025-03-01", "--batch-rows=50000")] {
        assert!(daemon.run(&["reprice", "--yes", "--from", from, "--to", "2025-04-01", more]).status.success());
    }
    daemon.assert_reconciled();
}

#[test]
fn a_role_that_owns_nothing_keeps_on_loading_and_says_what_it_cannot_do() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(&old_calls(10, 4));
    postgres.until_calls(10);
    assert_eq!(daemon.terminate().code(), Some(0));
    postgres.psql("ALTER ROLE tallyd_writer LOGIN");
    let writer = postgres.url().replace("user=postgres", "user=tallyd_writer");
    let mut daemon = daemon.with("TALLYD_DATABASE_URL", &writer).with("TALLYD_RETENTION_LOG_DAYS", "400").start();
    until("the daemon says so", || {
        let log = daemon.log();
        if log.contains("old partitions stay") && log.contains("only its owner drops it") { Ok(()) } else { Err(log) }
    });
    daemon.lines(&old_calls(10, 5));
    postgres.until_calls(20);
    let metrics = daemon.metrics();
    assert!(metrics.contains("tallyd_retention_overdue_partitions 2"), "{metrics}");
    let dropped = daemon.run(&DROP);
    let said = String::from_utf8_lossy(&dropped.stderr).into_owned();
    assert!(dropped.status.code() == Some(1) && said.contains("tallyd_writer does not own"), "{said}");
    assert!(daemon.run(&["partitions", "list"]).status.success());
    daemon.assert_reconciled();
    assert_eq!(daemon.terminate().code(), Some(0));
}
