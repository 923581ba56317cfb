//! What `record()` costs its caller, with the daemon healthy, dead and stuck: it must be the same.
//! `full` is a dead daemon whose ring has filled up, so that every record is dropped.
//!
//! `cargo bench -p tallyd-client`. Calls are timed one by one, paced so that the ring of a healthy daemon does not fill
//! up. The clock's own cost, printed first, is part of every figure: two of its readings enclose each call.
//! The cases take turns, so that a change of the machine's mood meets them all alike.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use support::{Daemon, Script};
use tallyd_client::{Endpoint, Record, Recorder};

const CALLS: usize = 200_000;
const ROUNDS: usize = 5;
const PACE: Duration = Duration::from_micros(2);

fn main() {
    print("clock", &mut time(|| Duration::ZERO));
    for round in 1..=ROUNDS {
        println!("round {round}");
        for case in ["healthy", "dead", "stuck", "full"] {
            run(case);
        }
    }
}

fn run(case: &str) {
    // A temporary directory that cannot be made leaves nothing to measure.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("tallyd.sock");
    let daemon = match case {
        "healthy" => Some(Daemon::start(&path, [])),
        "stuck" => Some(Daemon::start(&path, [Script::Stuck])),
        _ => None,
    };
    let mut builder = Recorder::builder(Endpoint::unix(&path)).drop_deadline(Duration::from_millis(10));
    if case == "full" {
        builder = builder.ring_capacity(1).window_bytes(1);
    }
    let recorder = builder.build();
    let mut times = time(|| {
        let record = Record::claude("claude-sonnet-4-20250514", 1200, 350);
        let begun = Instant::now();
        black_box(recorder.record(record));
        begun.elapsed()
    });
    print(case, &mut times);
    let stats = recorder.stats();
    println!("          recorded {} dropped {} acked {}", stats.recorded, stats.dropped, stats.acked);
    drop(recorder);
    drop(daemon);
}

fn time(mut call: impl FnMut() -> Duration) -> Vec<Duration> {
    let mut times = Vec::with_capacity(CALLS);
    let empty = call() == Duration::ZERO;
    for _ in 0..CALLS {
        let begun = Instant::now();
        times.push(if empty { begun.elapsed() } else { call() });
        while begun.elapsed() < PACE {
            spin_loop();
        }
    }
    times
}

fn print(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{name:>8}  p50 {:?}  p99 {:?}  p99.9 {:?}  max {:?}", at(0.5), at(0.99), at(0.999), at(1.0));
}
