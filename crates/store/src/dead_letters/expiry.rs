//! Letters that are old enough to go, and the counts of their time.

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::queries::audit::{self, Actor, Change};
use crate::retry::in_transaction;

/// Letters of one transaction: none waits long for their locks.
const LETTERS: i64 = 5_000;

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Letters.
    pub letters: u64,
    /// Those of them that nobody had decided about.
    pub open: u64,
}

/// Deletes letters and counts from before an instant, in transactions of some thousands, and says so in the audit log.
///
/// # Errors
/// PostgreSQL's; what was deleted until then is in the audit log.
pub async fn expire(client: &Client, before: DateTime<Utc>, by: &Actor<'_>) -> Result<Expired, tokio_postgres::Error> {
    let mut all = Expired::default();
    loop {
        let some = in_transaction(client, delete(client, before, by)).await?;
        all.letters += some.letters;
        all.open += some.open;
        if some.letters < LETTERS.unsigned_abs() {
            break;
        }
    }
    let sql = "DELETE FROM public.tallyd_refusals WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date";
    client.execute_typed(sql, &[(&before, Type::TIMESTAMPTZ)]).await?;
    Ok(all)
}

async fn delete(client: &Client, before: DateTime<Utc>, by: &Actor<'_>) -> Result<Expired, tokio_postgres::Error> {
    // A letter that somebody decides about at the moment goes the next time.
    let sql = "WITH gone AS (DELETE FROM public.dead_letters WHERE id IN (SELECT id FROM public.dead_letters \
        WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING settled_at) \
        SELECT count(*), count(*) FILTER (WHERE settled_at IS NULL) FROM gone";
    let rows = client.query_typed(sql, &[(&before, Type::TIMESTAMPTZ), (&LETTERS, Type::INT8)]).await?;
    let count = |column| rows.first().map_or(0, |row| row.get::<_, i64>(column).unsigned_abs());
    let expired = Expired { letters: count(0), open: count(1) };
    if expired.letters > 0 {
        let object = tallyd_model::wording::noun(expired.letters, "letter", "letters");
        let new = Some(json!({ "before": before, "letters": expired.letters, "open": expired.open }));
        audit::write(client, &Change { new, ..by.change("dead_letter.expire", &object) }).await?;
    }
    Ok(expired)
}
