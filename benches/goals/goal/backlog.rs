//! A long outage: ten million records arrive while PostgreSQL is stopped; the daemon is killed, starts again, accepts; then
//! PostgreSQL answers again, and the backlog loads.

use std::time::Instant;

use tallyd_client::Record;

use crate::options::Options;
use crate::report::{Goal, Report};
use crate::side::copy::Rows;
use crate::support::{Calls, Cluster, Daemon, send_all};

/// Records made and sent at a time.
const PART: usize = 200_000;

pub fn measure(options: &Options, report: &mut Report) {
    let mut cluster = Cluster::start();
    let (mut tallyd, mut copy) = (Vec::new(), Vec::new());
    let (mut starts, mut behind, mut draining) = (Vec::new(), Vec::new(), Vec::new());
    for index in 1..=options.rounds {
        cluster.empty_tables();
        let mut daemon = Daemon::start(&cluster, Daemon::program());
        cluster.stop();
        let mut calls = Calls::new(options.users[0], index as u64);
        for sent in (0..options.backlog).step_by(PART) {
            let part: Vec<Record> = calls.by_ref().take(PART.min(options.backlog - sent)).collect();
            send_all(&daemon, &part);
        }
        behind.push(daemon.peak_mib());
        let start = Instant::now();
        daemon.kill_and_start_again(&cluster);
        daemon.accept_one(&mut calls);
        starts.push(start.elapsed().as_secs_f64());
        let count = options.backlog + 1;
        cluster.restart();
        let start = Instant::now();
        daemon.wait_committed(count);
        tallyd.push(count as f64 / start.elapsed().as_secs_f64());
        draining.push(daemon.peak_mib());
        daemon.stop();
        cluster.check_equal();
        copy.push(Rows::dump(&cluster, count).by_psql(&cluster));
        println!(
            "round {index}: drain {:.0}, \\copy {:.0} a second; accepts {:.2} s after kill -9; {:.0} MiB while it grew, {:.0} MiB after",
            tallyd[index - 1],
            copy[index - 1],
            starts[index - 1],
            behind[index - 1],
            draining[index - 1]
        );
    }
    let records = options.backlog;
    report.add_ratio(format!("draining {records} records ÷ `\\copy` BINARY"), Goal::AtLeast(1.0), &tallyd, &copy);
    report.add(format!("start behind {records} records, until one is acknowledged"), "s", Goal::AtMost(1.0), starts);
    report.add(format!("memory while {records} records pile up"), "MiB", Goal::AtMost(256.0), behind);
    report.add(format!("memory from that start to the last commit of {records}"), "MiB", Goal::AtMost(256.0), draining);
}
