//! The database has changed under the daemon, which repairs it, or holds loading with a message. No call is dropped.

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::{Postgres, Stop};

fn holds(status: &Value) -> bool {
    let lanes = status["database"]["lanes"].as_array().unwrap();
    status["health"]["status"] == "failing" && lanes.iter().any(|lane| lane["hold"] == true)
}

fn is_well(status: &Value) -> bool {
    status["health"]["status"] == "ok" && status["wal"]["unflushed_records"] == 0
}

#[test]
fn a_partition_that_is_gone_is_made_again() {
    let postgres = Postgres::start();
    // Without a user index: its concurrent creation and a DROP can wait for one another.
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_LOG_TABLE_USER_INDEX", "never").start();
    let line = r#"{"provider":"rentcast","endpoint":"/avm","occurred_at":"2020-02-03T04:05:06Z"}"#;
    daemon.lines(line);
    postgres.until_calls(1);
    postgres.alter("DROP TABLE api_usage_log_2020_02");
    daemon.lines(line);
    postgres.until("SELECT count(*) FROM api_usage_log_2020_02", "1");
}

#[test]
fn a_table_that_is_gone_holds_loading_until_it_is_back() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let load = Load::start(&daemon.socket(), 2);
    for table in ["api_usage_log", "tallyd_delta_ring"] {
        postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
        postgres.alter(&format!("ALTER TABLE {table} RENAME TO misplaced"));
        let status = daemon.until_status("loading holds", holds);
        assert!(status["health"]["flusher"]["message"].as_str().unwrap().contains(table), "{status:#}");
        assert!(!daemon.run(&["status"]).status.success(), "a command that looks for trouble finds it");
        load.until_acked(1_000);
        postgres.alter(&format!("ALTER TABLE misplaced RENAME TO {table}"));
        daemon.until_status("loading goes on by itself", |status| !holds(status));
    }
    load.finish().assert_in(&postgres);
    daemon.until_status("all is well again", is_well);
    daemon.assert_reconciled();
}

#[test]
fn a_column_that_was_changed_holds_loading_and_makes_no_row_guilty() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let load = Load::start(&daemon.socket(), 2);
    let changes = [
        ("ALTER COLUMN input_tokens TYPE int4", "ALTER COLUMN input_tokens TYPE int8"),
        ("ALTER COLUMN metadata TYPE text", "ALTER COLUMN metadata TYPE jsonb USING metadata::jsonb"),
        ("ADD COLUMN more int4 NOT NULL DEFAULT 0", "DROP COLUMN more"),
        ("RENAME COLUMN user_id TO person", "RENAME COLUMN person TO user_id"),
        ("ADD COLUMN needed int4", "DROP COLUMN needed"),
    ];
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    // PostgreSQL refuses to change a type below a view.
    postgres.psql("DROP VIEW tallyd_view_calls");
    for (change, back) in changes {
        let calls = postgres.psql("SELECT count(*) FROM api_usage_log");
        postgres.until(&format!("SELECT count(*) > {calls} FROM api_usage_log"), "t");
        postgres.alter(&format!("ALTER TABLE api_usage_log {change}"));
        if change.starts_with("ADD") || change.contains("text") {
            // Rows still fit, so loading must continue.
            load.until_acked(500);
        } else {
            let status = daemon.until_status("loading holds", holds);
            let message = status["health"]["flusher"]["message"].as_str().unwrap();
            assert!(message.contains("loading goes on by itself then"), "{message}");
        }
        postgres.alter(&format!("ALTER TABLE api_usage_log {back}"));
        daemon.until_status("loading goes on by itself", |status| !holds(status));
    }
    postgres.until("SELECT count(*) > 0 FROM api_usage_log WHERE cost_usd IS NULL", "t");
    load.finish().assert_in(&postgres);
    assert_eq!(postgres.psql("SELECT count(*) FROM dead_letters"), "0");
    daemon.assert_reconciled();
}

#[test]
fn a_password_that_is_wrong_holds_loading_from_the_start_or_later_and_says_what_to_do() {
    let postgres = Postgres::start();
    postgres.role_with_password("tally", "first");
    let address = |password: &str| postgres.url().replace("user=postgres", &format!("user=tally password={password}"));
    let mut daemon = Daemon::on(&address("second")).start();
    let load = Load::start(&daemon.socket(), 2);
    let failing = |status: &Value| status["health"]["status"] == "failing";
    let message = |status: &Value| status["health"]["flusher"]["message"].as_str().unwrap().to_owned();
    let status = daemon.until_status("it says so before there is a schema", failing);
    assert!(message(&status).contains("28P01") && message(&status).contains("pg_hba.conf"), "{status:#}");
    assert!(!message(&status).contains("second"), "the password is not told");
    load.until_acked(500);
    postgres.psql("ALTER ROLE tally PASSWORD 'second'");
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");

    postgres.psql("ALTER ROLE tally PASSWORD 'third'");
    postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tally'");
    let status = daemon.until_status("it says so later, too", holds);
    assert!(message(&status).contains("28P01"), "{status:#}");
    load.until_acked(500);
    postgres.psql("ALTER ROLE tally PASSWORD 'second'");
    load.finish().assert_in(&postgres);
    daemon.until_status("all is well again", is_well);
    daemon.assert_reconciled();
}

#[test]
fn a_database_restored_to_an_earlier_state_holds_loading_until_it_is_accepted() {
    let mut postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/before"}"#);
    postgres.until_calls(1);
    postgres.down(Stop::Fast);
    postgres.back_up();
    postgres.up();
    daemon.lines(
        "{\"provider\":\"rentcast\",\"endpoint\":\"/lost\"}\n{\"provider\":\"rentcast\",\"endpoint\":\"/lost\"}",
    );
    postgres.until_calls(3);
    postgres.down(Stop::Fast);
    postgres.restore();
    postgres.up();

    let answer = &daemon.lines(r#"{"provider":"rentcast","endpoint":"/after"}"#)[0];
    assert_eq!(answer["ok"], true, "records are accepted");
    let status = daemon.until_status("loading holds", holds);
    let message = status["health"]["flusher"]["message"].as_str().unwrap();
    assert!(message.contains("--accept-rewound-database"), "{message}");
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log"), "1");

    // The WAL still has the rows that the database has lost: they load again.
    daemon.kill();
    daemon.up_with(&["serve", "--accept-rewound-database"]);
    daemon.until_status("loading goes on", is_well);
    assert_eq!(
        postgres.psql("SELECT endpoint, count(*) FROM api_usage_log GROUP BY 1 ORDER BY 1"),
        "/after|1\n/before|1\n/lost|2"
    );
    daemon.assert_reconciled();
}

#[test]
fn another_database_is_noticed_at_the_start_too() {
    let (one, other) = (Postgres::start(), Postgres::start());
    let mut daemon = Daemon::on(&one.url()).start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#);
    one.until_calls(1);
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.set("TALLYD_DATABASE_URL", &other.url());
    daemon.up();
    daemon.until_status("loading holds", holds);
    assert_eq!(daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#)[0]["ok"], true);
    assert_eq!(other.psql("SELECT count(*) FROM api_usage_log"), "0");
}

#[test]
fn a_database_that_a_newer_version_migrated_holds_loading_and_recording_goes_on() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#);
    postgres.until_calls(1);
    assert_eq!(daemon.terminate().code(), Some(0));
    postgres.psql("INSERT INTO tallyd_schema_history VALUES (9999, 'of_tomorrow', now()::text, '1')");
    daemon.up();
    let status = daemon.until_status("it says so", |status| status["health"]["status"] == "failing");
    let message = status["health"]["flusher"]["message"].as_str().unwrap();
    assert!(message.contains("V9999__of_tomorrow") && message.contains("run a newer tallyd"), "{message}");
    assert_eq!(daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#)[0]["ok"], true);
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log"), "1");
    postgres.psql("DELETE FROM tallyd_schema_history WHERE version = 9999");
    postgres.until_calls(2);
    daemon.until_status("all is well again", is_well);
}
