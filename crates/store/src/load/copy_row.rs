//! Encodes rows of `api_usage_log` for binary COPY.
//!
//! Source: PostgreSQL documentation, chapter "COPY", section "Binary Format". A row is the number of its fields as 16
//! bits, then for each field its length as 32 bits (-1 for NULL) and its bytes as the type's receive function takes
//! them.
//!
//! A column whose value is the table's default in every call of a batch is left out ([`Columns`]): PostgreSQL fills in
//! a default faster than it receives one.

use bytes::BufMut;

use tallyd_model::call::{Call, Cost};
use tallyd_model::pricing::pg_numeric;
use tallyd_wal::chunk::Columns;

/// The target of rows, and their optional columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    sql: String,
    columns: Columns,
    fields: i16,
}

/// The columns of every row.
const ALWAYS: [&str; 9] = [
    "occurred_at",
    "id",
    "provider",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "cost_source",
    "price_id",
    "rollup_other",
];

impl Layout {
    /// Rows of `table`, an SQL expression, with these optional columns.
    #[must_use]
    pub fn new(table: &str, columns: Columns) -> Self {
        let optional = Columns::ALL.iter().filter(|(column, ..)| columns.has(*column)).map(|(_, name, _)| *name);
        let names: Vec<&str> = ALWAYS.into_iter().chain(optional).collect();
        let sql = format!("COPY {table} ({}) FROM STDIN BINARY", names.join(", "));
        // About two dozen columns.
        Self { sql, columns, fields: names.len() as i16 }
    }

    /// Rows with every column, routed by the parent table.
    #[must_use]
    pub fn whole() -> Self {
        Self::new("api_usage_log", Columns::EVERY)
    }

    /// The COPY statement.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Appends a call's row.
    pub fn write(&self, out: &mut Vec<u8>, call: &Call<'_>, rollup_other: i16) {
        // Adjacent fields of fixed size are written as one piece.
        let mut head = [0; 34];
        head[..2].copy_from_slice(&self.fields.to_be_bytes());
        head[2..14].copy_from_slice(&int8(call.occurred_at_us - EPOCH_OFFSET_US));
        head[14..18].copy_from_slice(&16_i32.to_be_bytes());
        head[18..].copy_from_slice(&call.id);
        out.extend_from_slice(&head);
        text(out, call.provider);
        // Admission bounds counts to 10^12.
        let tokens = [int8(call.tokens.input as i64), int8(call.tokens.output as i64)];
        out.extend_from_slice(tokens.as_flattened());
        match call.cost.usd() {
            Some(usd) => sized(out, |out| pg_numeric::encode(usd, out)),
            None => out.put_i32(-1),
        }
        text(out, call.cost.source());
        int4(
            out,
            match call.cost {
                Cost::Catalog { price_id, .. } => Some(price_id),
                Cost::Client(_) | Cost::Unpriced => None,
            },
        );
        int2(out, rollup_other);
        self.write_optional(out, call);
    }
}

macro_rules! optional {
    ($($name:ident = $bit:literal: $column:literal, $kind:ident, $($place:ident).+, $usual:expr, $default:expr;)*) => {
        impl Layout {
            /// In the order of [`Columns::ALL`]. A column is written by the function with the name of its kind.
            fn write_optional(&self, out: &mut Vec<u8>, call: &Call<'_>) {
                $(
                    if self.columns.has(Columns::$name) {
                        $kind(out, call.$($place).+);
                    }
                )*
            }
        }
    };
}

tallyd_wal::for_each_column!(optional);

/// The bytes before the first row: signature, flags, length of the header's extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The bytes after the last row.
pub const TRAILER: &[u8] = &[0xff, 0xff];

/// Microseconds from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
pub(crate) const EPOCH_OFFSET_US: i64 = 946_684_800_000_000;

/// The version byte before a `jsonb` value's text.
const JSONB_VERSION: u8 = 1;

fn count(out: &mut Vec<u8>, units: u64) {
    out.extend_from_slice(&int8(units as i64));
}

/// Admission bounds it to 999.
fn status(out: &mut Vec<u8>, status: u16) {
    int2(out, status as i16);
}

/// Admission bounds it to the column's maximum.
fn latency(out: &mut Vec<u8>, latency_ms: Option<u32>) {
    int4(out, latency_ms.map(|ms| ms as i32));
}

fn int2(out: &mut Vec<u8>, value: i16) {
    let [high, low] = value.to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 2, high, low]);
}

fn int4(out: &mut Vec<u8>, value: Option<i32>) {
    match value {
        Some(value) => {
            let [a, b, c, d] = value.to_be_bytes();
            out.extend_from_slice(&[0, 0, 0, 4, a, b, c, d]);
        }
        None => out.put_i32(-1),
    }
}

pub(crate) fn int8(value: i64) -> [u8; 12] {
    let mut bytes = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

pub(crate) fn text(out: &mut Vec<u8>, value: &str) {
    // Admission bounds text to kilobytes.
    out.put_i32(value.len() as i32);
    out.put_slice(value.as_bytes());
}

fn json(out: &mut Vec<u8>, value: &str) {
    if value.is_empty() {
        out.put_i32(-1);
    } else {
        out.put_i32(value.len() as i32 + 1);
        out.put_u8(JSONB_VERSION);
        out.put_slice(value.as_bytes());
    }
}

pub(crate) fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_i32(0);
    write(out);
    let bytes = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&bytes.to_be_bytes());
}
