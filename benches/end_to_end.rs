//! End to end against the bare minimum: how fast records become committed rows and rollups, as a share of what
//! PostgreSQL's own `\copy … BINARY` of the same rows into the same table takes.
//!
//! Both sides run in turn, in one process's time, on one private cluster. A round of tallyd: an empty table and empty
//! rollups, a fresh data folder, the release binary with its defaults; the clock runs from the first frame that a client
//! sends until the last record is committed, with the log synced, all rollups kept, every record priced. A round of
//! `\copy`: the very rows that the round before has loaded, from a file, into the same emptied table, by psql.
//!
//! `cargo bench --bench end_to_end -- [--records N] [--rounds N] [--users N] [--against BINARY] [--backlog] [--json FILE]`

mod support;

use std::path::Path;
use std::time::Instant;

use tallyd_client::Record;

use support::{Cluster, Daemon, Options, median, records, send_all};

fn main() {
    let options = Options::from_arguments();
    let mut cluster = Cluster::start();
    println!("{}", cluster.describe());
    println!(
        "{} records of {} users a round, {} rounds, alternating\n",
        options.records, options.users, options.rounds
    );
    let batch = records(options.records, options.users);
    let this = Path::new(env!("CARGO_BIN_EXE_tallyd"));
    let measure = if options.backlog { drain } else { end_to_end };
    let (mut tallyd, mut copy, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        if let Some(binary) = &options.against {
            other.push(measure(&mut cluster, binary, &batch, &format!("round {round}, the other")));
        }
        tallyd.push(measure(&mut cluster, this, &batch, &format!("round {round}")));
        let file = cluster.dump_log();
        cluster.empty_tables();
        let start = Instant::now();
        cluster.copy_back(&file);
        copy.push(options.records as f64 / start.elapsed().as_secs_f64());
        println!("round {round}: \\copy {:>9.0} rows/s", copy.last().expect("a round"));
    }
    let ratios: Vec<f64> = tallyd.iter().zip(&copy).map(|(tallyd, copy)| tallyd / copy).collect();
    println!(
        "\nmedian of {}: tallyd {:.0} records/s, \\copy {:.0} rows/s, ratio {:.2} ({:.2} to {:.2})",
        options.rounds,
        median(&tallyd),
        median(&copy),
        median(&ratios),
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
    );
    if !other.is_empty() {
        let gains: Vec<f64> = tallyd.iter().zip(&other).map(|(this, other)| this / other).collect();
        println!("this build / the other: {:.2}", median(&gains));
    }
    options.write_json(&tallyd, &copy, &ratios);
}

/// One round of the daemon, from an empty table to the last commit. Returns records a second.
fn end_to_end(cluster: &mut Cluster, binary: &Path, batch: &[Record], label: &str) -> f64 {
    cluster.empty_tables();
    let daemon = Daemon::start(cluster, binary);
    let start = Instant::now();
    send_all(&daemon, batch);
    daemon.wait_committed(batch.len());
    let rate = batch.len() as f64 / start.elapsed().as_secs_f64();
    finish(cluster, daemon, batch, rate, label);
    rate
}

/// One round of a backlog: everything is sent while PostgreSQL is stopped, and the clock runs from when it answers again
/// until the last commit. Returns records a second.
fn drain(cluster: &mut Cluster, binary: &Path, batch: &[Record], label: &str) -> f64 {
    cluster.empty_tables();
    let daemon = Daemon::start(cluster, binary);
    cluster.stop();
    send_all(&daemon, batch);
    let memory = daemon.peak_memory_bytes() >> 20;
    cluster.restart();
    let start = Instant::now();
    daemon.wait_committed(batch.len());
    let rate = batch.len() as f64 / start.elapsed().as_secs_f64();
    finish(cluster, daemon, batch, rate, &format!("{label}, {memory} MiB at most before the drain"));
    rate
}

fn finish(cluster: &Cluster, daemon: Daemon, batch: &[Record], rate: f64, label: &str) {
    let cpu_us = daemon.cpu_seconds() * 1e6 / batch.len() as f64;
    println!(
        "{label}: {rate:>9.0} records/s; daemon {cpu_us:.2} us CPU a record, {} MiB at most",
        daemon.peak_memory_bytes() >> 20
    );
    daemon.stop();
    cluster.check_equal();
}
