//! Each view's requests over HTTP, with a year of calls of many users in the rollups, warm.

use std::time::Instant;

use super::read::fill;
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Asker, Cluster, Daemon, quantile};

const QUESTIONS: usize = 50;
/// Name, path and the goal of the p99 in milliseconds.
const PATHS: [(&str, &str, f64); 13] = [
    ("costs of 30 days by application", "/api/v1/costs?days=30&bucket=total&group_by=app", 50.0),
    ("costs of 365 days by application", "/api/v1/costs?days=365&bucket=total&group_by=app", 150.0),
    ("costs of 30 days by hour", "/api/v1/costs?days=30&bucket=hour", 50.0),
    ("costs of 30 days by model", "/api/v1/costs?days=30&group_by=provider,model", 50.0),
    (
        "costs of 30 days by user, the dearest 100",
        "/api/v1/costs?days=30&bucket=total&group_by=user&sort=cost&limit=100",
        50.0,
    ),
    (
        "costs of 365 days by user, the dearest 100",
        "/api/v1/costs?days=365&bucket=total&group_by=user&sort=cost&limit=100",
        150.0,
    ),
    ("users, first page by cost", "/api/v1/users?sort=cost&limit=50", 50.0),
    ("users, first page by calls", "/api/v1/users?sort=calls&limit=50", 50.0),
    ("users, first page by last call", "/api/v1/users?sort=last_call&limit=50", 50.0),
    ("one user, 30 days", "/api/v1/users/user-7919?days=30", 50.0),
    ("one user, 365 days", "/api/v1/users/user-7919?days=365", 50.0),
    ("calls, first page of a day", "/api/v1/records?limit=100", 50.0),
    ("calls, first page of a provider", "/api/v1/records?limit=100&provider=claude", 50.0),
];

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    fill(&cluster, options.log_rows, options.log_users);
    let (port, listen) = Asker::free_address();
    let daemon = Daemon::start_with(&cluster, Daemon::program(), &[("TALLYD_HTTP_LISTEN", &listen)]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut asker = runtime.block_on(Asker::connect(port, &daemon, &cluster));
    for (name, path, goal) in PATHS {
        let (mut p50s, mut p99s) = (Vec::new(), Vec::new());
        for round in 0..=options.rounds {
            let mut times = Vec::with_capacity(QUESTIONS);
            for _ in 0..QUESTIONS {
                let start = Instant::now();
                runtime.block_on(asker.ask(path));
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            // The first round only warms up.
            if round > 0 {
                p50s.push(quantile(&mut times, 0.5));
                p99s.push(quantile(&mut times, 0.99));
            }
        }
        report.add(format!("{name}, p50"), "ms", Goal::Shown, p50s);
        report.add(format!("{name}, p99"), "ms", Goal::AtMost(goal), p99s);
    }
    drop(asker);
    drop(runtime);
    daemon.stop();
}
