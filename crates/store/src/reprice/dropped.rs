//! Calls of a period that are in the log no more.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Client;

use super::row::instant;

/// What was dropped from the log in partitions that a period touches.
#[derive(Debug, Clone, Serialize)]
pub struct DroppedCalls {
    /// The first of those partitions began here; none: it had no lower bound.
    pub from: Option<DateTime<Utc>>,
    /// The last of them ended here; none: it had no upper bound.
    pub to: Option<DateTime<Utc>>,
    /// Calls that they held, also such as lie outside of the period.
    pub calls: i64,
    /// The sum of their costs in USD, as exact decimal text.
    pub cost_usd: String,
}

/// What was dropped of a period, microseconds since 1970 UTC; none if nothing was.
///
/// # Errors
/// PostgreSQL's.
pub async fn dropped_calls(
    client: &Client,
    from_us: i64,
    to_us: i64,
) -> Result<Option<DroppedCalls>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT nullif(min(from_at), '-infinity'), nullif(max(to_at), 'infinity'), sum(calls)::int8, sum(cost_usd)::text \
         FROM public.tallyd_dropped_partitions WHERE from_at < {} AND to_at > {} HAVING sum(calls) > 0",
        instant(to_us),
        instant(from_us)
    );
    let rows = client.query_typed(&sql, &[]).await?;
    Ok(rows.first().map(|row| DroppedCalls {
        from: row.get(0),
        to: row.get(1),
        calls: row.get(2),
        cost_usd: row.get(3),
    }))
}
