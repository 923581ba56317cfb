//! The bytes of a spool file, as §13 of the protocol's specification has them.

use crc32fast::Hasher;
use tallyd_protocol::limits::PRODUCER_BYTES;

/// Bytes of the head, before the entries.
pub const HEAD_BYTES: usize = 4096;
/// Entries begin at multiples of this, counted from the end of the head.
pub const UNIT: usize = 64;
/// Bytes of an entry before its record.
pub const ENTRY_BYTES: usize = 16;
/// Where the head has the highest settled number.
pub const SETTLED_AT: usize = 512;

const MAGIC: [u8; 8] = *b"tallydsp";
const VERSION: u32 = 1;
/// The part of the head that its checksum covers.
const CHECKED: std::ops::Range<usize> = 16..320;
const PRODUCER_AT: usize = 64;
const SECRET_AT: usize = 192;

/// A file's constant properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub producer: String,
    pub secret: String,
    /// Random bytes that begin each entry's checksum. So a record's text cannot pass for an entry.
    pub salt: [u8; 8],
    /// Bytes for entries, a multiple of [`UNIT`].
    pub area: usize,
}

impl Head {
    /// The head's bytes. Nothing is settled yet.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.area as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt);
        bytes[PRODUCER_AT..][..self.producer.len()].copy_from_slice(self.producer.as_bytes());
        bytes[SECRET_AT..][..self.secret.len()].copy_from_slice(self.secret.as_bytes());
        let sum = crc32fast::hash(&bytes[CHECKED]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a head.
    ///
    /// # Errors
    /// Why the bytes are not a spool of this version.
    pub fn read(file: &[u8]) -> Result<Self, &'static str> {
        let Some(head) = file.first_chunk::<HEAD_BYTES>().filter(|head| head[..8] == MAGIC) else {
            return Err("it is not a spool file");
        };
        if u32_at(head, 8) != VERSION {
            return Err("it is of another version");
        }
        if u32_at(head, 12) != crc32fast::hash(&head[CHECKED]) {
            return Err("its head is damaged");
        }
        let text = |at: usize| {
            let bytes = head[at..at + PRODUCER_BYTES].split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8(bytes.to_vec()).map_err(|_| "its head is damaged")
        };
        let mut salt = [0; 8];
        salt.copy_from_slice(&head[24..32]);
        let area = usize::try_from(u64_at(head, 16)).map_err(|_| "it is too large")?;
        Ok(Self { producer: text(PRODUCER_AT)?, secret: text(SECRET_AT)?, salt, area })
    }

    /// The state of checksums before an entry's bytes.
    pub fn salted(&self) -> u32 {
        crc32fast::hash(&self.salt)
    }
}

/// A record that is not settled.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub seq: u64,
    /// The record's array form.
    pub record: &'a [u8],
}

/// An entry's checksum: of the salt, and of the record with the 8 bytes of its number behind it.
pub fn checksum(salted: u32, numbered: &[u8]) -> u32 {
    let mut sum = Hasher::new_with_initial(salted);
    sum.update(numbered);
    sum.finalize()
}

/// The units that an entry takes.
pub const fn units(record_bytes: usize) -> usize {
    (ENTRY_BYTES + record_bytes).div_ceil(UNIT)
}

/// The head, and the entries that are not settled, by rising number. Bytes that are not a whole entry are skipped: those of
/// a record whose `record()` had not returned when the process was killed, and those of settled entries.
///
/// # Errors
/// As [`Head::read`].
pub fn read(file: &[u8]) -> Result<(Head, Vec<Entry<'_>>), &'static str> {
    let head = Head::read(file)?;
    let (salted, settled) = (head.salted(), u64_at(file, SETTLED_AT));
    let area = &file[HEAD_BYTES..];
    let area = &area[..head.area.min(area.len())];
    let (mut entries, mut at) = (Vec::new(), 0);
    while at + ENTRY_BYTES <= area.len() {
        match entry(&area[at..], salted, settled) {
            Some(entry) => {
                at += units(entry.record.len()) * UNIT;
                entries.push(entry);
            }
            None => at += UNIT,
        }
    }
    entries.sort_unstable_by_key(|entry| entry.seq);
    Ok((head, entries))
}

fn entry(bytes: &[u8], salted: u32, settled: u64) -> Option<Entry<'_>> {
    let seq = u64_at(bytes, 0);
    let record = bytes[ENTRY_BYTES..].get(..u32_at(bytes, 8) as usize)?;
    let sum = || checksum(checksum(salted, record), &seq.to_le_bytes());
    let is_whole = seq > settled && !record.is_empty() && u32_at(bytes, 12) == sum();
    is_whole.then_some(Entry { seq, record })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}
