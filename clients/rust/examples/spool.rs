//! Measures `record()` with a spool: `cargo run --release --example spool -- FOLDER [SOCKET]`, or `-` for no spool.
//! Without a daemon at the socket the spool fills up, and then records are dropped.
//!
//! Prints the median, p99 and p99.9 of the time of one call, less that of two readings of the clock.

use std::time::{Duration, Instant};

use tallyd_client::{Endpoint, Record, Recorder};

const BURST: usize = 500;
const BURSTS: usize = 400;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("usage: spool FOLDER [SOCKET]");
    let socket = arguments.next().unwrap_or_else(|| "/run/tallyd/tallyd.sock".into());
    let builder = Recorder::builder(Endpoint::unix(socket)).app("spool-example");
    let recorder = if folder == "-" { builder.build() } else { builder.spool(folder).build() };
    let clock = median(times(|| ()));
    let call = || recorder.record(Record::claude("claude-sonnet-5", 1200, 350).user("user-42"));
    let mut all = times(|| {
        let _ = call();
    });
    all.sort_unstable();
    let at = |share: f64| all[(all.len() as f64 * share) as usize].saturating_sub(clock).as_nanos();
    println!("p50 {} ns, p99 {} ns, p99.9 {} ns", at(0.5), at(0.99), at(0.999));
    println!("{:?}", recorder.stats());
}

/// Times of single calls, in bursts with pauses, as an application makes them.
fn times(call: impl Fn()) -> Vec<Duration> {
    let mut times = Vec::with_capacity(BURST * BURSTS);
    for _ in 0..BURSTS {
        for _ in 0..BURST {
            let begun = Instant::now();
            call();
            times.push(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
