//! The end: orderly, in time, and without a loss. And who may start beside a running daemon: nobody.

use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::{Postgres, Stop};

#[test]
fn sigterm_under_load_ends_in_time_with_everything_acknowledged_loaded() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let load = Load::start(&daemon.socket(), 2);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    load.until_acked(2_000);
    let start = Instant::now();
    let status = daemon.terminate();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
    // Nothing is acknowledged any more: the producers find nobody.
    load.acked().assert_among(&postgres);
    assert!(daemon.log().contains("every record is in PostgreSQL"));
    daemon.up();
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn sigterm_while_postgresql_is_down_ends_in_time_and_the_next_start_loads_the_rest() {
    let mut postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_SHUTDOWN_DEADLINE_MS", "2000").start();
    let load = Load::start(&daemon.socket(), 2);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    postgres.down(Stop::Fast);
    load.until_acked(1_000);
    let start = Instant::now();
    let status = daemon.terminate();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(daemon.log().contains("load at the next start"));
    postgres.up();
    daemon.up();
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn a_second_daemon_on_the_data_folder_is_refused_and_told_who_has_it() {
    let postgres = Postgres::stopped();
    let daemon = Daemon::on(&postgres.url()).start();
    let second = daemon.run(&["serve"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains(&format!("process {}", daemon.pid())), "{said}");
    assert_eq!(daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#)[0]["ok"], true);
}
