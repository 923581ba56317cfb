//! The cost of `Recorder::record()` for its caller, with the daemon healthy, dead and stuck: it must be the same.
//! `full` is a dead daemon whose ring has filled up, so that every record is dropped. `spool` is a healthy daemon, and a spool
//! instead of the ring: the record is encoded and copied into a file's pages.
//!
//! Calls are timed one by one, paced so that the ring of a healthy daemon does not fill up. Two readings of the clock
//! enclose each call; their own time, the median of the same round, is subtracted. The cases take turns, so that
//! changes of the machine's speed affect all of them alike.

use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use tallyd_client::{Endpoint, Record, Recorder};

use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Cluster, Daemon, quantile};

const CALLS: usize = 200_000;
const PACE: Duration = Duration::from_micros(2);
const CASES: [&str; 5] = ["healthy", "dead", "stuck", "full", "spool"];
/// The goal of the median with a spool, in nanoseconds.
const SPOOL_GOAL: f64 = 150.0;
const GOALS: [(f64, &str, f64); 3] = [(0.5, "p50", 60.0), (0.99, "p99", 1_000.0), (0.999, "p99.9", 20_000.0)];

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    let mut clock = Vec::new();
    let mut cases: Vec<[Vec<f64>; 3]> = CASES.iter().map(|_| Default::default()).collect();
    for round in 1..=options.rounds {
        let readings = quantile(&mut time(|| ()), 0.5);
        clock.push(readings);
        for (case, quantiles) in CASES.iter().zip(&mut cases) {
            let mut nanoseconds = run(case, &cluster);
            for ((share, ..), rounds) in GOALS.iter().zip(quantiles) {
                rounds.push(quantile(&mut nanoseconds, *share) - readings);
            }
        }
        println!("round {round} of {}", options.rounds);
    }
    report.add("two readings of the clock (taken off)", "ns", Goal::Shown, clock);
    for (case, quantiles) in CASES.iter().zip(cases) {
        for ((_, name, goal), rounds) in GOALS.iter().zip(quantiles) {
            let goal = match (*case, *name) {
                ("full", _) => Goal::Shown,
                ("spool", "p50") => Goal::AtMost(SPOOL_GOAL),
                _ => Goal::AtMost(*goal),
            };
            report.add(format!("`record()` {name}, {case}"), "ns", goal, rounds);
        }
    }
}

fn run(case: &str, cluster: &Cluster) -> Vec<f64> {
    let nobody = tempfile::tempdir().expect("a folder");
    let daemon = match case {
        "healthy" | "stuck" | "spool" => Some(Daemon::start(cluster, Daemon::program())),
        _ => None,
    };
    let nowhere = Endpoint::unix(nobody.path().join("tallyd.sock"));
    let endpoint = daemon.as_ref().map_or(nowhere, Daemon::endpoint);
    let mut builder = Recorder::builder(endpoint).drop_deadline(Duration::from_millis(10));
    if case == "full" {
        builder = builder.ring_capacity(1).window_bytes(1);
    }
    if case == "spool" {
        builder = builder.spool(nobody.path().join("spool"));
    }
    let recorder = builder.build();
    if let (Some(daemon), "stuck") = (&daemon, case) {
        daemon.freeze();
    }
    let times = time(|| {
        black_box(recorder.record(Record::claude("claude-sonnet-4-20250514", 1200, 350)));
    });
    let stats = recorder.stats();
    println!("{case}: recorded {} dropped {} acked {}", stats.recorded, stats.dropped, stats.acked);
    drop(recorder);
    if let Some(daemon) = daemon {
        daemon.thaw();
        daemon.stop();
    }
    times
}

/// Nanoseconds of each call.
fn time(mut call: impl FnMut()) -> Vec<f64> {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begun = Instant::now();
        call();
        times.push(begun.elapsed().as_nanos() as f64);
        while begun.elapsed() < PACE {
            spin_loop();
        }
    }
    times
}
