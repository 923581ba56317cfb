//! Many users: the cost of loading, memory and merges if a batch has hardly two calls of one user.

use crate::goal::end_to_end;
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::side::copy::Rows;
use crate::support::{Calls, Cluster};

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    let against = options.against.as_deref().map(Cluster::of);
    let loads = [
        ("500 users", 500, false, 1.0, 1.2),
        ("10000 users", 10_000, false, 1.0, 1.2),
        ("100000 users", 100_000, false, 0.8, 2.0),
        ("1000000 users", 1_000_000, false, 0.5, 2.0),
        ("1000000 users by Zipf's law", 1_000_000, true, 0.7, 2.0),
    ];
    for (users, count, is_zipf, ratio, cpu_us) in loads {
        if options.stated_users.is_some_and(|stated| stated != count) {
            continue;
        }
        let mut calls = Calls::new(count, 0);
        calls.is_zipf = is_zipf;
        let batch: Vec<_> = calls.take(options.records).collect();
        let (mut rounds, mut other, mut psql, mut merging) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for index in 1..=options.rounds {
            other.extend(against.as_ref().map(|against| end_to_end::round(against, &batch, &[])));
            let round = end_to_end::round(&cluster, &batch, &[]);
            merging.push(cluster.merge_seconds() * 1e6 / batch.len() as f64);
            let copy = Rows::dump(&cluster, batch.len()).by_psql(&cluster);
            println!(
                "round {index}, {users}: tallyd {:.0}, \\copy {copy:.0} a second; {:.2} µs a record, {:.0} MiB",
                round.rate, round.cpu_us, round.peak_mib
            );
            psql.push(copy);
            rounds.push(round);
        }
        let of = |of: fn(&end_to_end::Round) -> f64| -> Vec<f64> { rounds.iter().map(of).collect() };
        let name = |what: &str| format!("{what}, {users}");
        report.add_ratio(
            name("many users: end to end ÷ `\\copy` BINARY"),
            Goal::AtLeast(ratio),
            &of(|one| one.rate),
            &psql,
        );
        report.add(name("many users: memory at full load"), "MiB", Goal::AtMost(160.0), of(|one| one.peak_mib));
        report.add(name("many users: daemon CPU a record"), "µs", Goal::AtMost(cpu_us), of(|one| one.cpu_us));
        end_to_end::compare(report, users, &rounds, &other);
        report.add(name("many users: merging what is left afterwards, a record"), "µs", Goal::Shown, merging);
    }
}
