//! Assembles chunks from values, and finds the gaps between them.

use std::collections::BTreeMap;

use super::SegmentContents;
use crate::recent::{Payload, StoredChunk};
use crate::value;

/// Chunks of values, and the gaps between them.
pub(crate) fn assemble(values: &BTreeMap<u64, Vec<u8>>, first_key: u64, sealed: Option<u64>) -> SegmentContents {
    let synced = values.values().map(|value| value::trusted(value).0.synced).max().unwrap_or(0);
    // A seal is decisive: values beyond it were invalid at an earlier start.
    let claimed = sealed.unwrap_or(synced);
    let last = values.keys().next_back().copied().unwrap_or(first_key).max(claimed);
    let mut end =
        (claimed.max(first_key)..=last).find(|key| *key > claimed && !values.contains_key(key)).unwrap_or(last + 1);
    // The tail of a bundle whose last values were never synced is not damage.
    while end > first_key && end - 1 > claimed && values.get(&(end - 1)).is_some_and(|last| value::trusted(last).0.more)
    {
        end -= 1;
    }
    let mut contents = SegmentContents {
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
            Some(chunk) => {
                key = chunk.last_key + 1;
                contents.chunks.push(chunk);
            }
            None => {
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

/// The chunk that begins with this key, if it is complete.
fn chunk(values: &BTreeMap<u64, Vec<u8>>, first_key: u64, end: u64) -> Option<StoredChunk> {
    let (head, payload) = values.get(&first_key).map(|value| value::trusted(value))?;
    let parts = u64::from(head.parts);
    if head.part != 0 || first_key + parts > end {
        return None;
    }
    let mut payload = payload.to_vec();
    for part in 1..parts {
        let (later, rest) = values.get(&(first_key + part)).map(|value| value::trusted(value))?;
        if u64::from(later.part) != part {
            return None;
        }
        payload.extend_from_slice(rest);
    }
    Some(StoredChunk {
        first_key,
        last_key: first_key + parts - 1,
        // No lane loads it.
        lane: 0,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkBuilder;
    use crate::identity::Proof;
    use crate::value::{Stamp, encode};

    /// A chunk of three parts beside chunks of one, in a WAL with these keys: each value claims that `synced` was
    /// synced.
    fn wal(parts: &[(u64, &[u64])]) -> BTreeMap<u64, Vec<u8>> {
        let mut values = BTreeMap::new();
        for (synced, keys) in parts {
            let mut builder = ChunkBuilder::new();
            let payload = vec![b'x'; (keys.len() - 1) * value::VALUE_BYTES_MAX + 10];
            let refused = crate::chunk::Refused {
                code: "nul",
                field: "",
                message: "",
                payload_format: "json",
                payload: &payload,
                ..Default::default()
            };
            assert!(builder.push_refused(1, &refused).is_none());
            let chunk = builder.finish().unwrap();
            for (part, key) in keys.iter().enumerate() {
                let mut bytes = Vec::new();
                let stamp =
                    Stamp { synced: *synced, written_us: 0, producer: "p", proof: Proof::NONE, lane: 0, more: false };
                encode(&mut bytes, *key, stamp, &chunk, part, keys.len());
                values.insert(*key, bytes);
            }
        }
        values
    }

    fn found(contents: &SegmentContents) -> Vec<(u64, u64)> {
        contents.chunks.iter().map(|chunk| (chunk.first_key, chunk.last_key)).collect()
    }

    #[test]
    fn what_comes_after_a_gap_that_nobody_claims_was_never_acknowledged() {
        let mut values = wal(&[(0, &[10]), (10, &[11]), (11, &[12]), (11, &[13]), (11, &[14])]);
        values.remove(&12);
        let contents = assemble(&values, 10, None);
        assert_eq!(found(&contents), [(10, 10), (11, 11)]);
        assert_eq!((contents.missing.as_slice(), contents.unacknowledged), (&[][..], 2));
    }

    #[test]
    fn a_key_that_was_claimed_is_missing_and_what_follows_counts() {
        let mut values = wal(&[(0, &[10]), (10, &[11]), (11, &[12]), (13, &[13]), (13, &[14])]);
        values.remove(&12);
        let contents = assemble(&values, 10, None);
        assert_eq!(found(&contents), [(10, 10), (11, 11), (13, 13), (14, 14)]);
        assert_eq!((contents.missing.as_slice(), contents.unacknowledged), (&[12..=12][..], 0));
        let sealed = assemble(&values, 10, Some(13));
        assert_eq!((found(&sealed).len(), sealed.unacknowledged), (4, 0), "14 follows without a gap");
    }

    #[test]
    fn a_bundle_that_was_not_written_to_its_end_was_never_acknowledged() {
        let mut values = wal(&[(0, &[10]), (10, &[11]), (10, &[12])]);
        let first = values.get_mut(&11).unwrap();
        first[3] |= value::MORE;
        let crc = value::checksum(11, first);
        first[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(found(&assemble(&values, 10, None)).len(), 3);
        values.remove(&12);
        let contents = assemble(&values, 10, None);
        assert_eq!((found(&contents), contents.unacknowledged), (vec![(10, 10)], 1));
        let claimed = assemble(&values, 10, Some(12));
        assert_eq!(
            (found(&claimed), &*claimed.missing),
            (vec![(10, 10), (11, 11)], &[12..=12][..]),
            "a seal claims it"
        );
    }

    #[test]
    fn a_chunk_that_was_not_written_to_its_end_was_never_acknowledged() {
        let mut values = wal(&[(0, &[10]), (10, &[11, 12, 13])]);
        values.remove(&13);
        let contents = assemble(&values, 10, None);
        assert_eq!(found(&contents), [(10, 10)]);
        assert_eq!((contents.missing.as_slice(), contents.unacknowledged), (&[][..], 2));
        let claimed = assemble(&values, 10, Some(13));
        assert_eq!((claimed.missing.as_slice(), claimed.unacknowledged), (&[11..=13][..], 0), "a seal claims it");
    }
}
