//! The statements that add a batch's sums to the rollup tables: one a table, the keys as sorted arrays.
//!
//! `updated_at` comes in as a parameter and goes through `excluded`, so that the same statement also runs where the
//! tables are distributed.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::fold::{Deltas, Measures, UserSums};
use crate::pricing::Usd;

const COSTS: &str = "\
INSERT INTO daily_api_costs AS t (day, provider, model, endpoint, calls, errors, input_tokens, output_tokens,
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
SELECT k1, k2, k3, k4, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, clock_timestamp()
FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::int8[], $7::int8[], $8::int8[],
    $9::int8[], $10::int8[], $11::int8[], $12::int8[], $13::numeric[], $14::int8[])
    AS d (k1, k2, k3, k4, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10)
ON CONFLICT (day, provider, model, endpoint) DO UPDATE SET ";

const USERS: &str = "\
INSERT INTO daily_user_api_costs AS t (day, user_id, provider, calls, errors, input_tokens, output_tokens,
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
SELECT k1, k2, k3, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, clock_timestamp()
FROM unnest($1::date[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[],
    $9::int8[], $10::int8[], $11::int8[], $12::numeric[], $13::int8[])
    AS d (k1, k2, k3, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10)
ON CONFLICT (day, user_id, provider) DO UPDATE SET ";

const TOTALS: &str = "\
INSERT INTO user_api_totals AS t (user_id, provider, calls, errors, input_tokens, output_tokens,
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at,
    first_call_at, last_call_at)
SELECT k1, k2, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, clock_timestamp(),
    timestamptz 'epoch' + f * interval '1 microsecond', timestamptz 'epoch' + l * interval '1 microsecond'
FROM unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[],
    $9::int8[], $10::int8[], $11::numeric[], $12::int8[], $13::int8[], $14::int8[])
    AS d (k1, k2, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, f, l)
ON CONFLICT (user_id, provider) DO UPDATE SET
    first_call_at = least(t.first_call_at, excluded.first_call_at),
    last_call_at = greatest(t.last_call_at, excluded.last_call_at), ";

const MEASURES: &str = "\
    calls = t.calls + excluded.calls, errors = t.errors + excluded.errors,
    input_tokens = t.input_tokens + excluded.input_tokens, output_tokens = t.output_tokens + excluded.output_tokens,
    cache_read_tokens = t.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_5m_tokens = t.cache_write_5m_tokens + excluded.cache_write_5m_tokens,
    cache_write_1h_tokens = t.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
    requests = t.requests + excluded.requests, cost_usd = t.cost_usd + excluded.cost_usd,
    unpriced_calls = t.unpriced_calls + excluded.unpriced_calls, updated_at = excluded.updated_at";

/// The measures of sorted keys, a column each.
struct Columns {
    counts: [Vec<i64>; 8],
    cost: Vec<Usd>,
    unpriced: Vec<i64>,
}

impl Columns {
    fn new<'m>(rows: impl Iterator<Item = &'m Measures>) -> Self {
        let mut columns = Self { counts: Default::default(), cost: Vec::new(), unpriced: Vec::new() };
        for row in rows {
            let counts = [row.calls, row.errors].into_iter().chain(row.units);
            for (column, count) in columns.counts.iter_mut().zip(counts) {
                column.push(count);
            }
            columns.cost.push(row.cost);
            columns.unpriced.push(row.unpriced);
        }
        columns
    }

    fn parameters(&self) -> impl Iterator<Item = (&(dyn ToSql + Sync), Type)> {
        let counts = self.counts.iter().map(|column| (column as &(dyn ToSql + Sync), Type::INT8_ARRAY));
        let rest: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.cost, Type::NUMERIC_ARRAY), (&self.unpriced, Type::INT8_ARRAY)];
        counts.chain(rest)
    }
}

/// Adds the sums to the three tables, in the one order that every writer keeps. Runs within the caller's transaction.
///
/// # Errors
/// PostgreSQL's.
pub async fn upsert(client: &Client, deltas: &Deltas<'_>) -> Result<(), Error> {
    if deltas.costs.is_empty() {
        return Ok(());
    }
    let days: Vec<_> = deltas.costs.keys().map(|key| key.day).collect();
    let providers: Vec<_> = deltas.costs.keys().map(|key| key.provider).collect();
    let models: Vec<_> = deltas.costs.keys().map(|key| key.model).collect();
    let endpoints: Vec<_> = deltas.costs.keys().map(|key| key.endpoint).collect();
    let columns = Columns::new(deltas.costs.values());
    let texts = [&providers, &models, &endpoints].map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY));
    let keys = [(&days as &(dyn ToSql + Sync), Type::DATE_ARRAY)].into_iter().chain(texts);
    run(client, COSTS, keys.chain(columns.parameters())).await?;

    let days: Vec<_> = deltas.users.keys().map(|key| key.day).collect();
    let users: Vec<_> = deltas.users.keys().map(|key| key.user_id).collect();
    let providers: Vec<_> = deltas.users.keys().map(|key| key.provider).collect();
    let columns = Columns::new(deltas.users.values().map(|sums| &sums.measures));
    let texts = [&users, &providers].map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY));
    let keys = [(&days as &(dyn ToSql + Sync), Type::DATE_ARRAY)].into_iter().chain(texts);
    run(client, USERS, keys.chain(columns.parameters())).await?;

    let users: Vec<_> = deltas.totals.keys().map(|(user, _)| *user).collect();
    let providers: Vec<_> = deltas.totals.keys().map(|(_, provider)| *provider).collect();
    let columns = Columns::new(deltas.totals.values().map(|sums| &sums.measures));
    let times = |time: fn(&UserSums) -> i64| deltas.totals.values().map(time).collect::<Vec<i64>>();
    let (first, last) = (times(|sums| sums.first_us), times(|sums| sums.last_us));
    let keys = [&users, &providers].map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY));
    let times = [&first, &last].map(|column| (column as &(dyn ToSql + Sync), Type::INT8_ARRAY));
    run(client, TOTALS, keys.into_iter().chain(columns.parameters()).chain(times)).await
}

/// Unnamed statements, so that a pooler in transaction mode can stand between.
async fn run<'p>(
    client: &Client,
    insert: &str,
    parameters: impl Iterator<Item = (&'p (dyn ToSql + Sync), Type)>,
) -> Result<(), Error> {
    let parameters: Vec<_> = parameters.collect();
    client.query_typed(&format!("{insert}{MEASURES}"), &parameters).await.map(drop)
}
