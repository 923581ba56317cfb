//! The primary dies, and a standby takes its place at the same address.

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::{Postgres, Stop};

/// The address of both, the primary's host first.
fn both(primary: &Postgres, standby: &Postgres) -> String {
    let hosts = [primary, standby].map(|postgres| postgres.sockets().display().to_string()).join(",");
    format!("host={hosts} user=postgres dbname=postgres")
}

fn message(status: &Value) -> &str {
    status["health"]["flusher"]["message"].as_str().unwrap_or_default()
}

#[test]
fn with_a_synchronous_standby_a_failover_loses_and_doubles_nothing() {
    let mut primary = Postgres::start();
    let standby = Postgres::standby_of(&primary);
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.psql("SELECT pg_reload_conf()");
    primary.until("SELECT sync_state FROM pg_stat_replication", "sync");
    // The second host implies `target_session_attrs=read-write`.
    let mut daemon = Daemon::on(&both(&primary, &standby)).start();
    let load = Load::start(&daemon.socket(), 2);
    standby.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    standby.until("SELECT count(*) > 1000 FROM api_usage_log", "t");
    primary.down(Stop::Kill);
    load.until_acked(500);
    daemon.until_status("both hosts are told", |status| message(status).contains("does not allow writes"));
    standby.promote();
    let before = load.acked().records();
    standby.until(&format!("SELECT count(*) >= {before} FROM api_usage_log"), "t");

    // The old primary comes back as a primary, first in the address and with an old watermark.
    primary.up();
    primary.psql("ALTER SYSTEM RESET synchronous_standby_names");
    primary.psql("SELECT pg_reload_conf()");
    standby.end_sessions();
    let holds = |status: &Value| message(status).contains("restored to an earlier state");
    daemon.until_status("loading holds", holds);
    load.until_acked(500);
    primary.down(Stop::Fast);
    load.finish().assert_in(&standby);
    daemon.until_status("all is well again", |status| status["health"]["status"] == "ok");
    daemon.assert_reconciled();
}

#[test]
fn what_an_asynchronous_standby_has_missed_is_noticed_and_loaded_again_from_the_log() {
    let mut primary = Postgres::start();
    let mut standby = Postgres::standby_of(&primary);
    let mut daemon = Daemon::on(&both(&primary, &standby)).start();
    let load = Load::start(&daemon.socket(), 2);
    standby.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    standby.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    standby.down(Stop::Fast);
    // The primary commits without the standby from here on.
    load.until_acked(1_000);
    let before = load.acked().records();
    primary.until(&format!("SELECT count(*) >= {before} FROM api_usage_log"), "t");
    primary.down(Stop::Kill);
    standby.up();
    standby.promote();
    let status = daemon.until_status("loading holds", |status| message(status).contains("--accept-rewound-database"));
    assert_eq!(status["health"]["status"], "failing", "{status:#}");
    let found: u64 = standby.psql("SELECT count(*) FROM api_usage_log").parse().unwrap();
    assert!(found < before, "the standby has missed nothing: the test proves nothing");
    load.until_acked(500);
    daemon.kill();
    daemon.up_with(&["serve", "--accept-rewound-database"]);
    load.finish().assert_in(&standby);
    daemon.until_status("all is well again", |status| status["health"]["status"] == "ok");
    daemon.assert_reconciled();
}

#[test]
fn a_host_that_never_answers_does_not_keep_the_next_one_from_being_asked() {
    let (silent, postgres) = (Postgres::start(), Postgres::start());
    silent.freeze(true);
    let daemon = Daemon::on(&both(&silent, &postgres)).with("TALLYD_DATABASE_CONNECT_TIMEOUT_MS", "500").start();
    assert_eq!(daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#)[0]["ok"], true);
    postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    postgres.until_calls(1);
    daemon.assert_reconciled();
}
