//! The daemon is killed at random moments, and loses and doubles nothing.

use std::thread::sleep;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::Postgres;

/// Kills in a row.
const KILLS: u32 = 8;

#[test]
fn killed_at_random_moments_it_keeps_every_acknowledged_record_exactly_once() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let postgres = Postgres::start();
    // Small segments, so that kills also meet rotation and trimming; small batches, so that they meet each of its
    // steps.
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_WAL_SEGMENT_BYTES", "65536")
        .with("TALLYD_FLUSHER_MAX_BATCH_RECORDS", "500")
        .start();
    let load = Load::start(&daemon.socket(), 2);
    for kill in 1..=KILLS {
        load.until_acked(500);
        let pause = Duration::from_micros(rng.random_range(0..80_000));
        sleep(pause);
        let acked = load.acked().records();
        daemon.kill();
        println!("seed {seed}, kill {kill}: after {acked} records and {pause:?}");
        daemon.up();
    }
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn killed_before_anything_was_loaded_it_loads_everything_after_the_restart() {
    let mut postgres = Postgres::stopped();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let load = Load::start(&daemon.socket(), 2);
    load.until_acked(1_000);
    daemon.kill();
    daemon.up();
    load.until_acked(1_000);
    daemon.kill();
    postgres.up();
    daemon.up();
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

/// `TALLYD_TEST_SEED`, which repeats a failure, or a random seed.
fn seed() -> u64 {
    let given = std::env::var("TALLYD_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("TALLYD_TEST_SEED is a number"));
    println!("TALLYD_TEST_SEED={seed} repeats this");
    seed
}
