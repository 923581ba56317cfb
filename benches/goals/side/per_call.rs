//! The replaced way: for each call an `INSERT` into a log and a call of `increment_daily_cost()`, from a pool of
//! connections. The statements are prepared here, which is faster than the replaced system, whose statements went over
//! HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::Cluster;

/// The time of one round.
const ROUND: Duration = Duration::from_secs(3);

const SCHEMA: &str = "
    CREATE SCHEMA IF NOT EXISTS replaced;
    CREATE TABLE IF NOT EXISTS replaced.api_usage_log (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid, api_type text NOT NULL, endpoint text, model text,
        input_tokens int, output_tokens int, cost_usd numeric(12,6), \"timestamp\" timestamptz DEFAULT now(),
        date date DEFAULT current_date);
    CREATE INDEX IF NOT EXISTS api_usage_log_user ON replaced.api_usage_log (user_id);
    CREATE INDEX IF NOT EXISTS api_usage_log_date ON replaced.api_usage_log (date);
    CREATE TABLE IF NOT EXISTS replaced.daily_api_costs (
        date date, api_type text, model text, endpoint text, calls bigint, input_tokens bigint, output_tokens bigint,
        cost_usd numeric(14,6), PRIMARY KEY (date, api_type, model, endpoint));
    CREATE OR REPLACE FUNCTION replaced.increment_daily_cost(
        kind text, name text, path text, tokens_in int, tokens_out int, usd numeric) RETURNS void LANGUAGE sql AS $$
        INSERT INTO replaced.daily_api_costs AS c VALUES (current_date, kind, name, path, 1, tokens_in, tokens_out, usd)
        ON CONFLICT (date, api_type, model, endpoint) DO UPDATE SET calls = c.calls + 1,
            input_tokens = c.input_tokens + excluded.input_tokens,
            output_tokens = c.output_tokens + excluded.output_tokens, cost_usd = c.cost_usd + excluded.cost_usd $$;
    TRUNCATE replaced.api_usage_log, replaced.daily_api_costs";
const INSERT: &str = "
    INSERT INTO replaced.api_usage_log (user_id, api_type, endpoint, model, input_tokens, output_tokens, cost_usd)
    VALUES ($1, 'claude', '/v1/messages', $2, $3, $4, 0.0105)";
const INCREMENT: &str = "SELECT replaced.increment_daily_cost('claude', $1, '/v1/messages', $2, $3, 0.0105)";
const MODELS: [&str; 6] =
    ["claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5", "claude-sonnet-4", "claude-opus-4-1", "claude-opus-4"];

/// Records for one round on this many connections. Returns calls a second.
pub fn measure(cluster: &Cluster, connections: u64) -> f64 {
    cluster.sql(SCHEMA);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let calls = Arc::new(AtomicU64::new(0));
        let mut workers = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(cluster.connect().await);
        }
        let start = Instant::now();
        for (worker, client) in clients.into_iter().enumerate() {
            let calls = Arc::clone(&calls);
            workers.push(tokio::spawn(async move {
                let insert = client.prepare(INSERT).await.expect("a statement");
                let increment = client.prepare(INCREMENT).await.expect("a statement");
                let mut index = worker as u128;
                while start.elapsed() < ROUND {
                    let model = MODELS[index as usize % MODELS.len()];
                    let user = uuid::Uuid::from_u128(index % 10_000);
                    let (input, output) = (1_200_i32, 350_i32);
                    client.execute(&insert, &[&user, &model, &input, &output]).await.expect("a row");
                    client.execute(&increment, &[&model, &input, &output]).await.expect("a sum");
                    calls.fetch_add(1, Ordering::Relaxed);
                    index += u128::from(connections);
                }
            }));
        }
        for worker in workers {
            worker.await.expect("a worker");
        }
        calls.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
    })
}
