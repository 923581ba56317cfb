//! Loading with the btree on `(user_id, occurred_at)` kept at all times, on both sides.

use std::time::{Duration, Instant};

use tallyd_client::Record;

use super::end_to_end::round;
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::side::copy::Rows;
use crate::support::{Calls, Cluster, Daemon};

const ALWAYS: (&str, &str) = ("TALLYD_LOG_TABLE_USER_INDEX", "always");

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    make_index(&cluster);
    let against = options.against.as_deref().map(Cluster::of);
    against.iter().for_each(make_index);
    for &users in &options.users {
        let batch: Vec<Record> = Calls::new(users, 0).take(options.records).collect();
        let (mut tallyd, mut copy, mut other) = (Vec::new(), Vec::new(), Vec::new());
        for index in 1..=options.rounds {
            if let Some(against) = &against {
                other.push(round(against, &batch, &[ALWAYS]).rate);
            }
            tallyd.push(round(&cluster, &batch, &[ALWAYS]).rate);
            assert!(indexed(&cluster), "a partition has no index by user");
            copy.push(Rows::dump(&cluster, batch.len()).by_psql(&cluster));
            println!(
                "round {index}, {users} users: tallyd {:.0}, \\copy {:.0} a second",
                tallyd[index - 1],
                copy[index - 1]
            );
        }
        let name = format!("end to end ÷ `\\copy` BINARY, both with the index by user, {users} users");
        report.add_ratio(name, Goal::AtLeast(1.4), &tallyd, &copy);
        if !other.is_empty() {
            let name = format!("with the index by user, this build ÷ the other, {users} users");
            report.add_ratio(name, Goal::Shown, &tallyd, &other);
        }
    }
}

/// Waits until the daemon's upkeep has made the index of the present partitions, which are empty.
fn make_index(cluster: &Cluster) {
    let daemon = Daemon::start_with(cluster, cluster.program(), &[ALWAYS]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !indexed(cluster) {
        assert!(Instant::now() < deadline, "the daemon made no index by user");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.stop();
}

/// Whether every partition has the index, and each index is valid.
fn indexed(cluster: &Cluster) -> bool {
    let without = cluster.sql(
        "SELECT count(*) FROM pg_inherits h WHERE h.inhparent = 'api_usage_log'::regclass AND NOT EXISTS (
             SELECT FROM pg_index i WHERE i.indrelid = h.inhrelid AND i.indisvalid
             AND pg_get_indexdef(i.indexrelid) LIKE '%(user_id, occurred_at)')",
    );
    without == "0"
}
