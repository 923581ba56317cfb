//! The database is not as it was: what can be mended is, for the rest loading holds and says so, and nothing is dropped.

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
    let daemon = Daemon::on(&postgres.url()).start();
    let line = r#"{"provider":"rentcast","endpoint":"/avm","occurred_at":"2020-02-03T04:05:06Z"}"#;
    daemon.lines(line);
    postgres.until_calls(1);
    postgres.psql("DROP TABLE api_usage_log_2020_02");
    daemon.lines(line);
    postgres.until("SELECT count(*) FROM api_usage_log_2020_02", "1");
}

#[test]
fn a_table_that_is_gone_holds_loading_until_it_is_back() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let load = Load::start(&daemon.socket(), 2);
    for table in ["api_usage_log", "daily_user_api_costs"] {
        postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
        postgres.psql(&format!("ALTER TABLE {table} RENAME TO misplaced"));
        let status = daemon.until_status("loading holds", holds);
        assert!(status["health"]["flusher"]["message"].as_str().unwrap().contains(table), "{status:#}");
        assert!(!daemon.run(&["status"]).status.success(), "a command that looks for trouble finds it");
        load.until_acked(1_000);
        postgres.psql(&format!("ALTER TABLE misplaced RENAME TO {table}"));
        daemon.until_status("loading goes on by itself", |status| !holds(status));
    }
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

    // The log still has what the database has lost: it loads again.
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
