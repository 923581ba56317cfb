//! Binary COPY, encoded by hand: the rows of `api_usage_log`.
//!
//! Source: PostgreSQL documentation, chapter "COPY", section "Binary Format". A row is the number of its fields as
//! 16 bits, then for each field its length as 32 bits (-1 for NULL) and its bytes as the type's receive function takes
//! them. The columns are those of [`COPY_SQL`], in its order.

use bytes::BufMut;

use crate::pipeline::chunk::{Call, Cost};
use crate::pricing::pg_numeric;

/// The statement whose data this module encodes.
pub const COPY_SQL: &str = "COPY api_usage_log (occurred_at, id, provider, model, endpoint, user_id, app, request_id, \
     input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, \
     extra_units, service_tier, status, latency_ms, cost_usd, cost_source, price_id, rollup_other, metadata) \
     FROM STDIN BINARY";

/// Columns of [`COPY_SQL`].
const COLUMNS: i16 = 23;

/// What stands before the first row: signature, flags, length of the header's extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What stands after the last row.
pub const TRAILER: &[u8] = &[0xff, 0xff];

/// Microseconds from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
const EPOCH_OFFSET_US: i64 = 946_684_800_000_000;

/// The version byte before a `jsonb` value's text.
const JSONB_VERSION: u8 = 1;

/// Appends a call's row.
pub fn write(out: &mut Vec<u8>, call: &Call<'_>, rollup_other: i16) {
    out.put_i16(COLUMNS);
    int8(out, call.occurred_at_us - EPOCH_OFFSET_US);
    out.put_i32(16);
    out.put_slice(&call.id);
    for value in [call.provider, call.model, call.endpoint, call.user_id, call.app, call.request_id] {
        text(out, value);
    }
    let tokens = &call.tokens;
    let counts =
        [tokens.input, tokens.output, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h, call.requests];
    for count in counts {
        // Admitted up to 10^12.
        int8(out, count as i64);
    }
    jsonb(out, call.extra_units);
    text(out, call.service_tier);
    // Admitted up to 999.
    int2(out, call.status as i16);
    // Admitted up to the column's maximum.
    int4(out, call.latency_ms.map(|ms| ms as i32));
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
    jsonb(out, call.metadata);
}

fn int2(out: &mut Vec<u8>, value: i16) {
    out.put_i32(2);
    out.put_i16(value);
}

fn int4(out: &mut Vec<u8>, value: Option<i32>) {
    match value {
        Some(value) => {
            out.put_i32(4);
            out.put_i32(value);
        }
        None => out.put_i32(-1),
    }
}

fn int8(out: &mut Vec<u8>, value: i64) {
    out.put_i32(8);
    out.put_i64(value);
}

fn text(out: &mut Vec<u8>, value: &str) {
    // Text is bounded to kilobytes.
    out.put_i32(value.len() as i32);
    out.put_slice(value.as_bytes());
}

fn jsonb(out: &mut Vec<u8>, value: &str) {
    if value.is_empty() {
        out.put_i32(-1);
    } else {
        out.put_i32(value.len() as i32 + 1);
        out.put_u8(JSONB_VERSION);
        out.put_slice(value.as_bytes());
    }
}

fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_i32(0);
    write(out);
    let bytes = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&bytes.to_be_bytes());
}
