//! The time of an acknowledgement beside one fdatasync of this disk, while PostgreSQL loads the records; and the time of
//! one that waits for PostgreSQL's COMMIT (`wal.ack = "committed"`), with the rate at which one producer then records.

use std::time::Instant;

use super::pace::{Pace, fdatasync, latencies};
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Calls, Cluster, Daemon, quantile, send_all};

const PACES: [(&str, Pace, f64); 2] = [
    ("1,000", Pace { connections: 1, frame_records: 1, frames: 5_000 }, 5.0),
    ("100,000", Pace { connections: 10, frame_records: 10, frames: 5_000 }, 20.0),
];

/// Acknowledgements after the COMMIT.
const COMMITTED: &[(&str, &str)] = &[("TALLYD_WAL_ACK", "committed")];
/// Records of a round of recording.
const RECORDS: usize = 300_000;

/// The figures of one build at one pace, one a round, in syncs.
#[derive(Default)]
struct Waits {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    let against = options.against.as_deref().map(Cluster::of);
    let mut syncs = Vec::new();
    let (mut this, mut other): ([Waits; 2], [Waits; 2]) = Default::default();
    for round in 1..=options.rounds {
        for (index, (_, pace, _)) in PACES.into_iter().enumerate() {
            if let Some(against) = &against {
                look(against, pace, &mut other[index]);
            }
            syncs.push(look(&cluster, pace, &mut this[index]) * 1e3);
        }
        println!("round {round} of {}", options.rounds);
    }
    report.add("one append of 4 KiB with fdatasync", "µs", Goal::Shown, syncs);
    committed(options, report, &cluster);
    for ((rate, _, goal), (this, other)) in PACES.into_iter().zip(this.into_iter().zip(other)) {
        let name = |what: &str| format!("ack {what} at {rate} records a second");
        if !other.p99.is_empty() {
            report.add_ratio(name("p50") + ", this build ÷ the other", Goal::Shown, &this.p50, &other.p50);
            report.add_ratio(name("p99") + ", this build ÷ the other", Goal::Shown, &this.p99, &other.p99);
            report.add(name("p99") + " ÷ one fdatasync, the other build", "×", Goal::Shown, other.p99);
        }
        report.add(name("p50") + " ÷ one fdatasync", "×", Goal::Shown, this.p50);
        report.add(name("p99") + " ÷ one fdatasync", "×", Goal::AtMost(goal), this.p99);
    }
}

/// One round of the build whose schema the cluster has. Returns the milliseconds of one sync.
fn look(cluster: &Cluster, pace: Pace, found: &mut Waits) -> f64 {
    cluster.empty_tables();
    let daemon = Daemon::start(cluster, cluster.program());
    let sync = fdatasync(&daemon);
    let mut waits = latencies(&daemon, pace);
    found.p50.push(quantile(&mut waits, 0.5) / sync);
    found.p99.push(quantile(&mut waits, 0.99) / sync);
    daemon.stop();
    sync
}

/// Both modes in turn: milliseconds to the acknowledgement at the slow pace, and records a second until all are acknowledged
/// and in PostgreSQL.
fn committed(options: &Options, report: &mut Report, cluster: &Cluster) {
    let (mut p50, mut p99): (Vec<f64>, Vec<f64>) = Default::default();
    let mut rates: [Vec<f64>; 2] = Default::default();
    let records: Vec<_> = Calls::new(500, 1).take(RECORDS).collect();
    for round in 1..=options.rounds {
        cluster.empty_tables();
        let daemon = Daemon::start_with(cluster, cluster.program(), COMMITTED);
        let mut waits = latencies(&daemon, PACES[0].1);
        p50.push(quantile(&mut waits, 0.5));
        p99.push(quantile(&mut waits, 0.99));
        daemon.stop();
        for (settings, rates) in [&[][..], COMMITTED].into_iter().zip(&mut rates) {
            cluster.empty_tables();
            let daemon = Daemon::start_with(cluster, cluster.program(), settings);
            let start = Instant::now();
            send_all(&daemon, &records);
            daemon.wait_committed(RECORDS);
            rates.push(RECORDS as f64 / start.elapsed().as_secs_f64());
            daemon.stop();
        }
        println!("round {round} of {}, after the COMMIT", options.rounds);
    }
    report.add("ack after the COMMIT p50 at 1,000 records a second", "ms", Goal::Shown, p50);
    report.add("ack after the COMMIT p99 at 1,000 records a second", "ms", Goal::AtMost(500.0), p99);
    let [durable, committed] = rates;
    report.add("one producer's records in PostgreSQL, acks after the sync", "/s", Goal::Shown, durable.clone());
    report.add("one producer's records in PostgreSQL, acks after the COMMIT", "/s", Goal::Shown, committed.clone());
    report.add_ratio("acks after the COMMIT ÷ acks after the sync", Goal::AtLeast(0.5), &committed, &durable);
}
