//! The daemon is killed at chosen steps of a record's way, by fail points in its code.

use rand::RngExt;

use crate::inject::{after, failpoints};
use crate::rig::Rig;
use crate::run::Run;
use crate::support::until;

/// Kills that share a database and a WAL.
const SERIES: u32 = 20;

/// Row 3: killed after a group was appended, handed to the system, synced, or committed, and before it is acknowledged.
/// The producers send it again, and it counts once.
pub fn before_the_ack(run: &mut Run) {
    killed_at(run, &["wal.appended", "wal.flushed", "wal.synced", "wal.committed"], 60, "20");
}

/// Row 3 in its rarer places: while a segment ends and the next one begins.
pub fn in_a_rotation(run: &mut Run) {
    killed_at(run, &["wal.identities", "wal.sealed", "wal.created"], 3, "20");
}

/// Row 4: killed after COMMIT, before the lane has noted it and the WAL is trimmed; and while it is trimmed. Batches
/// that are in the database are skipped.
pub fn after_commit(run: &mut Run) {
    killed_at(run, &["flusher.committed", "wal.trimming", "wal.deleting"], 4, "20");
}

/// Row 5: killed with a COPY half sent, all sent, or with the rollups done. The uncommitted batch is loaded again.
pub fn in_mid_transaction(run: &mut Run) {
    killed_at(run, &["flusher.copying", "flusher.copied", "flusher.rolled_up"], 3, "400");
}

fn killed_at(run: &mut Run, points: &[&str], passes_max: u32, flush_interval_ms: &str) {
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| {
            let daemon = failpoints(daemon).with("TALLYD_FLUSHER_FLUSH_INTERVAL_MS", flush_interval_ms);
            daemon.with("TALLYD_FLUSHER_MAX_BATCH_RECORDS", "20000")
        });
        rig.produce(4);
        for round in series {
            let point = points[round as usize % points.len()];
            rig.until_acked(100);
            rig.daemon.kill();
            rig.daemon.set("FAILPOINTS", &after(run.rng.random_range(0..passes_max), point, "return(kill)"));
            rig.daemon.spawn();
            until(&format!("the daemon is killed at {point}"), || {
                let ended = rig.daemon.has_ended().ok_or("it runs")?;
                // Killed, not ended: it has no exit code.
                if ended.code().is_none() { Ok(()) } else { panic!("it ended by itself: {ended}") }
            });
            rig.daemon.unset("FAILPOINTS");
            rig.daemon.up();
            run.step();
        }
        rig.judge(run);
    }
}

/// The oracle must notice a doubled batch. The watermark is neither read nor checked here, so that a batch whose COMMIT
/// succeeded but whose reply was lost is loaded twice.
pub fn an_ignored_watermark_is_noticed(run: &mut Run) {
    for _ in run.rounds() {
        let mut rig = Rig::through_proxy(run, |daemon| {
            let ignored = "flusher.watermark_ignored=return;flusher.watermark_unchecked=return";
            failpoints(daemon).with("FAILPOINTS", ignored)
        });
        // A refused record's second copy would violate a unique constraint, and so hide the doubled batch.
        rig.produce_flawless(2);
        // After the schema's own COMMITs.
        rig.postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
        let proxy = rig.proxy.as_ref().unwrap();
        proxy.lose_commits(2);
        until("answers to COMMIT are lost", || match proxy.commits_lost() {
            2 => Ok(()),
            lost => Err(format!("{lost} of 2")),
        });
        let verdict = rig.verdict();
        assert!(verdict.doubled > 0 && verdict.lost == 0, "the oracle did not notice: {verdict:#?}");
        run.noticed(&verdict);
        run.step();
    }
}
