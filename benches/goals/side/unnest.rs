//! A careful application's own batching: multi-row `INSERT … SELECT FROM unnest` of a thousand rows a statement into
//! the call log, one connection, no rollups.

use std::time::{Duration, Instant};

use crate::support::{Calls, Cluster};

const ROUND: Duration = Duration::from_secs(3);
const ROWS: usize = 1_000;
const INSERT: &str = "
    INSERT INTO api_usage_log (occurred_at, id, provider, model, endpoint, user_id, app, input_tokens, output_tokens,
                               cache_read_tokens, latency_ms, cost_usd, cost_source)
    SELECT *, 0.0105, 'catalog' FROM unnest($1::timestamptz[], $2::uuid[], $3::text[], $4::text[], $5::text[],
                                            $6::text[], $7::text[], $8::int8[], $9::int8[], $10::int8[], $11::int4[])";

/// Inserts for one round. Returns rows a second.
pub fn measure(cluster: &Cluster) -> f64 {
    cluster.empty_tables();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let batch: Vec<_> = Calls::new(10_000, 1).take(ROWS).collect();
    let texts = |of: fn(&tallyd_client::Record) -> &str| -> Vec<&str> { batch.iter().map(of).collect() };
    let (providers, models) = (texts(|call| &call.provider), texts(|call| &call.model));
    let (endpoints, users, apps) = (texts(|call| &call.endpoint), texts(|call| &call.user_id), texts(|call| &call.app));
    let numbers = |of: fn(&tallyd_client::Record) -> u64| -> Vec<i64> { batch.iter().map(|c| of(c) as i64).collect() };
    let (input, output) = (numbers(|call| call.input_tokens), numbers(|call| call.output_tokens));
    let cached = numbers(|call| call.cache_read_tokens);
    let latency: Vec<i32> = batch.iter().map(|call| call.latency_ms.unwrap_or(0) as i32).collect();
    let times: Vec<_> =
        batch.iter().map(|call| chrono::DateTime::from_timestamp_micros(call.occurred_at.unwrap_or(0))).collect();
    let ids: Vec<_> = batch.iter().map(|call| uuid::Uuid::from_bytes(call.id.unwrap_or_default())).collect();
    runtime.block_on(async {
        let client = cluster.connect().await;
        let insert = client.prepare(INSERT).await.expect("a statement");
        let start = Instant::now();
        let mut rows = 0;
        while start.elapsed() < ROUND {
            rows += client
                .execute(
                    &insert,
                    &[&times, &ids, &providers, &models, &endpoints, &users, &apps, &input, &output, &cached, &latency],
                )
                .await
                .expect("rows");
        }
        rows as f64 / start.elapsed().as_secs_f64()
    })
}
