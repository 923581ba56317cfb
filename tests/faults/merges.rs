//! Merges of users' deltas: the daemon or PostgreSQL is killed at each step, while another daemon merges, too.

use rand::RngExt;

use crate::inject::{after, failpoints, until_stopped};
use crate::rig::Rig;
use crate::run::Run;
use crate::support::daemon::Daemon;
use crate::support::postgres::Stop;
use crate::support::{signal, until};

/// Kills that share a database and a WAL.
const SERIES: u32 = 20;
/// The steps of a merge: the ring has turned, the side is frozen, one rollup has its sums, the side is empty, commit.
const STEPS: [&str; 5] = ["merge.turned", "merge.frozen", "merge.adding", "merge.deleted", "merge.committed"];
/// Makes a merge due once a second.
const DUE: &str = "merge.due=return";

/// Row 41: the daemon is killed at each step of a merge, while it loads and another daemon merges, too.
pub fn killed_in_a_merge(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, failpoints);
        let other = failpoints(Daemon::on(&rig.postgres.url())).with("FAILPOINTS", DUE).start();
        rig.produce(4);
        for round in series {
            let point = STEPS[round as usize % STEPS.len()];
            rig.until_acked(100);
            rig.daemon.kill();
            let kill = after(run.rng.random_range(0..2), point, "return(kill)");
            rig.daemon.set("FAILPOINTS", &format!("{DUE};flusher.user_rows=return(5);{kill}"));
            rig.daemon.up();
            until(&format!("the daemon is killed at {point}"), || {
                let ended = rig.daemon.has_ended().ok_or("it runs")?;
                if ended.code().is_none() { Ok(()) } else { panic!("it ended by itself: {ended}") }
            });
            rig.daemon.unset("FAILPOINTS");
            rig.daemon.up();
            run.step();
        }
        drop(other);
        rig.judge(run);
    }
}

/// Row 41: PostgreSQL is killed while a merge has added and deleted, and has not committed.
pub fn postgresql_killed(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, failpoints);
        rig.produce(4);
        for round in series {
            let point = ["merge.deleted", "merge.adding"][round as usize % 2];
            rig.until_acked(100);
            rig.daemon.kill();
            rig.daemon.set("FAILPOINTS", &format!("{DUE};{}", after(1, point, "return(stop)")));
            rig.daemon.up();
            let pid = rig.daemon.pid();
            until_stopped(pid);
            rig.postgres.down(Stop::Kill);
            signal(pid, rustix::process::Signal::CONT);
            rig.until_acked(50);
            rig.postgres.up();
            rig.drain_under_load(1_000);
            run.step();
        }
        rig.judge(run);
    }
}

/// Row 41: the number of waiting deltas is at its bound. Lanes wait, health reports it, and they continue afterwards.
pub fn lanes_wait(run: &mut Run) {
    for _ in run.rounds() {
        let mut rig =
            Rig::start(run, |daemon| failpoints(daemon).with("FAILPOINTS", "merge.rows=8*return(16000000)->off"));
        rig.produce(2);
        rig.daemon.until_status("lanes wait for a merge", |status| {
            status["health"]["flusher"].to_string().contains("deltas are not merged")
        });
        rig.daemon.until_status("loading goes on", |status| status["health"]["flusher"]["status"] == "ok");
        run.step();
        rig.judge(run);
    }
}
