//! `tallyd rollups rebuild` with many users: its time, and the memory of the command and of its session in PostgreSQL.

use std::time::{Duration, Instant};

use super::read::fill;
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Cluster, memory_mib};

const ROWS: usize = 5_000_000;
const USERS: usize = 1_000_000;
/// The pause between two looks at memory.
const LOOK: Duration = Duration::from_millis(100);

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    fill(&cluster, ROWS, USERS);
    let (mut seconds, mut command_mib, mut server_mib, mut temporary) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let spilled = spilled_mib(&cluster);
        let start = Instant::now();
        let mut command = cluster.start_rebuild();
        let (mut own, mut server) = (0.0_f64, 0.0_f64);
        while command.try_wait().expect("the command's state").is_none() {
            // A process that has ended in between has no memory.
            own = own.max(memory_mib(command.id(), "VmHWM:").unwrap_or(0.0));
            server = server.max(sessions(&cluster).filter_map(|pid| memory_mib(pid, "RssAnon:")).sum());
            std::thread::sleep(LOOK);
        }
        assert!(command.wait().expect("the command's end").success());
        seconds.push(start.elapsed().as_secs_f64());
        command_mib.push(own);
        server_mib.push(server);
        temporary.push(spilled_mib(&cluster) - spilled);
    }
    let name = |what: &str| format!("rebuild of {ROWS} calls of {USERS} users: {what}");
    report.add(name("time"), "s", Goal::Shown, seconds);
    report.add(name("memory of the command"), "MiB", Goal::AtMost(64.0), command_mib);
    report.add(
        name("memory of its session in PostgreSQL, without shared buffers"),
        "MiB",
        Goal::AtMost(256.0),
        server_mib,
    );
    report.add(name("temporary files"), "MiB", Goal::Shown, temporary);
    cluster.check_equal();
}

/// Processes of the server that work for tallyd.
fn sessions(cluster: &Cluster) -> impl Iterator<Item = u32> {
    let pids = cluster.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tallyd%'");
    pids.lines().map(|pid| pid.parse().expect("a process")).collect::<Vec<_>>().into_iter()
}

/// MiB of temporary files so far.
fn spilled_mib(cluster: &Cluster) -> f64 {
    let bytes = cluster.sql("SELECT temp_bytes FROM pg_stat_database WHERE datname = 'tallyd'");
    bytes.parse::<f64>().expect("a number of bytes") / f64::from(1 << 20)
}
