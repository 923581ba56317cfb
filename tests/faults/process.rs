//! The process itself: its clock, threads, limits and orderly end.

use std::process::ExitStatus;
use std::time::Duration;

use rand::RngExt;
use rustix::process::Signal;

use crate::inject::{after, failpoints};
use crate::rig::Rig;
use crate::run::Run;
use crate::support::{signal, until};

/// Row 28: the clock jumps by months in both directions, under load and while the daemon is down. Order and durability
/// hold, due batches are loaded although the clock says it is too early, and no producer is forgotten as idle.
pub fn the_clock_jumps(run: &mut Run) {
    const DAY_US: i64 = 86_400_000_000;
    // With a clock months in the past, today's dead letters would later be old enough to be deleted.
    let mut rig = Rig::start(run, |daemon| failpoints(daemon).with("TALLYD_DEAD_LETTERS_KEEP_DAYS", "0"));
    rig.produce(3);
    for _ in run.rounds() {
        rig.until_acked(300);
        rig.daemon.kill();
        // Each offset holds for this many readings of the clock. The producers' calls are older than any of its values.
        let mut jumps = Vec::new();
        for _ in 0..20 {
            let reads = run.rng.random_range(1..150);
            let days = [-150, -1, 0, 1, 45, 1_000][run.rng.random_range(0..6)];
            jumps.push(format!("{reads}*return({})", days * DAY_US));
        }
        jumps.push(format!("return({})", run.rng.random_range(-150..0) * DAY_US));
        rig.daemon.set("FAILPOINTS", &format!("clock.ahead_us={}", jumps.join("->")));
        rig.daemon.up();
        rig.until_acked(1_500);
        rig.drain_under_load(500);
        rig.daemon.kill();
        rig.daemon.unset("FAILPOINTS");
        rig.daemon.up();
        run.step();
    }
    rig.judge(run);
}

/// Row 29: a thread or a task panics. If the daemon needs it, the daemon ends with an error and recovers at its next
/// start. A connection's task ends only its connection.
pub fn a_task_dies(run: &mut Run) {
    let mut rig = Rig::start(run, failpoints);
    rig.produce(3);
    let fatal = [
        "wal.appended",
        "wal.committed",
        "flusher.copied",
        "flusher.committed",
        "listener.accepted",
        "background.gauges",
    ];
    for round in run.rounds() {
        let point = fatal[round as usize % fatal.len()];
        rig.until_acked(100);
        rig.daemon.kill();
        rig.daemon.set("FAILPOINTS", &format!("{};connection.frame=40*off->2*panic->off", after(1, point, "panic")));
        rig.daemon.spawn();
        let ended = ends(&mut rig, point);
        assert!(ended.code().is_some_and(|code| code != 0), "{point}: {ended}");
        assert!(rig.daemon.log().contains("the daemon ends"), "it does not say why");
        rig.daemon.set("FAILPOINTS", "connection.frame=40*off->2*panic->off");
        rig.daemon.up();
        // Two connections died, the daemon did not.
        rig.until_acked(500);
        run.step();
    }
    rig.judge(run);
}

fn ends(rig: &mut Rig, why: &str) -> ExitStatus {
    until(&format!("the daemon ends ({why})"), || rig.daemon.has_ended().ok_or_else(|| "it runs".into()))
}

/// Row 30, descriptors: more clients than the process may have open files. Those that fit are served, the WAL still
/// rotates its segments, and the others are served later.
pub fn few_descriptors(run: &mut Run) {
    for _ in run.rounds() {
        let limit = run.rng.random_range(70..140);
        let mut rig = Rig::stopped(run, |daemon| daemon);
        rig.daemon.wrap(["prlimit", &format!("--nofile={limit}:{limit}"), "--"].map(Into::into).into());
        rig.daemon.up();
        rig.produce(2);
        rig.until_acked(200);
        // A client that is not accepted waits in the listener's queue, so its `connect` succeeds, too.
        let crowd: Vec<_> =
            (0..2 * limit).filter_map(|_| std::os::unix::net::UnixStream::connect(rig.daemon.socket()).ok()).collect();
        rig.until_acked(3_000);
        drop(crowd);
        rig.judge(run);
        run.step();
    }
}

/// Row 30, memory: an address space that is too small at the start, a little later, or not at all. The daemon does not
/// start, ends with an error or a signal, or works. Its acknowledged records are there in any case.
pub fn little_memory(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon);
    rig.produce(2);
    let mut ended = 0;
    for _ in run.rounds() {
        rig.until_acked(100);
        rig.daemon.kill();
        let bytes = run.rng.random_range(30_u64..700) << 20;
        rig.daemon.wrap(["prlimit", &format!("--as={bytes}:{bytes}"), "--"].map(Into::into).into());
        rig.daemon.spawn();
        let before = rig.acked();
        let outcome = until("it ends, or works", || match rig.daemon.has_ended() {
            Some(status) => Ok(Some(status)),
            None if rig.acked() > before + 1_000 => Ok(None),
            None => Err("neither".into()),
        });
        rig.daemon.wrap(Vec::new());
        match outcome {
            Some(status) => {
                assert!(!status.success(), "it claims to have ended well: {status}");
                ended += 1;
            }
            None => rig.daemon.kill(),
        }
        rig.daemon.up();
        run.step();
    }
    run.figure("ended", ended);
    rig.judge(run);
}

/// Row 31: SIGTERM under load. Received records are durable and acknowledged, durable ones are loaded, and the daemon
/// ends with exit code 0 before its deadline.
pub fn sigterm_under_load(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon);
    rig.produce(4);
    for _ in run.rounds() {
        // Before it has connected to the database it could not load.
        rig.daemon.until_status("it loads", |status| status["health"]["flusher"]["status"] == "ok");
        rig.until_acked(run.rng.random_range(1..500));
        std::thread::sleep(Duration::from_micros(run.rng.random_range(0..30_000)));
        let said = rig.daemon.log().len();
        signal(rig.daemon.pid(), Signal::TERM);
        let status = ends(&mut rig, "SIGTERM");
        assert_eq!(status.code(), Some(0));
        let said = rig.daemon.log().split_off(said);
        assert!(said.contains("every record is in PostgreSQL") && !said.contains("at the deadline"), "{said}");
        // Everything is loaded: the oracle compares while no daemon runs.
        let verdict = crate::oracle::judge(&rig.ledgers(), &rig.postgres);
        assert!(verdict.is_clean(), "{verdict:#?}");
        rig.daemon.up();
        run.step();
    }
    rig.judge(run);
}
