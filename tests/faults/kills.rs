//! The daemon is killed at random moments.

use std::thread::sleep;
use std::time::Duration;

use rand::RngExt;

use crate::rig::Rig;
use crate::run::Run;

/// Kills that share a database and a WAL. The oracle compares after each series.
const SERIES: u32 = 50;

/// Row 1: SIGKILL at random moments under load from several producers.
pub fn at_random(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.produce(4);
        for _ in series {
            // Every fourth kill comes during the start, the others under load.
            if run.rng.random_range(0..4) > 0 {
                rig.until_acked(run.rng.random_range(1..400));
            }
            sleep(Duration::from_micros(run.rng.random_range(0..60_000)));
            rig.daemon.kill();
            if run.rng.random_range(0..4) == 0 {
                rig.daemon.spawn();
                sleep(Duration::from_micros(run.rng.random_range(0..40_000)));
                rig.daemon.kill();
            }
            rig.daemon.up();
            run.step();
        }
        rig.judge(run);
    }
}
