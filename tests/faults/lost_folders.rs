//! The data folder is gone with its daemon: the disk of a container, a machine that does not come back.

use std::thread::sleep;
use std::time::Duration;

use rand::RngExt;

use crate::database::{hold_lanes, until_loading};
use crate::rig::Rig;
use crate::run::Run;
use crate::support::until;

/// Losses that share a database.
const SERIES: u32 = 20;

/// Row 39: SIGKILL under load, and the next daemon begins with an empty folder. With acknowledgements after the COMMIT
/// nothing acknowledged is lost. In every second round the reply to a COMMIT is lost before, so that records are there
/// which nobody has acknowledged: their resend counts once.
pub fn acknowledged_after_the_commit(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::through_proxy(run, |daemon| daemon.with("TALLYD_WAL_ACK", "committed"));
        // A refused record that is sent again to an empty WAL is a second dead letter.
        rig.produce_flawless(4);
        // After the schema's own COMMITs.
        until_loading(&rig);
        for round in series {
            rig.until_acked(run.rng.random_range(1..400));
            if round.is_multiple_of(2) {
                lose_a_commit(&rig);
            } else {
                sleep(Duration::from_micros(run.rng.random_range(0..60_000)));
            }
            rig.daemon.kill();
            std::fs::remove_dir_all(rig.daemon.data()).unwrap();
            rig.daemon.up();
            run.step();
        }
        rig.judge(run);
    }
}

fn lose_a_commit(rig: &Rig) {
    let proxy = rig.proxy.as_ref().unwrap();
    let before = proxy.commits_lost();
    proxy.lose_commits(1);
    until("the reply to a COMMIT is lost", || if proxy.commits_lost() > before { Ok(()) } else { Err("none".into()) });
}

/// Row 39 with acknowledgements after the sync, the default: exactly the records that were acknowledged and not
/// committed are missing.
pub fn acknowledged_before_it(run: &mut Run) {
    for _ in run.rounds() {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.produce_flawless(4);
        until_loading(&rig);
        let mut holder = hold_lanes(&rig);
        rig.until_acked(500);
        // Each sent record is acknowledged.
        rig.rest();
        rig.daemon.kill();
        std::fs::remove_dir_all(rig.daemon.data()).unwrap();
        let committed: u64 = rig.postgres.psql("SELECT count(*) FROM api_usage_log").parse().unwrap();
        holder.run("COMMIT");
        rig.daemon.up();
        let verdict = rig.verdict();
        assert_eq!(verdict.lost, verdict.acked - committed, "{verdict:#?}");
        assert!(verdict.lost >= 500 && verdict.doubled + verdict.altered + verdict.foreign == 0, "{verdict:#?}");
        rig.daemon.assert_reconciled();
        run.noticed(&verdict);
        run.step();
    }
}
