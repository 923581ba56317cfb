//! The write-ahead log at its bound: clients are held back, nothing is lost, and it goes on by itself.

use std::thread::sleep;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::Postgres;

#[test]
fn at_its_bound_the_log_holds_clients_back_and_resumes_by_itself() {
    let mut postgres = Postgres::stopped();
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_WAL_MAX_BYTES", "262144")
        .with("TALLYD_WAL_SEGMENT_BYTES", "65536")
        .start();
    let load = Load::start(&daemon.socket(), 2);
    let is_full = |status: &serde_json::Value| {
        let wal = &status["health"]["wal"];
        wal["status"] == "failing" && wal["message"].as_str().unwrap().contains("wal.max_bytes")
    };
    let status = daemon.until_status("the log is full", is_full);
    assert!(status["wal"]["bytes"].as_u64().unwrap() < 2 * 262_144, "{status:#}");
    sleep(Duration::from_millis(200));
    let later = daemon.status().unwrap();
    assert_eq!(later["wal"]["unflushed_records"], status["wal"]["unflushed_records"], "it goes on beyond its bound");
    assert!(load.acked().records() <= later["wal"]["unflushed_records"].as_u64().unwrap());
    // A kill there loses nothing either.
    daemon.kill();
    daemon.up();
    daemon.until_status("the log is full still", is_full);
    postgres.up();
    daemon.until_status("there is room again", |status| status["health"]["wal"]["status"] == "ok");
    load.until_acked(1_000);
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}
