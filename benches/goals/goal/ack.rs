//! How long an acknowledgement takes beside one fdatasync of this disk, while PostgreSQL loads what is acknowledged.

use super::pace::{Pace, fdatasync, latencies};
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Cluster, Daemon, quantile};

const SLOW: Pace = Pace { connections: 1, frame_records: 1, frames: 5_000 };
const FAST: Pace = Pace { connections: 10, frame_records: 10, frames: 5_000 };

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    let mut syncs = Vec::new();
    let mut figures: [(Vec<f64>, Vec<f64>); 2] = Default::default();
    for round in 1..=options.rounds {
        for (pace, (p50s, p99s)) in [SLOW, FAST].into_iter().zip(&mut figures) {
            cluster.empty_tables();
            let daemon = Daemon::start(&cluster, Daemon::program());
            let sync = fdatasync(&daemon);
            let mut waits = latencies(&daemon, pace);
            p50s.push(quantile(&mut waits, 0.5) / sync);
            p99s.push(quantile(&mut waits, 0.99) / sync);
            syncs.push(sync * 1e3);
            daemon.stop();
        }
        println!("round {round} of {}", options.rounds);
    }
    report.add("one append of 4 KiB with fdatasync", "µs", Goal::Shown, syncs);
    let [slow, fast] = figures;
    report.add("ack p50 at 1,000 records a second ÷ one fdatasync", "×", Goal::Shown, slow.0);
    report.add("ack p99 at 1,000 records a second ÷ one fdatasync", "×", Goal::AtMost(5.0), slow.1);
    report.add("ack p50 at 100,000 records a second ÷ one fdatasync", "×", Goal::Shown, fast.0);
    report.add("ack p99 at 100,000 records a second ÷ one fdatasync", "×", Goal::AtMost(20.0), fast.1);
}
