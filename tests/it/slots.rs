//! Load slots: while other daemons hold them, a batch grows, and no lane waits for ever.

use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, PsqlSession};
use crate::support::until;

/// Takes load slots as other daemons do: rows of `tallyd_locks`, four a lane.
fn take(postgres: &Postgres, slots: std::ops::Range<u16>) -> PsqlSession {
    let mut others = postgres.session();
    let (first, last) = (slots.start, slots.end - 1);
    others.run(&format!(
        "BEGIN; SELECT FROM tallyd_locks WHERE name = 'load' AND number BETWEEN {first} AND {last} FOR UPDATE"
    ));
    others
}

const FIRST_LANE: std::ops::Range<u16> = 0..4;
const SECOND_LANE: std::ops::Range<u16> = 4..8;

/// The number of times that a batch found no slot.
fn crowded(daemon: &Daemon) -> u64 {
    let metrics = daemon.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix("tallyd_flush_crowded_total "));
    line.map_or(0, |count| count.parse().unwrap())
}

fn until_crowded(daemon: &Daemon, times: u64) {
    until("a batch finds no slot", || {
        let found = crowded(daemon);
        if found >= times { Ok(()) } else { Err(format!("{found} of {times} times")) }
    });
}

const CALL: &str = "{\"provider\":\"rentcast\",\"user_id\":\"u\"}\n";

#[test]
fn a_batch_that_finds_no_slot_goes_on_filling() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_FLUSHER_LANES", "1").start();
    daemon.until_status("the database is there", |status| status["database"]["connected"] == true);
    let others = take(&postgres, FIRST_LANE);
    daemon.lines(CALL);
    until_crowded(&daemon, 1);
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log"), "0");
    daemon.lines(&CALL.repeat(10));
    // The batch has taken the new calls before it looks for a slot the second time from now.
    until_crowded(&daemon, crowded(&daemon) + 2);
    drop(others);
    postgres.until_calls(11);
    assert_eq!(postgres.psql("SELECT count(DISTINCT xmin::text) FROM api_usage_log"), "1", "it was one batch");
    daemon.assert_reconciled();
}

#[test]
fn a_lane_waits_for_no_other_lanes_slots() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.until_status("the database is there", |status| status["database"]["connected"] == true);
    let _others = take(&postgres, SECOND_LANE);
    daemon.lines(CALL);
    postgres.until_calls(1);
    assert_eq!(crowded(&daemon), 0, "a single call is the first lane's");
    daemon.assert_reconciled();
}

#[test]
fn slots_that_nobody_gives_back_keep_nobody_for_ever() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.until_status("the database is there", |status| status["database"]["connected"] == true);
    let _others = take(&postgres, FIRST_LANE);
    let began = std::time::Instant::now();
    daemon.lines(CALL);
    postgres.until_calls(1);
    assert!(began.elapsed() >= Duration::from_secs(10), "it did not wait: {:?}", began.elapsed());
    daemon.assert_reconciled();
}
