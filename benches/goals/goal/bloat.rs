//! The size of the rollups' tables and indexes after an hour of loading, beside the same tables freshly rewritten.
//!
//! All calls are of one day, so each merge updates rows that earlier merges have written: no load bloats the base more.
//! The call log takes 220 bytes a call: 16 GB after an hour.

use std::time::Instant;

use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Calls, Cluster, Daemon, send_at};

/// Records a second.
const RATE: usize = 20_000;
/// Distinct users, unless the command line has another number.
const USERS: usize = 1_000_000;
/// Smaller tables are shown without a ratio: a page more or less would decide.
const SMALL_MIB: f64 = 1.0;
/// A table's own size and that of its indexes, bytes.
const SIZES: &str = "SELECT pg_table_size(oid) || '|' || pg_indexes_size(oid) FROM pg_class WHERE oid = 'public.";

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    let daemon = Daemon::start(&cluster, cluster.program());
    let users = options.stated_users.unwrap_or(USERS);
    let start = Instant::now();
    let sent = send_at(&daemon, &mut Calls::new(users, 0), RATE, options.seconds);
    daemon.wait_committed(sent);
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    let after = format!("after {} s at {RATE} records a second, {users} users", options.seconds);
    report.add(format!("bloat: records a second, {after}"), "/s", Goal::AtLeast(RATE as f64 * 0.99), vec![rate]);
    report.add(format!("bloat: memory at its peak, {after}"), "MiB", Goal::Shown, vec![daemon.peak_mib()]);
    daemon.stop();
    let tables = cluster.sql(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \
         AND relname ~ '^(daily_|hourly_|tallyd_user_)' ORDER BY pg_total_relation_size(oid) DESC",
    );
    for table in tables.lines() {
        let before = sizes(&cluster, table);
        let name = |what: &str| format!("bloat: {table}{what}");
        report.add(name(" and its indexes"), "MiB", Goal::Shown, vec![before.0 + before.1]);
        // Deltas and notes come and go: no size is theirs for long.
        if table.contains("_deltas_") || table.ends_with("_due") || before.0 + before.1 < SMALL_MIB {
            continue;
        }
        cluster.sql(&format!("VACUUM FULL public.{table}"));
        let fresh = sizes(&cluster, table);
        let (own, indexes) = (before.0 / fresh.0, before.1 / fresh.1);
        report.add(name(" ÷ the same, rewritten"), "×", Goal::AtMost(2.0), vec![own]);
        report.add(name("'s indexes ÷ the same, rewritten"), "×", Goal::AtMost(2.0), vec![indexes]);
    }
}

/// MiB of the table, and of its indexes.
fn sizes(cluster: &Cluster, table: &str) -> (f64, f64) {
    let bytes = cluster.sql(&format!("{SIZES}{table}'::regclass"));
    let mut mib = bytes.split('|').map(|bytes| bytes.parse::<f64>().expect("a size") / f64::from(1 << 20));
    (mib.next().expect("a table's size"), mib.next().expect("its indexes' size"))
}
