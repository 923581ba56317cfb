//! `dead_letters`: what could not be accepted, and why.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::{Parameter, QueryError, Reading};

/// A record that was refused, or that PostgreSQL would not take.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeadLetter {
    /// Its number, rising.
    pub id: i64,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// `refused` or `poison`.
    pub kind: String,
    /// A stable name for the reason.
    pub code: String,
    /// The reason.
    pub message: String,
    /// The field at fault, if it is one.
    pub field: String,
    /// Who sent it, if they said.
    pub producer: String,
    /// When the call was made, if that could be read.
    pub occurred_at: Option<DateTime<Utc>>,
    /// `json`, `msgpack` …: how the payload is written.
    pub payload_format: String,
    /// Bytes of the payload.
    pub payload_bytes: i32,
    /// The payload as it was received, if it is text.
    pub payload: Option<String>,
}

/// What is asked for; empty filters take all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// `refused` or `poison`.
    pub kind: Option<String>,
    /// The reason's name.
    pub code: Option<String>,
    /// The producer's name.
    pub producer: Option<String>,
}

/// The open letters before `before` (or the newest), newest first. One that was retried or dropped is settled, and left out.
///
/// # Errors
/// [`QueryError`].
pub async fn page(
    reading: &Reading,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<DeadLetter>, QueryError> {
    let sql = "SELECT id, created_at, kind, code, message, field, producer, occurred_at, payload_format, \
        octet_length(payload), payload FROM public.dead_letters WHERE settled_at IS NULL AND id < coalesce($1, 9223372036854775807) \
        AND ($2 IS NULL OR kind = $2) AND ($3 IS NULL OR code = $3) AND ($4 IS NULL OR producer = $4) \
        ORDER BY id DESC LIMIT $5";
    let values: [Parameter<'_>; 5] = [
        (&before, Type::INT8),
        (&filter.kind, Type::TEXT),
        (&filter.code, Type::TEXT),
        (&filter.producer, Type::TEXT),
        (&limit, Type::INT8),
    ];
    let rows = reading.query_typed(sql, &values).await?;
    let read = |row: &tokio_postgres::Row| DeadLetter {
        id: row.get(0),
        created_at: row.get(1),
        kind: row.get(2),
        code: row.get(3),
        message: row.get(4),
        field: row.get(5),
        producer: row.get(6),
        occurred_at: row.get(7),
        payload_format: row.get(8),
        payload_bytes: row.get(9),
        payload: String::from_utf8(row.get(10)).ok(),
    };
    Ok(rows.iter().map(read).collect())
}
