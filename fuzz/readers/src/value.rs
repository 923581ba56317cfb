//! A value of the WAL, and the payload inside.
//!
//! No fuzzer finds a checksum by chance. So the bytes are read a second time with a valid checksum, as if a version of
//! tallyd had written them, and a third time as a bare payload.

use tallyd_wal::chunk::{Chunk, ChunkBuilder, Entry, PAYLOAD_TARGET_BYTES, PayloadReader, REFUSED_PAYLOAD_BYTES};
use tallyd_wal::identity::Proof;
use tallyd_wal::value::{self, HEADER_BYTES, Stamp, VALUE_BYTES_MAX, ValueError};

/// The first eight bytes are the key, the others the value.
pub fn run(bytes: &[u8]) {
    let Some((key, bytes)) = bytes.split_first_chunk() else { return };
    let key = u64::from_be_bytes(*key);
    // It may be accepted or refused; its properties are checked if it is accepted.
    let _ = read(key, bytes);
    let mut sealed = bytes.to_vec();
    if sealed.len() >= HEADER_BYTES {
        let checksum = value::checksum(key, &sealed);
        sealed[4..8].copy_from_slice(&checksum.to_le_bytes());
        assert_ne!(read(key, &sealed), Err(ValueError::Checksum));
        assert_eq!(value::decode(key.wrapping_add(1), &sealed).err(), Some(ValueError::Checksum));
    }
    read_payload(bytes);
}

fn read(key: u64, bytes: &[u8]) -> Result<(), ValueError> {
    let (header, payload) = value::decode(key, bytes)?;
    assert_eq!(value::trusted(bytes), (header, payload));
    let has_proof = bytes[0] == value::FORMAT && bytes[64..66] != [0, 0];
    let proof_bytes = if has_proof { size_of::<Proof>() } else { 0 };
    assert_eq!(HEADER_BYTES + proof_bytes + header.producer.len() + payload.len(), bytes.len());
    read_payload(payload);
    let knows_all = bytes[0] == value::FORMAT && bytes[3] & !(value::LANE | value::MORE) == 0;
    // A producer has a name.
    let is_whole = !has_proof || !header.producer.is_empty();
    let is_ours = knows_all && is_whole && (header.part, header.parts) == (0, 1) && bytes.len() <= VALUE_BYTES_MAX;
    if is_ours {
        let chunk = Chunk {
            payload: payload.to_vec(),
            records: header.records,
            refused: header.refused,
            first_seq: header.first_seq,
            last_seq: header.last_seq,
            min_us: header.min_us,
            max_us: header.max_us,
            columns: header.columns,
            claims: Default::default(),
        };
        let lane = header.lane.expect("this format says it");
        let (synced, written_us, more) = (header.synced, header.written_us, header.more);
        let stamp = Stamp { synced, written_us, producer: header.producer, proof: header.proof, lane, more };
        let mut again = Vec::new();
        value::encode(&mut again, key, stamp, &chunk, 0, 1);
        assert_eq!(again, bytes);
    }
    Ok(())
}

/// Decoded entries are written and read again. They must be the same, also if their first encoding was another.
fn read_payload(payload: &[u8]) {
    let mut entries = Vec::new();
    for entry in PayloadReader::new(payload) {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                assert!(error.at <= payload.len());
                break;
            }
        }
    }
    assert!(entries.len() <= payload.len());
    let mut builder = ChunkBuilder::new();
    let mut chunks = Vec::new();
    for (seq, entry) in (1..).zip(&entries) {
        chunks.extend(match entry {
            Entry::Call(call) => builder.push_call(seq, call),
            Entry::Refused(refused) => builder.push_refused(seq, refused),
        });
    }
    chunks.extend(builder.finish());
    let mut read = chunks.iter().flat_map(|chunk| PayloadReader::new(&chunk.payload)).filter(|read| !is_counted(read));
    // Counts are added up, and come at a chunk's end.
    for entry in entries.iter().filter(|entry| counted(entry) == 0) {
        let again = read.next().expect("as many entries").expect("what was written reads back");
        match (entry, again) {
            (Entry::Refused(one), Entry::Refused(two)) => {
                let kept = &one.payload[..one.payload.len().min(REFUSED_PAYLOAD_BYTES)];
                assert_eq!((one.code, one.field, one.message, kept), (two.code, two.field, two.message, two.payload));
            }
            (one, two) => assert_eq!(*one, two),
        }
    }
    assert!(read.next().is_none());
    let again = chunks.iter().flat_map(|chunk| PayloadReader::new(&chunk.payload)).flatten();
    assert_eq!(again.map(|entry| counted(&entry)).sum::<u64>(), entries.iter().map(counted).sum::<u64>());
    assert!(chunks.iter().all(|chunk| {
        PayloadReader::new(&chunk.payload).count() == 1 || chunk.payload.len() <= PAYLOAD_TARGET_BYTES
    }));
}

/// The number of records for which the entry stands without their bytes.
fn counted(entry: &Entry<'_>) -> u64 {
    match entry {
        Entry::Refused(refused) => refused.counted.into(),
        Entry::Call(_) => 0,
    }
}

fn is_counted(read: &Result<Entry<'_>, tallyd_wal::chunk::PayloadError>) -> bool {
    read.as_ref().is_ok_and(|entry| counted(entry) > 0)
}
