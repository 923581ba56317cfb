//! The dead letters: what was refused, and what PostgreSQL would not take, with the reason and the record.

use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::pipeline::chunk::{Call, Refused};
use crate::pipeline::wal::recent::StoredChunk;

/// Dead letters that are written together.
#[derive(Default)]
pub struct DeadLetters {
    kinds: Vec<&'static str>,
    codes: Vec<String>,
    messages: Vec<String>,
    fields: Vec<String>,
    producers: Vec<String>,
    keys: Vec<i64>,
    positions: Vec<i32>,
    times: Vec<Option<DateTime<Utc>>>,
    payloads: Vec<Vec<u8>>,
    formats: Vec<String>,
}

impl DeadLetters {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Adds a record that was refused when it arrived; `position` is its place in the chunk.
    pub fn push_refused(&mut self, chunk: &StoredChunk, position: usize, refused: &Refused<'_>) {
        let reason = [refused.code, refused.message, refused.field];
        self.times.push(DateTime::from_timestamp_micros(chunk.written_us));
        self.push("refused", chunk, position, reason, refused.payload.to_vec(), refused.payload_format);
    }

    /// Adds a call that PostgreSQL would not take, with what it said.
    pub fn push_poison(&mut self, chunk: &StoredChunk, position: usize, call: &Call<'_>, code: &str, message: &str) {
        self.times.push(DateTime::from_timestamp_micros(call.occurred_at_us));
        self.push("poison", chunk, position, [code, message, ""], to_json(call).into_bytes(), "json");
    }

    fn push(
        &mut self,
        kind: &'static str,
        chunk: &StoredChunk,
        position: usize,
        [code, message, field]: [&str; 3],
        payload: Vec<u8>,
        format: &str,
    ) {
        self.kinds.push(kind);
        self.codes.push(code.to_owned());
        self.messages.push(without_nul(message));
        self.fields.push(field.to_owned());
        self.producers.push(without_nul(&chunk.producer));
        self.keys.push(chunk.first_key as i64);
        self.positions.push(position as i32);
        self.payloads.push(payload);
        self.formats.push(format.to_owned());
    }

    /// Writes them, within the caller's transaction. One that is there already is an error: its batch was loaded before.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn insert(&self, client: &Client, buffer_id: Uuid) -> Result<u64, tokio_postgres::Error> {
        self.write(client, buffer_id, "").await
    }

    /// Writes those that are not there yet, within the caller's transaction. Returns how many that were.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn insert_missing(&self, client: &Client, buffer_id: Uuid) -> Result<u64, tokio_postgres::Error> {
        self.write(client, buffer_id, "ON CONFLICT (buffer_id, wal_seq, position) DO NOTHING").await
    }

    async fn write(&self, client: &Client, buffer_id: Uuid, conflict: &str) -> Result<u64, tokio_postgres::Error> {
        if self.is_empty() {
            return Ok(0);
        }
        let sql = format!(
            "INSERT INTO dead_letters \
             (kind, code, message, field, producer, buffer_id, wal_seq, position, occurred_at, payload, payload_format) \
             SELECT kind, code, message, field, producer, $1, wal_seq, position, occurred_at, payload, format \
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int8[], $8::int4[], \
             $9::timestamptz[], $10::bytea[], $11::text[]) \
             AS d (kind, code, message, field, producer, wal_seq, position, occurred_at, payload, format) {conflict}"
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 11] = [
            (&buffer_id, Type::UUID),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.codes, Type::TEXT_ARRAY),
            (&self.messages, Type::TEXT_ARRAY),
            (&self.fields, Type::TEXT_ARRAY),
            (&self.producers, Type::TEXT_ARRAY),
            (&self.keys, Type::INT8_ARRAY),
            (&self.positions, Type::INT4_ARRAY),
            (&self.times, Type::TIMESTAMPTZ_ARRAY),
            (&self.payloads, Type::BYTEA_ARRAY),
            (&self.formats, Type::TEXT_ARRAY),
        ];
        client.execute_typed(&sql, &parameters).await
    }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The call as a line of JSON that the daemon would accept, so that it can be corrected and sent again.
#[must_use]
pub fn to_json(call: &Call<'_>) -> String {
    let tokens = &call.tokens;
    let object = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    serde_json::json!({
        "id": Uuid::from_bytes(call.id),
        "occurred_at": call.occurred_at_us,
        "provider": call.provider,
        "model": call.model,
        "endpoint": call.endpoint,
        "user_id": call.user_id,
        "app": call.app,
        "request_id": call.request_id,
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_read_tokens": tokens.cache_read,
        "cache_write_5m_tokens": tokens.cache_write_5m,
        "cache_write_1h_tokens": tokens.cache_write_1h,
        "requests": call.requests,
        "extra_units": object(call.extra_units),
        "service_tier": call.service_tier,
        "status": call.status,
        "latency_ms": call.latency_ms,
        "cost_usd": match call.cost {
            crate::pipeline::chunk::Cost::Client(usd) => Some(usd.to_string()),
            _ => None,
        },
        "metadata": object(call.metadata),
        "platform": call.platform,
    })
    .to_string()
}
