//! Partitions: a batch goes straight into the one that takes all of it, and never into a detached or dropped table.

use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, Stop};

fn call(at: &str) -> String {
    format!("{{\"provider\":\"rentcast\",\"endpoint\":\"/avm\",\"user_id\":\"u\",\"occurred_at\":\"{at}\"}}\n")
}

#[test]
fn rows_do_not_follow_a_partition_that_was_detached() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(&call("2026-03-05T00:00:00Z"));
    postgres.until_calls(1);
    postgres.alter("ALTER TABLE api_usage_log DETACH PARTITION api_usage_log_2026_03");
    daemon.lines(&call("2026-03-06T00:00:00Z"));
    postgres.until("SELECT count(*) FROM api_usage_log", "1");
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log_2026_03"), "1", "what was taken away is left alone");
    // The same with a dropped partition: PostgreSQL no longer knows its name.
    let taken = postgres.psql("SELECT DISTINCT tableoid::regclass FROM api_usage_log");
    postgres.psql(&format!("DROP TABLE {taken}"));
    daemon.lines(&call("2026-03-07T00:00:00Z"));
    postgres.until("SELECT max(occurred_at) AT TIME ZONE 'UTC' FROM api_usage_log", "2026-03-07 00:00:00");
}

#[test]
fn a_default_that_was_changed_changes_no_record() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(&call("2026-03-05T00:00:00Z"));
    postgres.until_calls(1);
    postgres.alter("ALTER TABLE api_usage_log ALTER status SET DEFAULT 299, ALTER app SET DEFAULT 'theirs', ALTER latency_ms SET DEFAULT 7");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    daemon.lines(&call("2026-03-06T00:00:00Z"));
    postgres.until_calls(2);
    let found = "SELECT DISTINCT status, app, latency_ms IS NULL FROM api_usage_log";
    assert_eq!(postgres.psql(found), "200||t");
    daemon.assert_reconciled();
}

#[test]
fn a_batch_over_several_partitions_is_loaded_whole() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let days = ["2026-01-31T23:59:59.999999Z", "2026-02-01T00:00:00Z", "2025-06-15T00:00:00Z", "2026-02-28T00:00:00Z"];
    let answers = daemon.lines(&days.iter().map(|day| call(day)).collect::<String>());
    assert_eq!(answers.len(), days.len());
    postgres.until_calls(days.len());
    let held = "SELECT tableoid::regclass::text AS held, count(*) FROM api_usage_log GROUP BY held ORDER BY held";
    let expected = "api_usage_log_2025_06|1\napi_usage_log_2026_01|1\napi_usage_log_2026_02|2";
    assert_eq!(postgres.psql(held), expected);
    daemon.assert_reconciled();
}

#[test]
fn a_month_that_was_begun_with_days_goes_on() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_LOG_TABLE_PARTITION", "day").start();
    // Made by hand, because a record of long ago would get a partition for its month.
    postgres.until("SELECT count(*) > 0 FROM tallyd_partitions()", "t");
    let made = daemon.run(&["partitions", "ensure", "--from", "2026-03-01", "--to", "2026-03-02"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    daemon.lines(&call("2026-03-01T08:00:00Z"));
    postgres.until_calls(1);
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.set("TALLYD_LOG_TABLE_PARTITION", "month");
    daemon.up();
    daemon.lines(&call("2026-03-20T08:00:00Z"));
    postgres.until_calls(2);
    let held = "SELECT tableoid::regclass FROM api_usage_log ORDER BY occurred_at";
    assert_eq!(postgres.psql(held), "api_usage_log_2026_03_01\napi_usage_log_2026_03_20");
    daemon.assert_reconciled();
}

/// With an index by user that is kept at all times, a batch's rows are in the order of users, then in the calls' order.
#[test]
fn rows_come_by_user_where_that_index_is_kept() {
    let mut postgres = Postgres::start();
    let daemon =
        Daemon::on(&postgres.url()).with("TALLYD_LOG_TABLE_USER_INDEX", "always").with("TALLYD_FLUSHER_LANES", "1");
    let mut daemon = daemon.start();
    daemon.until_status("the database is there", |status| status["database"]["connected"] == true);
    // The calls that arrive meanwhile become one batch.
    postgres.down(Stop::Immediate);
    let line = |number: usize| {
        let user = number * 7 % 40;
        format!("{{\"provider\":\"rentcast\",\"user_id\":\"user-{user:02}\",\"input_tokens\":{number}}}\n")
    };
    let answers = daemon.lines(&(0..2_000).map(line).collect::<String>());
    assert_eq!(answers.len(), 2_000);
    postgres.up();
    postgres.until_calls(2_000);
    let rows = postgres.psql("SELECT user_id, input_tokens FROM api_usage_log ORDER BY ctid");
    let rows: Vec<(&str, usize)> = rows
        .lines()
        .map(|row| row.split_once('|').unwrap())
        .map(|(user, number)| (user, number.parse().unwrap()))
        .collect();
    assert!(rows.is_sorted(), "{:?}", &rows[..10]);
    assert_eq!(postgres.psql("SELECT count(DISTINCT input_tokens) FROM api_usage_log"), "2000");
    daemon.assert_reconciled();
}
