//! Sixteen daemons on one PostgreSQL, all adding to the same rollup rows, beside one daemon with all records. A round
//! has four times the records of other rounds, so that each daemon's share is more than one batch.

use std::time::Instant;

use tallyd_client::Record;

use super::end_to_end::round;
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Calls, Cluster, Daemon, send_all};

const DAEMONS: usize = 16;

pub fn measure(options: &Options, report: &mut Report) {
    // For each daemon's lanes, upkeep and API: the default of 100 connections is too low.
    let cluster = Cluster::start_with(&["max_connections=300"]);
    let users = options.users[0];
    let batch: Vec<Record> = Calls::new(users, 0).take(options.records * 4).collect();
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for index in 1..=options.rounds {
        one.push(round(&cluster, &batch, &[]).rate);
        many.push(sixteen(&cluster, &batch));
        println!("round {index}: sixteen {:.0}, one {:.0} a second", many[index - 1], one[index - 1]);
    }
    let deadlocks = cluster.sql("SELECT sum(deadlocks) FROM pg_stat_database").parse().expect("a count");
    report.add_ratio("16 daemons on one PostgreSQL ÷ one daemon", Goal::AtLeast(0.9), &many, &one);
    report.add("deadlocks among 16 daemons", "", Goal::AtMost(0.0), vec![deadlocks]);
}

fn sixteen(cluster: &Cluster, batch: &[Record]) -> f64 {
    cluster.empty_tables();
    let shares: Vec<&[Record]> = batch.chunks(batch.len().div_ceil(DAEMONS)).collect();
    let daemons: Vec<Daemon> = shares.iter().map(|_| Daemon::start(cluster, Daemon::program())).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for (daemon, share) in daemons.iter().zip(&shares) {
            scope.spawn(|| send_all(daemon, share));
        }
    });
    // One is asked at a time, as with one daemon: sixteen would take a good part of a core.
    for (daemon, share) in daemons.iter().zip(&shares) {
        daemon.wait_committed(share.len());
    }
    let rate = batch.len() as f64 / start.elapsed().as_secs_f64();
    daemons.into_iter().for_each(Daemon::stop);
    cluster.check_equal();
    rate
}
