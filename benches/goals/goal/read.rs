//! A year of cost history over HTTP, with a small call log and with a large one. Answers come from the rollups, so the
//! call log's size must not matter.

use std::time::Instant;

use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Asker, Cluster, Daemon, quantile};

const SMALL_LOG: usize = 1_000_000;
const QUESTIONS: usize = 300;
/// Name, path and the goal of the p99 in milliseconds.
const PATHS: [(&str, &str, f64); 2] = [
    ("cost history of 365 days", "/api/admin/cost-history?days=365", 50.0),
    ("costs of 365 days by model", "/api/v1/costs?days=365&group_by=model", 10.0),
];

pub fn measure(options: &Options, report: &mut Report) {
    let clusters = [SMALL_LOG, options.log_rows].map(|rows| {
        let cluster = Cluster::start();
        fill(&cluster, rows, 5_000);
        cluster
    });
    let mut daemons = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for cluster in &clusters {
        let (port, listen) = Asker::free_address();
        let daemon = Daemon::start_with(cluster, Daemon::program(), &[("TALLYD_HTTP_LISTEN", &listen)]);
        let asker = runtime.block_on(Asker::connect(port, &daemon, cluster));
        daemons.push((daemon, asker));
    }
    for (name, path, goal) in PATHS {
        let mut p99s: [Vec<f64>; 2] = Default::default();
        for round in 0..=options.rounds {
            for ((_, asker), p99s) in daemons.iter_mut().zip(&mut p99s) {
                let mut times = Vec::with_capacity(QUESTIONS);
                for _ in 0..QUESTIONS {
                    let start = Instant::now();
                    let bytes = runtime.block_on(asker.ask(path));
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                    assert!(bytes > 10_000, "an answer of {bytes} bytes is no year");
                }
                // The first round only warms both up.
                if round > 0 {
                    p99s.push(quantile(&mut times, 0.99));
                }
            }
        }
        let [small, large] = p99s;
        let rows = options.log_rows;
        report.add(format!("{name}, p99, log of {SMALL_LOG} rows"), "ms", Goal::AtMost(goal), small.clone());
        report.add(format!("{name}, p99, log of {rows} rows"), "ms", Goal::AtMost(goal), large.clone());
        report.add_ratio(format!("{name}, p99, log of {rows} rows ÷ {SMALL_LOG}"), Goal::AtMost(1.5), &large, &small);
    }
    drop(runtime);
    daemons.into_iter().for_each(|(daemon, _)| daemon.stop());
}

/// Rows over the last 365 days: 20 models, 5 endpoints, 9 applications; and their rollups, computed by `tallyd rollups`.
pub fn fill(cluster: &Cluster, rows: usize, users: usize) {
    println!("filling a log of {rows} rows of {users} users");
    cluster.sql("SELECT tallyd_ensure_partitions(now() - interval '366 days', now() + interval '1 day', 'month')");
    cluster.sql(&format!(
        "INSERT INTO api_usage_log (occurred_at, id, provider, model, endpoint, user_id, app, input_tokens, output_tokens,
                                    cost_usd, cost_source)
         SELECT date_trunc('day', now()) - i * (interval '364 days' / {rows}), md5(i::text)::uuid, 'claude',
                'claude-model-' || i % 20, '/v1/endpoint-' || i % 5, 'user-' || i * 7919 % {users}, 'app-' || i % 9,
                1200 + i % 100, 350, 0.0105 + i * 31 % 1009 * 0.000001, 'catalog'
         FROM generate_series(1::int8, {rows}) AS i"
    ));
    cluster.rebuild_rollups();
    cluster.sql("VACUUM ANALYZE");
}
