//! A start on an existing data folder: from the program's start to the first acknowledged record, and until records are
//! loaded. Two daemons take turns. One finds its PostgreSQL running. The other one starts a private PostgreSQL; what its
//! start takes beyond the first one's is PostgreSQL's own start.

use std::path::Path;
use std::time::Instant;

use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Calls, Cluster, Daemon};

/// Starts of each kind and build; a start is short.
const STARTS: usize = 20;

pub fn measure(options: &Options, report: &mut Report) {
    let this = Build::of(Daemon::program());
    let mut builds = vec![("", this)];
    builds.extend(options.against.as_deref().map(|program| ("the other build's ", Build::of(program))));
    let mut calls = Calls::new(options.users[0], 0);
    for _ in 0..STARTS {
        builds.iter_mut().for_each(|(_, build)| build.start(&mut calls));
    }
    for (whose, Build { accepting, loading, private, .. }) in builds {
        let goal = Goal::AtMost(50.0);
        report.add(format!("{whose}start, until a record is acknowledged"), "ms", goal, accepting);
        report.add(format!("{whose}start, until records load into a PostgreSQL that runs"), "ms", goal, loading);
        report.add(format!("{whose}start with a private PostgreSQL, until records load"), "ms", Goal::Shown, private);
    }
}

/// A build of the daemon with its starts so far.
struct Build {
    cluster: Cluster,
    beside: Daemon,
    alone: Daemon,
    accepting: Vec<f64>,
    loading: Vec<f64>,
    private: Vec<f64>,
}

impl Build {
    fn of(program: &Path) -> Self {
        let cluster = Cluster::of(program);
        let (beside, alone) = (Daemon::start(&cluster, program), Daemon::start_private(program));
        Self { cluster, beside, alone, accepting: Vec::new(), loading: Vec::new(), private: Vec::new() }
    }

    fn start(&mut self, calls: &mut Calls) {
        self.beside.end();
        let start = Instant::now();
        self.beside.begin(Some(&self.cluster));
        self.beside.accept_one(calls);
        self.accepting.push(milliseconds(start));
        self.beside.wait_loading();
        self.loading.push(milliseconds(start));
        self.alone.end();
        let start = Instant::now();
        self.alone.begin(None);
        self.alone.wait_loading();
        self.private.push(milliseconds(start));
    }
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1_000.0
}
