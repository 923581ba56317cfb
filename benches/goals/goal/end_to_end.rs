//! From the socket to committed rows and rollups, beside COPY, the replaced way, and a peer.

use std::time::Instant;

use tallyd_client::Record;

use crate::options::Options;
use crate::report::{Goal, Report, Side};
use crate::side::copy::Rows;
use crate::side::{per_call, rsyslog, unnest};
use crate::support::{Calls, Cluster, Daemon, median, send_all};

/// The figures of one round of the daemon.
pub struct Round {
    /// Records a second.
    pub rate: f64,
    pub cpu_us: f64,
    pub peak_mib: f64,
    /// Memory before anything was sent, MiB.
    pub idle_mib: f64,
}

#[derive(Default)]
struct Sides {
    tallyd: Vec<f64>,
    psql: Vec<f64>,
    server: Vec<f64>,
    one: Vec<f64>,
    ten: Vec<f64>,
    unnest: Vec<f64>,
    rsyslog: Vec<f64>,
}

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    let other = options.against.as_deref().map(Cluster::of);
    for &users in &options.users {
        with_users(options, report, &cluster, other.as_ref(), users);
    }
}

fn with_users(options: &Options, report: &mut Report, cluster: &Cluster, against: Option<&Cluster>, users: usize) {
    // The slow sides do not depend on tallyd's users, so they are measured once; and not when two builds are compared.
    let all_sides = users == options.users[0] && against.is_none();
    let mut batch: Vec<Record> = Calls::new(users, 0).take(options.records).collect();
    options.ids.tell(&mut batch);
    let (mut sides, mut rounds, mut other) = (Sides::default(), Vec::new(), Vec::new());
    for index in 1..=options.rounds {
        if let Some(against) = against {
            other.push(round(against, &batch, &[]));
        }
        let this = round(cluster, &batch, &[]);
        let rows = Rows::dump(cluster, batch.len());
        sides.tallyd.push(this.rate);
        sides.psql.push(rows.by_psql(cluster));
        sides.server.push(rows.by_server(cluster));
        println!(
            "round {index}, {users} users: tallyd {:.0}, \\copy {:.0}, server's COPY {:.0} a second",
            this.rate,
            sides.psql[index - 1],
            sides.server[index - 1]
        );
        if all_sides {
            sides.ten.push(per_call::measure(cluster, 10));
            sides.one.push(per_call::measure(cluster, 1));
            sides.unnest.push(unnest::measure(cluster));
            sides.rsyslog.extend(rsyslog::measure(cluster));
        }
        rounds.push(this);
    }
    let of = |of: fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(of).collect() };
    let name = |what: &str| format!("{what}, {users} users");
    report.add(name("records a second, end to end"), "/s", Goal::Shown, sides.tallyd.clone());
    report.add_ratio(name("end to end ÷ `\\copy` BINARY"), Goal::AtLeast(1.0), &sides.tallyd, &sides.psql);
    report.add_ratio(name("end to end ÷ the server's own COPY"), Goal::Shown, &sides.tallyd, &sides.server);
    report.add(name("daemon CPU a record"), "µs", Goal::AtMost(1.0), of(|round| round.cpu_us));
    report.add(name("memory at full load"), "MiB", Goal::AtMost(128.0), of(|round| round.peak_mib));
    compare(report, &format!("{users} users"), &rounds, &other);
    if all_sides {
        report.add("memory when idle", "MiB", Goal::AtMost(32.0), of(|round| round.idle_mib));
        report.add_ratio("end to end ÷ call by call, pool of 10", Goal::AtLeast(100.0), &sides.tallyd, &sides.ten);
        report.add_ratio("end to end ÷ call by call, 1 connection", Goal::Shown, &sides.tallyd, &sides.one);
        report.add_ratio("end to end ÷ INSERT … unnest", Goal::Shown, &sides.tallyd, &sides.unnest);
        if !sides.rsyslog.is_empty() {
            report.add_ratio("end to end ÷ rsyslog's ompgsql", Goal::Shown, &sides.tallyd, &sides.rsyslog);
        }
        draw(report, sides);
    }
}

/// Adds the ratios of this build's rounds to the other's. Nothing without another build.
pub fn compare(report: &mut Report, users: &str, rounds: &[Round], other: &[Round]) {
    if other.is_empty() {
        return;
    }
    let mut ratio = |name: &str, figure: fn(&Round) -> f64| {
        let [ours, theirs] = [rounds, other].map(|rounds| rounds.iter().map(figure).collect::<Vec<_>>());
        report.add_ratio(format!("{name}, {users}"), Goal::Shown, &ours, &theirs);
    };
    ratio("this build ÷ the other", |round| round.rate);
    ratio("its CPU a record ÷ the other's", |round| round.cpu_us);
    ratio("its memory ÷ the other's", |round| round.peak_mib);
}

fn draw(report: &mut Report, sides: Sides) {
    let named = [
        ("tallyd, socket to commit", sides.tallyd),
        ("COPY by the server", sides.server),
        ("\\copy BINARY by psql", sides.psql),
        ("INSERT … unnest, no rollups", sides.unnest),
        ("rsyslog ompgsql, no rollups", sides.rsyslog),
        ("call by call, pool of 10", sides.ten),
        ("call by call, 1 connection", sides.one),
    ];
    let measured = named.into_iter().filter(|(_, rates)| !rates.is_empty());
    report.sides.extend(measured.map(|(name, rates)| Side { name, rates }));
    for side in &report.sides {
        println!("{:>32} {:>10.0} a second", side.name, median(&side.rates));
    }
}

/// One round of the build whose schema the cluster has, from an empty table and an empty folder to the last commit.
pub fn round(cluster: &Cluster, batch: &[Record], settings: &[(&str, &str)]) -> Round {
    cluster.empty_tables();
    let daemon = Daemon::start_with(cluster, cluster.program(), settings);
    let idle_mib = daemon.resident_mib();
    let cpu_before = daemon.cpu_seconds();
    let start = Instant::now();
    send_all(&daemon, batch);
    daemon.wait_committed(batch.len());
    let rate = batch.len() as f64 / start.elapsed().as_secs_f64();
    let cpu_us = (daemon.cpu_seconds() - cpu_before) * 1e6 / batch.len() as f64;
    let peak_mib = daemon.peak_mib();
    daemon.stop();
    cluster.check_equal();
    Round { rate, cpu_us, peak_mib, idle_mib }
}
