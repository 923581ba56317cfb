//! The rows of `dead_letters`: finds, counts and drops them, and deletes old ones.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Payload;
use crate::queries::audit::{self, Actor, Change};
use crate::retry::in_transaction;

/// A letter.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// `refused` by the daemon, or `poison` to PostgreSQL.
    pub kind: String,
    /// The reason's stable name; of a poison row PostgreSQL's SQLSTATE.
    pub code: String,
    /// The reason, for a person.
    pub message: String,
    /// The field at fault, or empty.
    pub field: String,
    /// The sender, or empty.
    pub producer: String,
    /// The WAL that it came from.
    pub buffer_id: Option<Uuid>,
    /// Its key there.
    pub wal_seq: Option<i64>,
    /// Its place among that key's records.
    pub position: Option<i32>,
    /// When the call was made; of a refused record, when it arrived.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When somebody decided about it.
    pub settled_at: Option<DateTime<Utc>>,
    /// `retried` or `dropped`, once it is settled.
    pub outcome: Option<String>,
    /// The call that it became.
    pub record_id: Option<Uuid>,
    /// The received format: `json` or `msgpack`.
    pub payload_format: String,
    /// Bytes of its stored payload.
    pub payload_bytes: usize,
    /// The record as it was received. Serialized as JSON for a person.
    #[schema(value_type = Object)]
    #[serde(rename = "record", serialize_with = "shown")]
    pub payload: Payload,
}

fn shown<S: Serializer>(payload: &Payload, serializer: S) -> Result<S::Ok, S::Error> {
    payload.to_json().serialize(serializer)
}

/// Selects letters. All given filters must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// These numbers; any if empty.
    pub ids: Vec<i64>,
    /// One of these reasons; any if empty.
    pub codes: Vec<String>,
    /// `refused` or `poison`.
    pub kind: Option<String>,
    /// The field at fault; empty for letters without one.
    pub field: Option<String>,
    /// The sender.
    pub producer: Option<String>,
    /// The provider in the record. It is compared after reading the rows, because it is in the payload.
    pub provider: Option<String>,
    /// Written from this instant on.
    pub since: Option<DateTime<Utc>>,
    /// Written before this instant.
    pub until: Option<DateTime<Utc>>,
    /// True to include settled letters.
    pub settled: bool,
}

const COLUMNS: &str = "id, created_at, kind, code, message, field, producer, buffer_id, wal_seq, position, occurred_at, \
    settled_at, outcome, record_id, payload, payload_format";

const WHERE: &str = "(cardinality($1::int8[]) = 0 OR id = ANY($1)) AND (cardinality($2::text[]) = 0 OR code = ANY($2)) \
    AND ($3::text IS NULL OR kind = $3) AND ($4::text IS NULL OR producer = $4) \
    AND ($5::timestamptz IS NULL OR created_at >= $5) AND ($6::timestamptz IS NULL OR created_at < $6) \
    AND ($7::bool OR settled_at IS NULL) AND ($8::text IS NULL OR field = $8)";

impl Filter {
    fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        vec![
            (&self.ids, Type::INT8_ARRAY),
            (&self.codes, Type::TEXT_ARRAY),
            (&self.kind, Type::TEXT),
            (&self.producer, Type::TEXT),
            (&self.since, Type::TIMESTAMPTZ),
            (&self.until, Type::TIMESTAMPTZ),
            (&self.settled, Type::BOOL),
            (&self.field, Type::TEXT),
        ]
    }

    fn takes(&self, letter: &DeadLetter) -> bool {
        let wanted = self.provider.as_deref().map(tallyd_model::pricing::normalise_provider);
        wanted.is_none_or(|wanted| letter.payload.provider() == wanted)
    }
}

/// Bound on names of a column.
const NAMES: i64 = 1_000;

/// The distinct values of a column of letters: `code`, `field` or `producer`.
///
/// # Errors
/// PostgreSQL's.
pub async fn names(client: &Client, column: &'static str) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT {column} FROM public.dead_letters WHERE {column} <> '' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT $1"
    );
    Ok(client.query_typed(&sql, &[(&NAMES, Type::INT8)]).await?.iter().map(|row| row.get(0)).collect())
}

/// The order of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By number, ascending.
    OldestFirst,
    /// By number, descending.
    NewestFirst,
}

/// Letters on one page.
const PAGE_LETTERS: i64 = 200;

/// The next letters that match the filter, `after` the last one's number (none at first). A page may be empty because
/// of the filter's provider: the end is reached when the returned number is none.
///
/// # Errors
/// PostgreSQL's.
pub async fn page(
    client: &Client,
    filter: &Filter,
    order: Order,
    after: Option<i64>,
) -> Result<(Vec<DeadLetter>, Option<i64>), Error> {
    page_of(client, filter, order, after, PAGE_LETTERS).await
}

/// [`page`] with a bound on the number of letters.
///
/// # Errors
/// PostgreSQL's.
pub async fn page_of(
    client: &Client,
    filter: &Filter,
    order: Order,
    after: Option<i64>,
    limit: i64,
) -> Result<(Vec<DeadLetter>, Option<i64>), Error> {
    let (comparison, direction) = match order {
        Order::OldestFirst => (">", "ASC"),
        Order::NewestFirst => ("<", "DESC"),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM public.dead_letters WHERE {WHERE} AND ($9::int8 IS NULL OR id {comparison} $9) \
         ORDER BY id {direction} LIMIT $10"
    );
    let mut parameters = filter.parameters();
    parameters.push((&after, Type::INT8));
    parameters.push((&limit, Type::INT8));
    let letters: Vec<_> = client.query_typed(&sql, &parameters).await?.iter().map(letter).collect();
    let last = letters.last().map(|letter| letter.id);
    Ok((letters.into_iter().filter(|letter| filter.takes(letter)).collect(), last))
}

/// The numbers of the letters that match the filter except for its provider; the oldest first.
///
/// # Errors
/// PostgreSQL's.
pub async fn ids_of(client: &Client, filter: &Filter, after: Option<i64>, limit: i64) -> Result<Vec<i64>, Error> {
    let sql = format!(
        "SELECT id FROM public.dead_letters WHERE {WHERE} AND ($9::int8 IS NULL OR id > $9) ORDER BY id LIMIT $10"
    );
    let mut parameters = filter.parameters();
    parameters.push((&after, Type::INT8));
    parameters.push((&limit, Type::INT8));
    Ok(client.query_typed(&sql, &parameters).await?.iter().map(|row| row.get(0)).collect())
}

/// One letter, open or settled.
///
/// # Errors
/// PostgreSQL's.
pub async fn get(client: &Client, id: i64) -> Result<Option<DeadLetter>, Error> {
    let filter = Filter { ids: vec![id], settled: true, ..Filter::default() };
    Ok(page(client, &filter, Order::OldestFirst, None).await?.0.pop())
}

/// The number of open letters.
///
/// # Errors
/// PostgreSQL's.
pub async fn count(client: &Client) -> Result<u64, Error> {
    let rows = client.query_typed("SELECT count(*) FROM public.dead_letters WHERE settled_at IS NULL", &[]).await?;
    // A count is not negative.
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64))
}

/// Drops open letters in the caller's transaction, with an audit entry: the record is deleted, the reason's code stays.
/// Returns the number of dropped letters.
///
/// # Errors
/// PostgreSQL's.
pub async fn drop_letters(client: &Client, ids: &[i64], by: &Actor<'_>) -> Result<u64, Error> {
    let sql = "UPDATE public.dead_letters SET settled_at = clock_timestamp(), outcome = 'dropped', payload = '', \
        message = '' WHERE id = ANY($1) AND settled_at IS NULL";
    let sql = format!("{sql} RETURNING id");
    let rows = client.query_typed(&sql, &[(&ids, Type::INT8_ARRAY)]).await?;
    let dropped: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    note(client, "dead_letter.drop", &dropped, by).await?;
    Ok(dropped.len() as u64)
}

/// Letters that one audit entry lists. Beyond, it has only their number.
const NAMED: usize = 200;

/// Writes an audit entry about letters, if there are any.
///
/// # Errors
/// PostgreSQL's.
pub async fn note(client: &Client, action: &str, ids: &[i64], by: &Actor<'_>) -> Result<(), Error> {
    let [first, ..] = ids else { return Ok(()) };
    let object = if ids.len() == 1 { first.to_string() } else { format!("{} letters", ids.len()) };
    let new = Some(serde_json::json!({ "letters": ids.len(), "ids": &ids[..ids.len().min(NAMED)] }));
    audit::write(client, &Change { new, ..by.change(action, &object) }).await
}

/// Locks those of the letters that are open, until the transaction ends. Returns their numbers.
///
/// # Errors
/// PostgreSQL's.
pub async fn lock_open(client: &Client, ids: &[i64]) -> Result<Vec<i64>, Error> {
    let sql = "SELECT id FROM public.dead_letters WHERE id = ANY($1) AND settled_at IS NULL ORDER BY id FOR UPDATE";
    let rows = client.query_typed(sql, &[(&ids, Type::INT8_ARRAY)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Marks letters as retried, each with its new call's id, in the caller's transaction.
///
/// # Errors
/// PostgreSQL's.
pub async fn mark_retried(client: &Client, ids: &[i64], records: &[Uuid]) -> Result<(), Error> {
    let sql = "UPDATE public.dead_letters AS l SET settled_at = clock_timestamp(), outcome = 'retried', \
        record_id = d.record_id FROM unnest($1::int8[], $2::uuid[]) AS d (id, record_id) WHERE l.id = d.id";
    client.execute_typed(sql, &[(&ids, Type::INT8_ARRAY), (&records, Type::UUID_ARRAY)]).await.map(drop)
}

/// Letters deleted in one transaction, so that others do not wait long for their locks.
const EXPIRED_AT_ONCE: i64 = 5_000;

/// Counts of deleted letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Letters.
    pub letters: u64,
    /// Letters that were still open.
    pub open: u64,
}

/// Deletes letters and counts from before an instant, in transactions of some thousands, with audit entries.
///
/// # Errors
/// PostgreSQL's; deletions before the error are in the audit log.
pub async fn expire(client: &Client, before: DateTime<Utc>, by: &Actor<'_>) -> Result<Expired, Error> {
    let mut all = Expired::default();
    loop {
        let some = in_transaction(client, delete_before(client, before, by)).await?;
        all.letters += some.letters;
        all.open += some.open;
        if some.letters < EXPIRED_AT_ONCE.unsigned_abs() {
            break;
        }
    }
    let sql = "DELETE FROM public.tallyd_refusals WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date";
    client.execute_typed(sql, &[(&before, Type::TIMESTAMPTZ)]).await?;
    Ok(all)
}

async fn delete_before(client: &Client, before: DateTime<Utc>, by: &Actor<'_>) -> Result<Expired, Error> {
    // A letter that is locked for a decision is left for the next run.
    let sql = "WITH gone AS (DELETE FROM public.dead_letters WHERE id IN (SELECT id FROM public.dead_letters \
        WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING settled_at) \
        SELECT count(*), count(*) FILTER (WHERE settled_at IS NULL) FROM gone";
    let rows = client.query_typed(sql, &[(&before, Type::TIMESTAMPTZ), (&EXPIRED_AT_ONCE, Type::INT8)]).await?;
    let count = |column| rows.first().map_or(0, |row| row.get::<_, i64>(column).unsigned_abs());
    let expired = Expired { letters: count(0), open: count(1) };
    if expired.letters > 0 {
        let object = tallyd_model::wording::noun(expired.letters, "letter", "letters");
        let new = Some(json!({ "before": before, "letters": expired.letters, "open": expired.open }));
        audit::write(client, &Change { new, ..by.change("dead_letter.expire", &object) }).await?;
    }
    Ok(expired)
}

fn letter(row: &Row) -> DeadLetter {
    let payload: Vec<u8> = row.get(14);
    DeadLetter {
        id: row.get(0),
        created_at: row.get(1),
        kind: row.get(2),
        code: row.get(3),
        message: row.get(4),
        field: row.get(5),
        producer: row.get(6),
        buffer_id: row.get(7),
        wal_seq: row.get(8),
        position: row.get(9),
        occurred_at: row.get(10),
        settled_at: row.get(11),
        outcome: row.get(12),
        record_id: row.get(13),
        payload_format: row.get(15),
        payload_bytes: payload.len(),
        payload: Payload::new(payload, row.get(15)),
    }
}
