//! Two daemons load the same WAL, or the database is restored from a backup.

use rand::RngExt;
use rustix::process::Signal;

use crate::database::{hold_lanes, until_loading};
use crate::inject::{after, failpoints, until_stopped};
use crate::rig::Rig;
use crate::run::Run;
use crate::support::daemon::Daemon;
use crate::support::postgres::Stop;
use crate::support::signal;

/// Row 25: a daemon is suspended in the middle of its transactions, another one loads everything from a copy of its
/// WAL, and the first one is resumed. The watermark fences it off. In every second round its sessions are still open,
/// and it is resumed while the other one waits for them.
pub fn zombie_flusher(run: &mut Run) {
    for round in run.rounds() {
        let mut rig = Rig::start(run, |daemon| daemon);
        // A refused record's second copy would violate a unique constraint, and so hide a batch that is loaded twice.
        rig.produce_flawless(4);
        until_loading(&rig);
        let mut holder = hold_lanes(&rig);
        rig.until_acked(1_000);
        rig.rest();
        let zombie = rig.daemon.pid();
        signal(zombie, Signal::STOP);

        let mut second = on_a_copy(&rig);
        let is_open = round.is_multiple_of(2);
        if !is_open {
            rig.postgres.psql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tallyd flusher'",
            );
        }
        holder.run("COMMIT");
        second.up();
        if is_open {
            let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'tallyd flusher' \
                AND wait_event_type = 'Lock'";
            rig.postgres.until(waits, "t");
            signal(zombie, Signal::CONT);
        }
        second.until_status("the other one has loaded everything", |status| status["wal"]["unflushed_records"] == 0);
        second.kill();
        if !is_open {
            signal(zombie, Signal::CONT);
        }
        rig.judge(run);
        run.step();
    }
}

/// Row 25 at its worst: a daemon is suspended with a batch in memory, before its transaction. Another one loads that
/// batch and all the others, and the first one is resumed with its old batch. Only the fence stops it.
pub fn zombie_with_a_batch_in_hand(run: &mut Run) {
    for _ in run.rounds() {
        let mut rig = woken_with_a_batch_in_hand(run, "");
        rig.judge(run);
        run.step();
    }
}

/// The oracle must notice a missing fence: the batch in memory is loaded a second time.
pub fn a_missing_fence_is_noticed(run: &mut Run) {
    for _ in run.rounds() {
        let mut rig = woken_with_a_batch_in_hand(run, ";flusher.watermark_unchecked=return");
        let verdict = rig.verdict();
        assert!(verdict.doubled > 0 && verdict.lost == 0, "the oracle did not notice: {verdict:#?}");
        run.noticed(&verdict);
        run.step();
    }
}

fn woken_with_a_batch_in_hand(run: &mut Run, more: &str) -> Rig {
    let passes = run.rng.random_range(0..20);
    let points = after(passes, "flusher.collected", "return(stop)") + more;
    // One lane: another's open transaction would keep the other daemon waiting.
    let mut rig =
        Rig::start(run, |daemon| failpoints(daemon).with("FAILPOINTS", &points).with("TALLYD_FLUSHER_LANES", "1"));
    // Upkeep's work at the start is over: a suspended transaction of upkeep would also keep the other daemon waiting.
    rig.postgres.until("SELECT count(*) > 0 FROM api_prices", "t");
    rig.postgres.until("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tallyd upkeep%'", "0");
    // A refused record's second copy would violate a unique constraint, and so hide a batch that is loaded twice.
    rig.produce_flawless(4);
    let zombie = rig.daemon.pid();
    until_stopped(zombie);
    let mut second = on_a_copy(&rig);
    second.up();
    second.until_status("the other one has loaded everything", |status| status["wal"]["unflushed_records"] == 0);
    second.kill();
    signal(zombie, Signal::CONT);
    rig
}

/// Another daemon on a copy of the WAL.
fn on_a_copy(rig: &Rig) -> Daemon {
    let second = Daemon::on(&rig.postgres.url()).with("TALLYD_FLUSHER_MAX_BATCH_RECORDS", "500");
    std::fs::create_dir_all(second.data()).unwrap();
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(rig.daemon.data().join("wal")).arg(second.data().join("wal"));
    assert!(copy.status().unwrap().success());
    second
}

/// Row 33: the database is restored from a backup under a running daemon. The daemon notices, holds loading, still
/// accepts, and names the command that loads the records which its WAL still has.
pub fn database_restored(run: &mut Run) {
    for _ in run.rounds() {
        // One segment, so that the WAL still has everything.
        let mut rig = Rig::start(run, |daemon| daemon.with("TALLYD_WAL_SEGMENT_BYTES", "67108864"));
        rig.produce(4);
        until_loading(&rig);
        rig.postgres.down(Stop::Fast);
        rig.postgres.back_up();
        rig.postgres.up();
        let acked = rig.acked();
        rig.until_acked(500);
        rig.postgres.until(&format!("SELECT count(*) > {acked} FROM api_usage_log"), "t");
        rig.postgres.down(Stop::Fast);
        rig.postgres.restore();
        rig.postgres.up();

        let status = rig.daemon.until_status("loading holds", |status| {
            let lanes = status["database"]["lanes"].as_array().unwrap();
            !lanes.is_empty() && lanes.iter().any(|lane| lane["hold"] == true)
        });
        let message = status["health"]["flusher"]["message"].as_str().unwrap();
        assert!(message.contains("tallyd serve --accept-rewound-database"), "{message}");
        rig.until_acked(500);
        rig.rest();
        rig.daemon.kill();
        rig.daemon.up_with(&["serve", "--accept-rewound-database"]);
        rig.judge(run);
        run.step();
    }
}
