//! From values to whole chunks, and what is missing between them.

use std::collections::BTreeMap;

use super::Contents;
use crate::pipeline::wal::recent::{Payload, StoredChunk};
use crate::pipeline::wal::value;

/// Chunks from values, and what is missing between them.
pub fn assemble(values: &BTreeMap<u64, Vec<u8>>, first_key: u64, sealed: Option<u64>) -> Contents {
    let synced = values.values().map(|value| value::trusted(value).0.synced).max().unwrap_or(0);
    // Nobody claims more than a seal does: what is in a store beyond it did not count at an earlier start.
    let claimed = sealed.unwrap_or(synced);
    let last = values.keys().next_back().copied().unwrap_or(first_key).max(claimed);
    let end =
        (claimed.max(first_key)..=last).find(|key| *key > claimed && !values.contains_key(key)).unwrap_or(last + 1);
    let mut contents = Contents {
        buffer_id: None,
        chunks: Vec::new(),
        missing: Vec::new(),
        unacknowledged: values.range(end..).count() as u64,
        salvaged: 0,
        store_error: None,
    };
    let mut key = first_key;
    while key < end {
        match chunk(values, key, end) {
            Ok(chunk) => {
                key = chunk.last_key + 1;
                contents.chunks.push(chunk);
            }
            // The tail of a chunk whose last parts were never synced is no damage.
            Err(parts) if key + parts > end && end > claimed => {
                contents.unacknowledged += end - key;
                key = end;
            }
            Err(_) => {
                match contents.missing.last_mut() {
                    Some(range) if range.end() + 1 == key => *range = *range.start()..=key,
                    _ => contents.missing.push(key..=key),
                }
                key += 1;
            }
        }
    }
    contents
}

/// The chunk that begins with this key, or how many values it would take.
fn chunk(values: &BTreeMap<u64, Vec<u8>>, first_key: u64, end: u64) -> Result<StoredChunk, u64> {
    let (head, payload) = values.get(&first_key).map(|value| value::trusted(value)).ok_or(1_u64)?;
    let parts = u64::from(head.parts);
    if head.part != 0 || first_key + parts > end {
        return Err(if head.part == 0 { parts } else { 1 });
    }
    let mut payload = payload.to_vec();
    for part in 1..parts {
        let (later, rest) = values.get(&(first_key + part)).map(|value| value::trusted(value)).ok_or(1_u64)?;
        if u64::from(later.part) != part {
            return Err(1);
        }
        payload.extend_from_slice(rest);
    }
    Ok(StoredChunk {
        first_key,
        last_key: first_key + parts - 1,
        records: head.records,
        refused: head.refused,
        min_us: head.min_us,
        max_us: head.max_us,
        columns: head.columns,
        written_us: head.written_us,
        producer: head.producer.into(),
        payload: Payload::Held(payload),
    })
}
