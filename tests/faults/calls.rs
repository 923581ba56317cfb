//! The records that producers send: of every shape, and each determined by its producer and its number.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use tallyd_client::Record;
use uuid::Uuid;

/// One record in this many is one that the daemon must refuse.
const REFUSED_EVERY: u64 = 101;

/// A payload's fingerprint: the first 16 hexadecimal digits of its SHA-256.
pub type Print = String;

/// The record's id, made of its producer and its number.
pub fn id(producer: u64, seq: u64) -> [u8; 16] {
    (u128::from(producer) << 64 | u128::from(seq)).to_be_bytes()
}

/// The inverse of [`id`].
pub fn of_id(id: &Uuid) -> (u64, u64) {
    id.as_u64_pair()
}

/// Producers from this number on send no record that is refused.
pub const FLAWLESS: u64 = 1 << 32;

/// True if the daemon must refuse the record.
pub fn is_refused(producer: u64, seq: u64) -> bool {
    producer < FLAWLESS && seq.is_multiple_of(REFUSED_EVERY)
}

/// Days, users, models and sizes differ. A few records exceed the size of one value in the WAL, and one in
/// [`REFUSED_EVERY`] has a NUL, which is refused.
pub fn call(producer: u64, seq: u64) -> Record {
    let mut record = match seq % 5 {
        0 => Record::rentcast(["/avm", "/listings", "/markets"][(seq % 3) as usize]),
        1 => Record::claude("of-tomorrow", seq, 7),
        _ => Record::claude("claude-sonnet-4-5", seq, seq % 900),
    };
    record.id = Some(id(producer, seq));
    // Spread over three days from 2026-03-01 on.
    record.occurred_at = Some(1_772_323_200_000_000 + (seq % 72) as i64 * 3_600_000_000);
    record.user_id = format!("user-{}{}", seq % 17, if is_refused(producer, seq) { "\0" } else { "" }).into();
    if seq.is_multiple_of(7) {
        record.app = "front-end".into();
        record.status = 529;
        record.latency_ms = Some((seq % 10_000) as u32);
    }
    if seq.is_multiple_of(11) {
        record.cost_usd = Some(format!("0.{:06}1", seq % 1_000_000).into());
        record.cache_read_tokens = seq * 3;
    }
    if seq.is_multiple_of(13) {
        let bytes = if seq.is_multiple_of(13 * 61) { 12_000 } else { (seq % 300) as usize };
        record.metadata = Some(metadata(seq, bytes).into());
    }
    record
}

/// JSON with the spaces that PostgreSQL's `jsonb` prints.
fn metadata(seq: u64, bytes: usize) -> String {
    let pad: String = (0..bytes).map(|at| char::from(b'a' + ((seq as usize + at * at) % 26) as u8)).collect();
    format!(r#"{{"n": {seq}, "pad": "{pad}"}}"#)
}

/// The fingerprint of an accepted record's row in the call log, as [`FINGERPRINTS`] computes it.
pub fn fingerprint(record: &Record) -> Print {
    let mut text = String::new();
    let texts = [&record.provider, &record.model, &record.endpoint, &record.user_id, &record.app, &record.service_tier];
    for part in texts {
        let _ = write!(text, "{part}|");
    }
    let numbers = [record.input_tokens, record.output_tokens, record.cache_read_tokens, record.requests];
    for part in numbers.into_iter().chain([u64::from(record.status)]) {
        let _ = write!(text, "{part}|");
    }
    let latency = record.latency_ms.map_or_else(|| "-".into(), |ms| ms.to_string());
    let cost = record.cost_usd.as_deref().unwrap_or("-");
    let metadata = record.metadata.as_deref().unwrap_or("-");
    let _ = write!(text, "{latency}|{}|{cost}|{metadata}", record.occurred_at.unwrap_or(0));
    print_of(text.as_bytes())
}

/// Id, fingerprint and number of rows in the call log.
pub const FINGERPRINTS: &str = "SELECT id, left(encode(sha256(convert_to(concat_ws('|', provider, model, endpoint, \
    user_id, app, service_tier, input_tokens, output_tokens, cache_read_tokens, requests, status, \
    coalesce(latency_ms::text, '-'), (extract(epoch FROM occurred_at) * 1000000)::int8, \
    CASE cost_source WHEN 'client' THEN trim_scale(cost_usd)::text ELSE '-' END, \
    coalesce(metadata::text, '-')), 'UTF8')), 'hex'), 16), count(*) FROM api_usage_log GROUP BY 1, 2";

/// The fingerprint of a refused record's dead letter: of its bytes on the wire.
pub fn letter(record: &Record) -> Print {
    let mut bytes = Vec::new();
    tallyd_protocol::record::write(&mut bytes, record);
    print_of(&bytes)
}

/// Fingerprint of each dead letter's payload, and the number of its rows.
pub const LETTERS: &str = "SELECT left(encode(sha256(payload), 'hex'), 16), count(*) FROM dead_letters GROUP BY 1";

fn print_of(bytes: &[u8]) -> Print {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
