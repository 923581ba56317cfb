//! Reads `tallyd_amendments`.

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::{Amendment, VOIDED, Values};
use crate::queries::Parameter;
use crate::whole::Whole;

pub(super) const COLUMNS: &str = "id, call_id, occurred_at, kind, at, actor, reason, before, after";

pub(super) fn read(row: &Row) -> Amendment {
    Amendment {
        id: row.get(0),
        call_id: row.get(1),
        occurred_at: row.get(2),
        kind: row.get(3),
        at: row.get(4),
        actor: row.get(5),
        reason: row.get(6),
        before: row.get(7),
        after: row.get(8),
    }
}

/// The amendments of a call, oldest first, from the first one whose number is above `after` on.
///
/// # Errors
/// PostgreSQL's.
pub async fn of_call(client: &Client, id: Uuid, after: i64, limit: i64) -> Result<Vec<Amendment>, Error> {
    let sql =
        format!("SELECT {COLUMNS} FROM public.tallyd_amendments WHERE call_id = $1 AND id > $2 ORDER BY id LIMIT $3");
    let values: [Parameter<'_>; 3] = [(&id, Type::UUID), (&after, Type::INT8), (&limit, Type::INT8)];
    Ok(client.query_typed(&sql, &values).await?.iter().map(read).collect())
}

/// The last amendment of each of these calls that has one.
///
/// # Errors
/// PostgreSQL's.
pub async fn latest(client: &Client, ids: &[Uuid]) -> Result<Vec<Amendment>, Error> {
    let sql = format!(
        "SELECT DISTINCT ON (call_id, occurred_at) {COLUMNS} FROM public.tallyd_amendments WHERE call_id = ANY ($1) \
         ORDER BY call_id, occurred_at, id DESC"
    );
    Ok(client.query_typed(&sql, &[(&ids, Type::UUID_ARRAY)]).await?.iter().map(read).collect())
}

/// Whether a call of a vendor-day (UTC) was amended or voided after an instant. Calls of other platforms are on other bills.
///
/// # Errors
/// PostgreSQL's.
pub async fn is_amended_since(
    client: &Client,
    (provider, day): (&str, NaiveDate),
    since: DateTime<Utc>,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM public.tallyd_amendments WHERE provider = $1 AND platform = '' AND at > $3 \
         AND occurred_at >= $2::date::timestamp AT TIME ZONE 'UTC' \
         AND occurred_at < ($2::date + 1)::timestamp AT TIME ZONE 'UTC')";
    let values: [Parameter<'_>; 3] = [(&provider, Type::TEXT), (&day, Type::DATE), (&since, Type::TIMESTAMPTZ)];
    Ok(client.query_typed(sql, &values).await?.first().is_some_and(|row| row.get(0)))
}

/// The values of a voided call before it was voided.
pub(super) async fn before_it_was_voided(
    client: &Client,
    id: Uuid,
    occurred_at: DateTime<Utc>,
) -> Result<Values, Error> {
    let sql = format!(
        "SELECT (before ->> 'cost_usd')::numeric, before ->> 'cost_source', (before ->> 'price_id')::int4, \
             (before ->> 'input_tokens')::numeric, (before ->> 'output_tokens')::numeric, \
             (before ->> 'cache_read_tokens')::numeric, (before ->> 'cache_write_5m_tokens')::numeric, \
             (before ->> 'cache_write_1h_tokens')::numeric, (before ->> 'requests')::numeric, \
             nullif(before -> 'extra_units', 'null') \
         FROM public.tallyd_amendments WHERE call_id = $1 AND occurred_at = $2 AND kind = '{VOIDED}' \
         ORDER BY id DESC LIMIT 1"
    );
    let rows = client.query_typed(&sql, &[(&id, Type::UUID), (&occurred_at, Type::TIMESTAMPTZ)]).await?;
    // Without the amendment, as after `cost_source` was written by hand, a voided call has its zeros.
    let Some(row) = rows.first() else { return Ok(Values::voided()) };
    let count = |at: usize| row.get::<_, Whole>(at).to_u64();
    Ok(Values {
        cost_usd: row.get(0),
        cost_source: row.get(1),
        price_id: row.get(2),
        input_tokens: count(3),
        output_tokens: count(4),
        cache_read_tokens: count(5),
        cache_write_5m_tokens: count(6),
        cache_write_1h_tokens: count(7),
        requests: count(8),
        extra_units: row.get(9),
    })
}
