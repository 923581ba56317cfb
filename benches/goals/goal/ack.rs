//! The time of an acknowledgement beside one fdatasync of this disk, while PostgreSQL loads the records; and both settings of
//! `wal.ack` side by side: `durable` acknowledges after the sync, `committed` after PostgreSQL's COMMIT. Each has the time of an
//! acknowledgement, and the rate at which one producer records.

use std::time::Instant;

use super::pace::{Pace, fdatasync, latencies};
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Calls, Cluster, Daemon, quantile, send_all};

const PACES: [(&str, Pace, f64); 2] = [
    ("1,000", Pace { connections: 1, frame_records: 1, frames: 5_000 }, 5.0),
    ("100,000", Pace { connections: 10, frame_records: 10, frames: 5_000 }, 20.0),
];

/// The settings of `wal.ack`.
const ACKS: [&str; 2] = ["durable", "committed"];
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

/// The figures of one setting, one a round: milliseconds to the acknowledgement at the slow pace, and records a second until all
/// are acknowledged and in PostgreSQL.
#[derive(Default)]
struct Ack {
    p50: Vec<f64>,
    p99: Vec<f64>,
    rates: Vec<f64>,
}

/// Both settings in turn, in each round.
fn committed(options: &Options, report: &mut Report, cluster: &Cluster) {
    let mut found: [Ack; 2] = Default::default();
    let records: Vec<_> = Calls::new(500, 1).take(RECORDS).collect();
    for round in 1..=options.rounds {
        for (ack, found) in ACKS.into_iter().zip(&mut found) {
            let start = || {
                cluster.empty_tables();
                Daemon::start_with(cluster, cluster.program(), &[("TALLYD_WAL_ACK", ack)])
            };
            let daemon = start();
            let mut waits = latencies(&daemon, PACES[0].1);
            found.p50.push(quantile(&mut waits, 0.5));
            found.p99.push(quantile(&mut waits, 0.99));
            daemon.stop();
            let daemon = start();
            let began = Instant::now();
            send_all(&daemon, &records);
            daemon.wait_committed(RECORDS);
            found.rates.push(RECORDS as f64 / began.elapsed().as_secs_f64());
            daemon.stop();
        }
        println!("round {round} of {}, both settings of wal.ack", options.rounds);
    }
    let [durable, committed] = &found;
    report.add_ratio("records a second, committed ÷ durable", Goal::AtLeast(0.5), &committed.rates, &durable.rates);
    for ((name, found), p99) in ACKS.into_iter().zip(found).zip([Goal::Shown, Goal::AtMost(500.0)]) {
        let name = |what: &str| format!("wal.ack = {name}: {what}");
        report.add(name("ack p50 at 1,000 records a second"), "ms", Goal::Shown, found.p50);
        report.add(name("ack p99 at 1,000 records a second"), "ms", p99, found.p99);
        report.add(name("one producer's records in PostgreSQL"), "/s", Goal::Shown, found.rates);
    }
}
