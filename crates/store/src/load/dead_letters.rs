//! Writes dead letters: refused records, and calls that PostgreSQL refused, with the reason and the record.
//!
//! Refused records are kept up to the bounds of a day ([`crate::dead_letters::quota`]) and only counted beyond them
//! ([`super::refusals`]). A call that PostgreSQL refused had been acknowledged, so it is always kept.

use chrono::{DateTime, NaiveDate, Utc};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::refusals::{RefusalCounts, RefusalKey};
use crate::dead_letters::payload::Payload;
use crate::dead_letters::quota::{Ledger, QuotaBounds, day_of};
use tallyd_model::call::Call;
use tallyd_model::{field_of, json};
use tallyd_wal::chunk::Refused;
use tallyd_wal::recent::StoredChunk;

/// Dead letters of one transaction.
#[derive(Default)]
pub struct DeadLetters {
    letters: Vec<Letter>,
    /// Refused records of which only the number is known: key, number, time of arrival.
    counted: Vec<(RefusalKey, u32, DateTime<Utc>)>,
}

struct Letter {
    key: RefusalKey,
    arrived: DateTime<Utc>,
    message: String,
    wal_seq: i64,
    position: i32,
    occurred_at: Option<DateTime<Utc>>,
    payload: Vec<u8>,
    format: String,
}

/// Numbers of one transaction.
#[derive(Debug, Default)]
pub struct Written {
    /// Refused records that are kept.
    pub kept: u64,
    /// Refused records that are only counted.
    pub counted: u64,
    /// The totals of each day in the database after this transaction.
    pub ledgers: Vec<(NaiveDate, Ledger)>,
}

impl DeadLetters {
    /// True if there are neither letters nor counts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty() && self.counted.is_empty()
    }

    /// Adds a record that was refused on arrival; `position` is its place in the chunk.
    pub fn push_refused(&mut self, chunk: &StoredChunk, position: usize, refused: &Refused<'_>) {
        let sender = if refused.sender.is_empty() { &*chunk.producer } else { refused.sender };
        let key = key(chunk, "refused", sender, refused.code, refused.field);
        let arrived = DateTime::from_timestamp_micros(chunk.written_us).unwrap_or_default();
        if refused.counted > 0 {
            self.counted.push((key, refused.counted, arrived));
            return;
        }
        let (Payload::Json(payload) | Payload::MessagePack(payload)) =
            Payload::new(refused.payload.to_vec(), refused.payload_format).without_key();
        self.letters.push(Letter {
            key,
            arrived,
            message: without_nul(refused.message),
            wal_seq: chunk.first_key as i64,
            position: position as i32,
            occurred_at: Some(arrived),
            payload,
            format: refused.payload_format.to_owned(),
        });
    }

    /// Adds a call that PostgreSQL refused, with the SQLSTATE and the message.
    pub fn push_poison(&mut self, chunk: &StoredChunk, position: usize, call: &Call<'_>, code: &str, message: &str) {
        self.letters.push(Letter {
            key: key(chunk, "poison", &chunk.producer, code, ""),
            arrived: DateTime::from_timestamp_micros(chunk.written_us).unwrap_or_default(),
            message: without_nul(message),
            wal_seq: chunk.first_key as i64,
            position: position as i32,
            occurred_at: DateTime::from_timestamp_micros(call.occurred_at_us),
            payload: to_json(call).into_bytes(),
            format: "json".to_owned(),
        });
    }

    /// Writes letters up to the bounds, and the counts of all, in the caller's transaction. Must be its last write:
    /// lanes with refused records wait for one another from here to COMMIT. An existing letter is an error: its batch
    /// was loaded before.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn insert(
        mut self,
        client: &Client,
        buffer_id: Uuid,
        bounds: &QuotaBounds,
    ) -> Result<Written, tokio_postgres::Error> {
        if self.is_empty() {
            return Ok(Written::default());
        }
        let days =
            self.letters.iter().map(|letter| letter.key.day).chain(self.counted.iter().map(|counted| counted.0.day));
        let mut groups = RefusalCounts::lock(client, days).await?;
        let mut written = Written::default();
        self.letters.retain_mut(|letter| {
            let bytes = letter.payload.len();
            groups.fit(&mut letter.key);
            let is_kept = letter.key.kind == "poison" || groups.take(bounds, &letter.key, bytes);
            groups.count(&letter.key, letter.arrived, 1, is_kept.then_some(bytes));
            written.kept += u64::from(is_kept && letter.key.kind == "refused");
            written.counted += u64::from(!is_kept);
            is_kept
        });
        for (mut key, count, arrived) in std::mem::take(&mut self.counted) {
            groups.fit(&mut key);
            groups.count(&key, arrived, count, None);
            written.counted += u64::from(count);
        }
        self.write(client, buffer_id, "").await?;
        written.ledgers = groups.write(client).await?;
        Ok(written)
    }

    /// Writes and counts only missing letters, in the caller's transaction. Returns their number. Records that are only
    /// counted are left out, because nobody can tell whether an earlier transaction counted them.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn insert_missing(mut self, client: &Client, buffer_id: Uuid) -> Result<u64, tokio_postgres::Error> {
        if self.letters.is_empty() {
            return Ok(0);
        }
        let mut groups = RefusalCounts::lock(client, self.letters.iter().map(|letter| letter.key.day)).await?;
        self.letters.iter_mut().for_each(|letter| groups.fit(&mut letter.key));
        let conflict = "ON CONFLICT (buffer_id, wal_seq, position) DO NOTHING";
        let places = self.write(client, buffer_id, conflict).await?;
        let missing = |letter: &&Letter| places.contains(&(letter.wal_seq, letter.position));
        for letter in self.letters.iter().filter(missing) {
            groups.count(&letter.key, letter.arrived, 1, Some(letter.payload.len()));
        }
        groups.write(client).await?;
        Ok(places.len() as u64)
    }

    /// Writes letters. Returns the places of the new ones.
    async fn write(
        &self,
        client: &Client,
        buffer_id: Uuid,
        conflict: &str,
    ) -> Result<std::collections::HashSet<(i64, i32)>, tokio_postgres::Error> {
        let sql = format!(
            "INSERT INTO public.dead_letters \
             (kind, code, message, field, producer, buffer_id, wal_seq, position, occurred_at, payload, payload_format) \
             SELECT kind, code, message, field, producer, $1, wal_seq, position, occurred_at, payload, format \
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int8[], $8::int4[], \
             $9::timestamptz[], $10::bytea[], $11::text[]) \
             AS d (kind, code, message, field, producer, wal_seq, position, occurred_at, payload, format) {conflict} \
             RETURNING wal_seq, position"
        );
        let column = |of: fn(&Letter) -> &str| self.letters.iter().map(of).collect::<Vec<_>>();
        let kinds = column(|letter| letter.key.kind);
        let codes = column(|letter| &letter.key.code);
        let messages = column(|letter| &letter.message);
        let fields = column(|letter| &letter.key.field);
        let producers = column(|letter| &letter.key.producer);
        let formats = column(|letter| &letter.format);
        let keys: Vec<_> = self.letters.iter().map(|letter| letter.wal_seq).collect();
        let positions: Vec<_> = self.letters.iter().map(|letter| letter.position).collect();
        let times: Vec<_> = self.letters.iter().map(|letter| letter.occurred_at).collect();
        let payloads: Vec<_> = self.letters.iter().map(|letter| letter.payload.as_slice()).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 11] = [
            (&buffer_id, Type::UUID),
            (&kinds, Type::TEXT_ARRAY),
            (&codes, Type::TEXT_ARRAY),
            (&messages, Type::TEXT_ARRAY),
            (&fields, Type::TEXT_ARRAY),
            (&producers, Type::TEXT_ARRAY),
            (&keys, Type::INT8_ARRAY),
            (&positions, Type::INT4_ARRAY),
            (&times, Type::TIMESTAMPTZ_ARRAY),
            (&payloads, Type::BYTEA_ARRAY),
            (&formats, Type::TEXT_ARRAY),
        ];
        let rows = client.query_typed(&sql, &parameters).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

fn key(chunk: &StoredChunk, kind: &'static str, sender: &str, code: &str, field: &str) -> RefusalKey {
    let day = day_of(chunk.written_us);
    RefusalKey { day, kind, producer: without_nul(sender), code: code.to_owned(), field: without_nul(field) }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The call as a line of JSON that the daemon would accept, so that it can be corrected and sent again.
#[must_use]
pub fn to_json(call: &Call<'_>) -> String {
    json::to_string(&Line(call)).expect("texts and numbers serialize")
}

/// A record in the form of the protocol's line mode.
struct Line<'a>(&'a Call<'a>);

macro_rules! line {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        impl Serialize for Line<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut line = serializer.serialize_map(None)?;
                $(line.serialize_entry(stringify!($name), &written::$kind(field_of!(self.0, $name)))?;)*
                line.end()
            }
        }
    };
}

tallyd_protocol::for_each_field!(line);

/// A field's value in a line, by kind of field. JSON is written unchanged.
mod written {
    use tallyd_model::call::Cost;
    use tallyd_model::json::Raw;
    use tallyd_model::pricing::Usd;
    use uuid::Uuid;

    pub(super) use self::{
        json as tags, json as units, same as count, same as latency, same as required, same as status, same as text,
        same as time,
    };

    pub(super) fn same<T>(value: T) -> T {
        value
    }

    pub(super) fn id(id: [u8; 16]) -> Uuid {
        Uuid::from_bytes(id)
    }

    pub(super) fn json(text: &str) -> Option<Raw<'_>> {
        Raw::checked(text)
    }

    /// Without a cost of the catalog, so that the catalog can price the call again.
    pub(super) fn decimal(cost: Cost) -> Option<Usd> {
        match cost {
            Cost::Client(usd) => Some(usd),
            Cost::Catalog { .. } | Cost::Unpriced => None,
        }
    }
}
