//! Recorded costs by UTC day, provider and model, to compare with a vendor's bill, whose days are UTC.

use chrono::NaiveDate;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::whole::Whole;
use tallyd_model::bill::BillTokens;
use tallyd_model::bill::compare::RecordedDay;

/// Sums the days from `from` to `to`, both included, of these providers.
///
/// If the reporting time zone is UTC, the rollups answer, which outlive the call log; otherwise the call log does.
///
/// # Errors
/// PostgreSQL's.
pub async fn recorded(
    client: &Client,
    utc_rollups: bool,
    (from, to): (NaiveDate, NaiveDate),
    providers: &[&str],
) -> Result<Vec<RecordedDay>, tokio_postgres::Error> {
    let sql = if utc_rollups {
        "SELECT day, provider, model, '' AS tier, NULL::int4 AS price, sum(calls)::int8, sum(unpriced_calls)::int8, 0::int8, \
             sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), \
             sum(cache_write_5m_tokens) + sum(cache_write_1h_tokens), sum(cache_write_1h_tokens), round(sum(cost_usd), 18) \
         FROM public.daily_api_costs WHERE day BETWEEN $1 AND $2 AND provider = ANY ($3) GROUP BY 1, 2, 3"
            .to_owned()
    } else {
        of_the_log("true")
    };
    read(client, &sql, (from, to), providers).await
}

/// Sums one day of one provider by model, service tier and price: the calls that ran at the vendor itself.
///
/// # Errors
/// PostgreSQL's.
pub async fn recorded_at_vendor(
    client: &Client,
    day: NaiveDate,
    provider: &str,
) -> Result<Vec<RecordedDay>, tokio_postgres::Error> {
    read(client, &of_the_log("platform = ''"), (day, day), &[provider]).await
}

/// The statement over the call log. `filter` comes from this module.
fn of_the_log(filter: &str) -> String {
    format!(
        "SELECT (occurred_at AT TIME ZONE 'UTC')::date, provider, model, service_tier, price_id, count(*), \
             count(*) FILTER (WHERE cost_usd IS NULL), count(*) FILTER (WHERE extra_units IS NOT NULL), \
             sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), \
             sum(cache_write_5m_tokens) + sum(cache_write_1h_tokens), sum(cache_write_1h_tokens), \
             round(coalesce(sum(cost_usd), 0), 18) \
         FROM public.api_usage_log \
         WHERE occurred_at >= $1::date::timestamp AT TIME ZONE 'UTC' \
             AND occurred_at < ($2::date + 1)::timestamp AT TIME ZONE 'UTC' AND provider = ANY ($3) AND {filter} \
         GROUP BY 1, 2, 3, 4, 5"
    )
}

async fn read(
    client: &Client,
    sql: &str,
    (from, to): (NaiveDate, NaiveDate),
    providers: &[&str],
) -> Result<Vec<RecordedDay>, tokio_postgres::Error> {
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&from, Type::DATE), (&to, Type::DATE), (&providers, Type::TEXT_ARRAY)];
    let rows = client.query_typed(sql, &parameters).await?;
    // Sums of counts are never negative.
    let count = |row: &tokio_postgres::Row, at: usize| row.get::<_, Whole>(at).to_u64();
    let read = |row: &tokio_postgres::Row| RecordedDay {
        day: row.get(0),
        provider: row.get(1),
        model: row.get(2),
        tier: row.get(3),
        price_id: row.get(4),
        calls: row.get(5),
        unpriced: row.get(6),
        with_extra_units: row.get(7),
        tokens: BillTokens {
            input: count(row, 8),
            output: count(row, 9),
            cache_read: count(row, 10),
            cache_write: count(row, 11),
            cache_write_1h: count(row, 12),
        },
        cost_usd: row.get(13),
    };
    Ok(rows.iter().map(read).collect())
}
