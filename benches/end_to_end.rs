//! End to end against the bare minimum: how fast records become committed rows and rollups, as a share of what
//! PostgreSQL's own `\copy … BINARY` of the same rows into the same table takes.
//!
//! Both sides run in turn, in one process's time, on one private cluster. A round of tallyd: an empty table and empty
//! rollups, a fresh data folder, the release binary with its defaults; the clock runs from the first frame that a client
//! sends until the last record is committed, with the log synced, all rollups kept, every record priced. A round of
//! `\copy`: the very rows that the round before has loaded, from a file, into the same emptied table, by psql.
//!
//! `cargo bench --bench end_to_end -- [--records N] [--rounds N] [--users N] [--json FILE]`

mod support;

use std::time::Instant;

use support::{Cluster, Daemon, Options, median, records, send_all};

fn main() {
    let options = Options::from_arguments();
    let cluster = Cluster::start();
    println!("{}", cluster.describe());
    println!(
        "{} records of {} users a round, {} rounds, alternating\n",
        options.records, options.users, options.rounds
    );
    let batch = records(options.records, options.users);
    let (mut tallyd, mut copy) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        cluster.empty_tables();
        let daemon = Daemon::start(&cluster);
        let start = Instant::now();
        send_all(&daemon, &batch);
        daemon.wait_committed(options.records);
        let took = start.elapsed().as_secs_f64();
        let cpu = daemon.cpu_seconds();
        let memory = daemon.peak_memory_bytes();
        daemon.stop();
        cluster.check_equal();
        let file = cluster.dump_log();
        cluster.empty_tables();
        let start = Instant::now();
        cluster.copy_back(&file);
        let copied = start.elapsed().as_secs_f64();
        let rate = |seconds: f64| options.records as f64 / seconds;
        println!(
            "round {round}: tallyd {:>9.0} records/s, \\copy {:>9.0} rows/s, ratio {:.2}; daemon {:.2} us CPU a record, {} MiB at most",
            rate(took),
            rate(copied),
            copied / took,
            cpu * 1e6 / options.records as f64,
            memory >> 20,
        );
        tallyd.push(rate(took));
        copy.push(rate(copied));
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
    options.write_json(&tallyd, &copy, &ratios);
}
