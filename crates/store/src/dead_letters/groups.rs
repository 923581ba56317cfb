//! Refusals by sender, reason and field: their number, the number of open letters, one message.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use utoipa::ToSchema;

/// Refusals that have kind, reason, field and sender in common.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Group {
    /// `refused` by the daemon, or `poison` to PostgreSQL.
    pub kind: String,
    /// The reason's stable name.
    pub code: String,
    /// The field at fault, or empty.
    pub field: String,
    /// The sender: a producer, a token's holder, or empty.
    pub producer: String,
    /// Records that were refused in the range.
    pub refused: i64,
    /// Those of which only the number is kept: they cannot be retried.
    pub only_counted: i64,
    /// Letters that nobody has decided about, also older ones.
    pub open: i64,
    /// When the first of the range arrived.
    pub first_seen: Option<DateTime<Utc>>,
    /// When the last arrived.
    pub last_seen: Option<DateTime<Utc>>,
    /// The problem, as the newest open letter states it.
    pub message: Option<String>,
}

/// All groups in numbers, and the largest of them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Groups {
    /// The first day (UTC) whose refusals are counted.
    pub from: NaiveDate,
    /// Records that were refused since.
    pub refused: i64,
    /// Those of which only the number is kept.
    pub only_counted: i64,
    /// Letters that nobody has decided about, also older ones.
    pub open: i64,
    /// The groups with most refusals, the largest first.
    pub groups: Vec<Group>,
}

/// Refusals from a day on, and open letters, in at most `limit` groups.
///
/// # Errors
/// PostgreSQL's.
pub async fn groups(client: &Client, from: NaiveDate, limit: i64) -> Result<Groups, Error> {
    let sql = "WITH counted AS (SELECT kind, producer, code, field, sum(refused)::int8 AS refused, sum(kept)::int8 AS kept, \
            min(first_seen) AS first_seen, max(last_seen) AS last_seen \
            FROM public.tallyd_refusals WHERE day >= $1 GROUP BY kind, producer, code, field), \
        waiting AS (SELECT kind, producer, code, field, count(*) AS open, max(id) AS newest FROM public.dead_letters \
            WHERE settled_at IS NULL GROUP BY kind, producer, code, field) \
        SELECT kind, code, field, producer, coalesce(c.refused, 0), greatest(coalesce(c.refused - c.kept, 0), 0), \
            coalesce(w.open, 0), c.first_seen, c.last_seen, (SELECT l.message FROM public.dead_letters l WHERE l.id = w.newest), \
            sum(coalesce(c.refused, 0)) OVER ()::int8, sum(greatest(coalesce(c.refused - c.kept, 0), 0)) OVER ()::int8, \
            sum(coalesce(w.open, 0)) OVER ()::int8 \
        FROM counted c FULL JOIN waiting w USING (kind, producer, code, field) \
        ORDER BY greatest(coalesce(c.refused, 0), coalesce(w.open, 0)) DESC, kind, producer, code, field LIMIT $2";
    let rows = client.query_typed(sql, &[(&from, Type::DATE), (&limit, Type::INT8)]).await?;
    let of_all = |column: usize| rows.first().map_or(0, |row| row.get(column));
    let (refused, only_counted, open) = (of_all(10), of_all(11), of_all(12));
    Ok(Groups { from, refused, only_counted, open, groups: rows.iter().map(group).collect() })
}

fn group(row: &Row) -> Group {
    Group {
        kind: row.get(0),
        code: row.get(1),
        field: row.get(2),
        producer: row.get(3),
        refused: row.get(4),
        only_counted: row.get(5),
        open: row.get(6),
        first_seen: row.get(7),
        last_seen: row.get(8),
        message: row.get(9),
    }
}
