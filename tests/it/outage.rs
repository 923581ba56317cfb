//! PostgreSQL or the connection to it fails: records are accepted meanwhile, and loaded once when it is back.

use std::thread::sleep;
use std::time::Duration;

use tallyd_client::Record;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::{Postgres, Stop, url};
use crate::support::proxy::Proxy;
use crate::support::until;

#[test]
fn with_postgresql_down_at_the_start_records_are_accepted_and_loaded_later() {
    let mut postgres = Postgres::stopped();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let load = Load::start(&daemon.socket(), 2);
    load.until_acked(1_000);
    // The figure for an alert grows from the start, although no lane has ever had a connection.
    let status = daemon.until_status("the oldest record grows old", |status| {
        status["wal"]["oldest_unflushed_seconds"].as_f64().is_some_and(|age| age > 1.0)
    });
    assert_eq!(status["health"]["status"], "degraded", "{status:#}");
    until("the metrics tell it", || {
        let metrics = daemon.metrics();
        let holds = value(&metrics, "tallyd_database_up") == Some(0.0)
            && value(&metrics, "tallyd_oldest_unflushed_age_seconds").is_some_and(|age| age > 1.0)
            && value(&metrics, "tallyd_flush_failures_total{class=\"transient\"}")
                .is_some_and(|failures| failures > 0.0)
            && value(&metrics, "tallyd_records_committed_total") == Some(0.0)
            && value(&metrics, "tallyd_wal_unflushed_records").is_some_and(|records| records > 0.0);
        if holds { Ok(()) } else { Err(metrics) }
    });
    assert!(!daemon.log().contains("the database is there"), "{}", daemon.log());
    postgres.up();
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
    daemon.until_status("all is well again", |status| {
        status["health"]["status"] == "ok" && status["wal"]["oldest_unflushed_seconds"] == 0.0
    });
    until("the metrics tell it", || {
        let metrics = daemon.metrics();
        let holds = value(&metrics, "tallyd_database_up") == Some(1.0)
            && value(&metrics, "tallyd_oldest_unflushed_age_seconds") == Some(0.0);
        if holds { Ok(()) } else { Err(metrics) }
    });
}

/// A metric's value, if the series is there.
fn value(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn with_postgresql_killed_or_stopped_under_load_records_are_accepted_and_loaded_once() {
    let mut postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let load = Load::start(&daemon.socket(), 2);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    for how in [Stop::Kill, Stop::Immediate, Stop::Fast, Stop::Kill] {
        postgres.down(how);
        load.until_acked(500);
        let before = load.acked().records();
        postgres.up();
        postgres.until(&format!("SELECT count(*) >= {before} FROM api_usage_log"), "t");
    }
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn with_the_answer_to_commit_lost_a_batch_is_not_loaded_again() {
    let postgres = Postgres::start();
    let proxy = Proxy::to(&postgres.sockets());
    let daemon = Daemon::on(&url(&proxy.sockets())).start();
    let load = Load::start(&daemon.socket(), 2);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    for lost in 1..=6 {
        proxy.lose_commits(1);
        until("the answer to a COMMIT is lost", || {
            let found = proxy.commits_lost();
            if found >= lost { Ok(()) } else { Err(format!("{found} of {lost}")) }
        });
    }
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn with_connections_cut_at_any_moment_every_record_is_loaded_once() {
    let postgres = Postgres::start();
    let proxy = Proxy::to(&postgres.sockets());
    let daemon = Daemon::on(&url(&proxy.sockets())).start();
    let load = Load::start(&daemon.socket(), 2);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    // Steps of 3 ms, so that cuts drift through the batches' steps.
    for pause_ms in (1..90).step_by(3) {
        sleep(Duration::from_millis(pause_ms));
        proxy.cut();
    }
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn with_a_backlog_that_no_deadline_is_long_enough_for_batches_shrink_until_they_load() {
    let mut postgres = Postgres::stopped();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_FLUSHER_STATEMENT_DEADLINE_MS", "100").start();
    let mut session = daemon.session("backlog");
    let records = vec![Record::rentcast("/avm"); 15_000];
    for frame in 0..10 {
        session.send(frame * 15_000 + 1, &records).unwrap();
        assert_eq!(session.recv_ack().unwrap().seq, (frame + 1) * 15_000);
    }
    postgres.up();
    postgres.until_calls(150_000);
    assert!(daemon.log().contains("did not finish a batch"), "the deadline was never met: the test proves nothing");
    daemon.assert_reconciled();
}

#[test]
fn with_a_backend_terminated_or_everything_frozen_loading_goes_on_afterwards() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_FLUSHER_STATEMENT_DEADLINE_MS", "300")
        .with("TALLYD_DATABASE_CONNECT_TIMEOUT_MS", "300")
        .start();
    let load = Load::start(&daemon.socket(), 1);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    let terminate = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity \
        WHERE application_name = 'tallyd flusher'";
    postgres.until(terminate, "t");
    load.until_acked(500);
    postgres.freeze(true);
    load.until_acked(500);
    daemon.until_status("the deadline fires", |status| status["health"]["flusher"]["status"] == "degraded");
    until("the metrics tell it", || {
        let metrics = daemon.metrics();
        let holds = value(&metrics, "tallyd_database_up") == Some(0.0)
            && value(&metrics, "tallyd_oldest_unflushed_age_seconds").is_some_and(|age| age > 1.0);
        if holds { Ok(()) } else { Err(metrics) }
    });
    postgres.freeze(false);
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
    // No call waits and no lane notices: the daemon checks by itself.
    postgres.freeze(true);
    daemon.until_status("an idle daemon notices", |status| status["health"]["flusher"]["status"] == "degraded");
    postgres.freeze(false);
    daemon.until_status("and that it is over", |status| status["health"]["status"] == "ok");
}
