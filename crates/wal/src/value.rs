//! One value of the WAL: a fixed header, the producer, and a chunk's payload or a part of it.
//!
//! ## Layout, little-endian
//! | bytes | field |
//! |---|---|
//! | 0 | format, [`FORMAT`] |
//! | 1 | part: this value's place among its chunk's parts, from 0 |
//! | 2 | parts: number of values of the chunk, 1 for nearly all |
//! | 3 | the lane that loads the chunk, 4 bits, and [`MORE`] if values of the same bundle follow; 0 in format 1 |
//! | 4–7 | CRC32C of the key (big-endian) and of all fields after this one |
//! | 8–15 | the highest synced key when this value was written |
//! | 16–31 | the producer's first and last sequence number in the chunk; 0 without a producer |
//! | 32–35 | calls and refused records in the chunk, 16 bits each |
//! | 36–39 | the columns that the chunk's calls need, one bit each: [`Columns`] |
//! | 40–55 | the earliest and latest `occurred_at`, microseconds |
//! | 56–63 | time of writing, microseconds |
//! | 64–65 | bytes of the producer, which follows: 16 of its proof, then its name; 0 without a producer |
//!
//! The key is part of the checksum: a value under another key is damage, not data.
//!
//! Formats 1 and 2 can still be read. They do not have a proof: the producer is its name alone. Format 1 has neither
//! lane nor bundle: the key gives the chunk's lane ([`super::lanes`]), and only the parts of one chunk belong together.

use crate::chunk::{Chunk, Columns};
use crate::identity::{ProducerIdentity, Proof};

/// The format that this version writes.
pub const FORMAT: u8 = 3;
/// The previous format, whose producers do not have a proof.
pub(crate) const FORMAT_2: u8 = 2;
/// The first format, which has neither lane nor bundle either.
pub(crate) const FORMAT_1: u8 = 1;
/// In byte 3: more values of the same bundle follow. A bundle that ends with such a value is incomplete.
pub const MORE: u8 = 1 << 7;
/// In byte 3: the lane.
pub const LANE: u8 = 0x0f;
/// Bytes of the header without the producer.
pub const HEADER_BYTES: usize = 66;
/// Largest number of bytes of a value. 16 of them are below the 128 KiB page from which on sled uses blob files.
pub const VALUE_BYTES_MAX: usize = 7 * 1024;
/// Bytes of a producer's proof.
const PROOF_BYTES: usize = size_of::<Proof>();
/// Largest number of parts of a chunk.
pub const PARTS_MAX: usize = 255;

/// A header, decoded. The name borrows from the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// This value's place among its chunk's parts.
    pub part: u8,
    /// Number of values of the chunk.
    pub parts: u8,
    /// The lane that loads the chunk; none in format 1, whose lane follows from the key.
    pub lane: Option<u16>,
    /// True if values of the same bundle follow, parts of the same chunk among them.
    pub more: bool,
    /// The highest synced key when this value was written.
    pub synced: u64,
    /// The producer's first sequence number in the chunk.
    pub first_seq: u64,
    /// The last.
    pub last_seq: u64,
    /// Calls in the chunk.
    pub records: u32,
    /// Refused records in the chunk.
    pub refused: u32,
    /// The columns that its calls need.
    pub columns: Columns,
    /// The earliest `occurred_at`.
    pub min_us: i64,
    /// The latest.
    pub max_us: i64,
    /// Time of writing, microseconds since 1970.
    pub written_us: i64,
    /// The producer's name, or empty.
    pub producer: &'a str,
    /// The producer's proof; none in earlier formats.
    pub proof: Proof,
}

impl Header<'_> {
    /// The producer.
    #[must_use]
    pub fn identity(&self) -> ProducerIdentity {
        ProducerIdentity { name: self.producer.into(), proof: self.proof }
    }
}

/// The header fields that the WAL sets.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The highest key known to be synced.
    pub synced: u64,
    /// The time, microseconds since 1970.
    pub written_us: i64,
    /// The producer's name, or empty.
    pub producer: &'a str,
    /// The producer's proof.
    pub proof: Proof,
    /// The lane that loads the chunk; below 16.
    pub lane: u16,
    /// True if other chunks of the same bundle follow this one.
    pub more: bool,
}

/// Why bytes are not a valid value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Fewer bytes than a header.
    #[error("it is cut short")]
    Truncated,
    /// The bytes have changed, or belong to another key.
    #[error("its checksum is wrong")]
    Checksum,
    /// Another version wrote it.
    #[error("its format is {0}, and this version reads up to {FORMAT}")]
    Format(u8),
}

/// Number of values of a chunk, given its producer's name.
#[must_use]
pub(crate) fn parts_of(payload_bytes: usize, producer: &str) -> usize {
    payload_bytes.div_ceil(room(producer)).max(1)
}

fn room(producer: &str) -> usize {
    VALUE_BYTES_MAX - HEADER_BYTES - producer_bytes(producer)
}

fn producer_bytes(producer: &str) -> usize {
    if producer.is_empty() { 0 } else { PROOF_BYTES + producer.len() }
}

/// Writes one part of a chunk into `out`, which is cleared first.
pub fn encode(out: &mut Vec<u8>, key: u64, stamp: Stamp<'_>, chunk: &Chunk, part: usize, parts: usize) {
    let room = room(stamp.producer);
    let start = (part * room).min(chunk.payload.len());
    let payload = &chunk.payload[start..(start + room).min(chunk.payload.len())];
    out.clear();
    // A chunk with more than PARTS_MAX parts was refused earlier; names are bounded by the handshake.
    debug_assert!(part < parts && parts <= PARTS_MAX && stamp.lane <= u16::from(LANE));
    let more = if stamp.more || part + 1 < parts { MORE } else { 0 };
    out.extend_from_slice(&[FORMAT, part as u8, parts as u8, stamp.lane as u8 & LANE | more]);
    out.extend_from_slice(&[0; 4]);
    for number in [stamp.synced, chunk.first_seq, chunk.last_seq] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    // Each entry takes bytes, and a chunk with several entries ends below 7 KB.
    debug_assert!(chunk.records.max(chunk.refused) <= u32::from(u16::MAX));
    out.extend_from_slice(&(chunk.records as u16).to_le_bytes());
    out.extend_from_slice(&(chunk.refused as u16).to_le_bytes());
    out.extend_from_slice(&chunk.columns.bits().to_le_bytes());
    out.extend_from_slice(&chunk.min_us.to_le_bytes());
    out.extend_from_slice(&chunk.max_us.to_le_bytes());
    out.extend_from_slice(&stamp.written_us.to_le_bytes());
    let producer_bytes = producer_bytes(stamp.producer);
    debug_assert!(producer_bytes <= usize::from(u16::MAX));
    out.extend_from_slice(&(producer_bytes as u16).to_le_bytes());
    if !stamp.producer.is_empty() {
        out.extend_from_slice(&stamp.proof.0);
        out.extend_from_slice(stamp.producer.as_bytes());
    }
    out.extend_from_slice(payload);
    let crc = checksum(key, out);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Checks a value read under `key`, and returns its header and payload.
///
/// # Errors
/// [`ValueError`] if the bytes are not exactly those written under this key.
pub fn decode(key: u64, bytes: &[u8]) -> Result<(Header<'_>, &[u8]), ValueError> {
    if bytes.len() < HEADER_BYTES {
        return Err(ValueError::Truncated);
    }
    let stored = u32::from_le_bytes(array(bytes, 4));
    if checksum(key, bytes) != stored {
        return Err(ValueError::Checksum);
    }
    if !matches!(bytes[0], FORMAT_1 | FORMAT_2 | FORMAT) {
        return Err(ValueError::Format(bytes[0]));
    }
    parse(bytes).ok_or(ValueError::Truncated)
}

/// The key of a value, if it is among the candidates, found by the checksum. For values that are found without their
/// key; [`decode`] accepts them under the returned key.
#[must_use]
pub(crate) fn key_of(bytes: &[u8], mut candidates: std::ops::RangeInclusive<u64>) -> Option<u64> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let stored = stored_checksum(bytes);
    // Combines checksums, so that the value is read only once for all keys.
    let rest = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
    candidates.find(|key| crc32c::crc32c_combine(crc32c::crc32c(&key.to_be_bytes()), rest, bytes.len() - 4) == stored)
}

/// The header and payload of bytes that [`decode`] has accepted.
///
/// # Panics
/// If they were not accepted.
#[must_use]
pub fn trusted(bytes: &[u8]) -> (Header<'_>, &[u8]) {
    parse(bytes).expect("the value was checked when it was read")
}

/// The value's CRC32C in its header.
#[must_use]
pub(crate) fn stored_checksum(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(array(bytes, 4))
}

fn parse(bytes: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let producer_bytes = usize::from(u16::from_le_bytes(array(bytes, 64)));
    let (producer, payload) = bytes[HEADER_BYTES..].split_at_checked(producer_bytes)?;
    let (proof, producer) = match producer.split_first_chunk() {
        Some((proof, name)) if bytes[0] == FORMAT => (Proof(*proof), name),
        _ if bytes[0] == FORMAT && !producer.is_empty() => return None,
        _ => (Proof::NONE, producer),
    };
    let header = Header {
        part: bytes[1],
        parts: bytes[2],
        lane: (bytes[0] != FORMAT_1).then_some(u16::from(bytes[3] & LANE)),
        more: bytes[3] & MORE != 0 || bytes[1].saturating_add(1) < bytes[2],
        synced: u64::from_le_bytes(array(bytes, 8)),
        first_seq: u64::from_le_bytes(array(bytes, 16)),
        last_seq: u64::from_le_bytes(array(bytes, 24)),
        records: u16::from_le_bytes(array(bytes, 32)).into(),
        refused: u16::from_le_bytes(array(bytes, 34)).into(),
        columns: Columns::from_bits(u32::from_le_bytes(array(bytes, 36))),
        min_us: i64::from_le_bytes(array(bytes, 40)),
        max_us: i64::from_le_bytes(array(bytes, 48)),
        written_us: i64::from_le_bytes(array(bytes, 56)),
        producer: std::str::from_utf8(producer).ok()?,
        proof,
    };
    Some((header, payload))
}

/// The checksum for a value's header.
pub fn checksum(key: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&key.to_be_bytes());
    let crc = crc32c::crc32c_append(crc, &bytes[..4]);
    crc32c::crc32c_append(crc, &bytes[8..])
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    // Callers have checked that the header is complete.
    bytes[at..at + N].try_into().expect("a range of N bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(payload: Vec<u8>) -> Chunk {
        let columns = Columns::APP | Columns::STATUS;
        Chunk {
            payload,
            records: 3,
            refused: 1,
            first_seq: 5,
            last_seq: 8,
            min_us: -4,
            max_us: 1 << 50,
            columns,
            claims: Default::default(),
        }
    }

    const PROOF: Proof = Proof([9; PROOF_BYTES]);

    fn stamp(producer: &str) -> Stamp<'_> {
        Stamp { synced: 77, written_us: 5, producer, proof: PROOF, lane: 3, more: false }
    }

    proptest! {
        #[test]
        fn a_chunk_in_parts_reads_back(payload in prop::collection::vec(any::<u8>(), 0..30_000), producer in "[a-z]{0,128}", key: u64) {
            let chunk = chunk(payload);
            let parts = parts_of(chunk.payload.len(), &producer);
            let mut read = Vec::new();
            for part in 0..parts {
                let key = key.wrapping_add(part as u64);
                let mut value = Vec::new();
                encode(&mut value, key, stamp(&producer), &chunk, part, parts);
                prop_assert!(value.len() <= VALUE_BYTES_MAX);
                let (header, payload) = decode(key, &value).unwrap();
                prop_assert_eq!((header.part as usize, header.parts as usize), (part, parts));
                let proof = if producer.is_empty() { Proof::NONE } else { PROOF };
                prop_assert_eq!((header.producer, header.proof, header.synced), (producer.as_str(), proof, 77));
                prop_assert_eq!((header.lane, header.more), (Some(3), part + 1 < parts));
                prop_assert_eq!((header.first_seq, header.last_seq, header.records, header.refused), (5, 8, 3, 1));
                prop_assert_eq!(header.columns, chunk.columns);
                read.extend_from_slice(payload);
            }
            prop_assert_eq!(read, chunk.payload);
        }

        #[test]
        fn one_flipped_bit_is_found(payload in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0..8u32) {
            let mut value = Vec::new();
            encode(&mut value, 9, stamp("p"), &chunk(payload), 0, 1);
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            prop_assert!(decode(9, &value).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(decode(1, &bytes).is_err());
        }
    }

    /// In the form of earlier versions.
    fn as_format(format: u8, key: u64, value: &mut Vec<u8>) {
        value[0] = format;
        if format == FORMAT_1 {
            value[3] = 0;
        }
        value.drain(HEADER_BYTES..HEADER_BYTES + PROOF_BYTES);
        value[64] -= PROOF_BYTES as u8;
        let crc = checksum(key, value);
        value[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn older_formats_have_no_proof_and_the_first_one_no_lane_and_only_parts_that_belong_together() {
        for (part, more) in [(0, true), (1, false)] {
            let mut value = Vec::new();
            encode(&mut value, 9, Stamp { more: true, ..stamp("p") }, &chunk(vec![7; 9_000]), part, 2);
            assert!(decode(9, &value).unwrap().0.more, "another chunk of the bundle follows");
            let mut older = value.clone();
            as_format(FORMAT_2, 9, &mut older);
            let (older, payload) = decode(9, &older).unwrap();
            let (newer, same) = decode(9, &value).unwrap();
            assert_eq!((older, payload), (Header { proof: Proof::NONE, ..newer }, same));
            as_format(FORMAT_1, 9, &mut value);
            let header = decode(9, &value).unwrap().0;
            assert_eq!((header.lane, header.more), (None, more));
        }
    }

    #[test]
    fn a_value_under_another_key_is_refused() {
        let mut value = Vec::new();
        encode(&mut value, 9, stamp("p"), &chunk(vec![1, 2]), 0, 1);
        assert!(decode(9, &value).is_ok());
        assert_eq!(decode(10, &value), Err(ValueError::Checksum));
    }
}
