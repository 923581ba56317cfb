//! Builds chunks: encodes each record once, while its frame is still in the socket's buffer.

use super::call::{NAME_COLUMNS, call_bytes_max};
use super::varint::write_u64;
use tallyd_model::call::Call;

use super::{
    Columns, Entry, IdentityClaims, PAYLOAD_TARGET_BYTES, PayloadError, PayloadReader, REFUSED_PAYLOAD_BYTES, Refused,
    TAG_REFUSED, TAG_REFUSED_BY, Ticket,
};

/// Number of recent names for each column. Providers and models usually repeat; users mostly do not.
const RECENT_NAMES: usize = 8;
/// Bytes that a chunk may keep allocated beyond its payload. Of a bundle's chunks only one is full.
const SPARE_BYTES: usize = 512;

/// Encoded records that stay together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The entries; see the module's header.
    pub payload: Vec<u8>,
    /// Calls in the payload.
    pub records: u32,
    /// Refused records in the payload.
    pub refused: u32,
    /// The producer's first sequence number in the chunk; 0 without a producer.
    pub first_seq: u64,
    /// The last one.
    pub last_seq: u64,
    /// The earliest `occurred_at_us` of its calls; `i64::MAX` without any.
    pub min_us: i64,
    /// The latest `occurred_at_us`; `i64::MIN` without any.
    pub max_us: i64,
    /// Columns in which a call differs from the table's defaults.
    pub columns: Columns,
    /// Claims of calls with a stated identity; empty if client libraries made all ids.
    pub claims: IdentityClaims,
}

impl Chunk {
    /// A chunk of one record with these bytes as entries: for tests that use only its header.
    #[cfg(test)]
    pub(crate) fn of_bytes(seq: u64, payload: Vec<u8>) -> Self {
        Self { payload, records: 1, first_seq: seq, last_seq: seq, min_us: 0, max_us: 0, ..empty() }
    }

    /// True if it has numbers only, and no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.refused == 0
    }

    /// The chunk without some of its calls, given by their places among its calls in ascending order.
    ///
    /// # Errors
    /// [`PayloadError`], for an invalid payload.
    pub fn without(&self, places: &[u32]) -> Result<Self, PayloadError> {
        let mut builder = ChunkBuilder::new();
        let mut place = 0;
        // A larger chunk is stored in parts.
        for entry in PayloadReader::new(&self.payload) {
            match entry? {
                Entry::Call(call) => {
                    if places.binary_search(&place).is_err() {
                        builder.append_call(self.last_seq, &call);
                    }
                    place += 1;
                }
                Entry::Refused(refused) => builder.append_refused(self.last_seq, &refused),
            }
        }
        let kept = builder.finish().unwrap_or_else(empty);
        Ok(Self { first_seq: self.first_seq, last_seq: self.last_seq, claims: IdentityClaims::default(), ..kept })
    }
}

/// A name's position in the payload, and its place in the chunk's table.
#[derive(Clone, Copy, Default)]
struct Name {
    start: u32,
    len: u32,
    index: u32,
    /// Its last bytes: users' ids often have equal beginnings and different ends, so these decide most comparisons.
    tail: u64,
}

/// Encodes records into chunks of bounded size.
pub struct ChunkBuilder {
    pub(super) chunk: Chunk,
    pub(super) previous_us: i64,
    names: u32,
    recent: [[Name; RECENT_NAMES]; NAME_COLUMNS],
    next: [u8; NAME_COLUMNS],
    counted: Vec<Counted>,
}

/// Refused records that are only counted: one entry, written at the chunk's end.
struct Counted {
    sender: String,
    code: String,
    field: String,
    count: u32,
}

impl Counted {
    fn is_of(&self, refused: &Refused<'_>) -> bool {
        self.code == refused.code && self.field == refused.field && self.sender == refused.sender
    }

    fn bytes_max(&self) -> usize {
        self.sender.len() + self.code.len() + self.field.len() + COUNTED_BYTES
    }
}

/// Upper bound of a counted entry's bytes without its texts.
const COUNTED_BYTES: usize = 24;
/// The WAL's header has 16 bits for the refused records of a chunk.
const REFUSED_MAX: u32 = u16::MAX as u32;

impl Default for ChunkBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkBuilder {
    /// A builder with an empty chunk.
    #[must_use]
    pub fn new() -> Self {
        Self {
            chunk: empty(),
            previous_us: 0,
            names: 0,
            recent: [[Name::default(); RECENT_NAMES]; NAME_COLUMNS],
            next: [0; NAME_COLUMNS],
            counted: Vec::new(),
        }
    }

    /// Adds a call. If it does not fit, returns the chunk before it.
    pub fn push_call(&mut self, seq: u64, call: &Call<'_>) -> Option<Chunk> {
        let full = if self.has_room_for(call) { None } else { self.finish() };
        self.append_call(seq, call);
        full
    }

    /// Adds a call that fits.
    pub(super) fn append_call(&mut self, seq: u64, call: &Call<'_>) {
        self.settle(seq);
        self.chunk.records += 1;
        self.chunk.min_us = self.chunk.min_us.min(call.occurred_at_us);
        self.chunk.max_us = self.chunk.max_us.max(call.occurred_at_us);
        self.chunk.columns |= Columns::of(call);
        if call.stated.is_any() {
            self.chunk.claims.add(self.chunk.records - 1, call);
        }
        self.write_call(call);
    }

    /// The ticket of the last call, if it states its identity.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.chunk.claims.ticket(self.chunk.records.checked_sub(1)?)
    }

    /// Adds a refused record. If it does not fit, returns the chunk before it.
    pub fn push_refused(&mut self, seq: u64, refused: &Refused<'_>) -> Option<Chunk> {
        let full = if self.has_room_for_refused(refused) { None } else { self.finish() };
        self.append_refused(seq, refused);
        full
    }

    /// Adds a refused record that fits.
    pub(super) fn append_refused(&mut self, seq: u64, refused: &Refused<'_>) {
        self.settle(seq);
        self.chunk.refused += refused.counted.max(1);
        if refused.counted == 0 {
            return self.write_refused(refused);
        }
        match self.counted.iter_mut().find(|counted| counted.is_of(refused)) {
            Some(counted) => counted.count += refused.counted,
            None => self.counted.push(Counted {
                sender: refused.sender.to_owned(),
                code: refused.code.to_owned(),
                field: refused.field.to_owned(),
                count: refused.counted,
            }),
        }
    }

    fn write_refused(&mut self, refused: &Refused<'_>) {
        let payload = &refused.payload[..refused.payload.len().min(REFUSED_PAYLOAD_BYTES)];
        let texts = [refused.code, refused.field, refused.message, refused.payload_format];
        let out = &mut self.chunk.payload;
        if refused.sender.is_empty() && refused.counted == 0 {
            out.push(TAG_REFUSED);
        } else {
            out.push(TAG_REFUSED_BY);
            write_u64(out, refused.sender.len() as u64);
            out.extend_from_slice(refused.sender.as_bytes());
            write_u64(out, refused.counted.into());
        }
        for bytes in texts.iter().map(|text| text.as_bytes()).chain([payload]) {
            write_u64(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    }

    /// Takes the chunk if it is not empty.
    pub fn finish(&mut self) -> Option<Chunk> {
        if self.is_empty() {
            return None;
        }
        for Counted { sender, code, field, count } in std::mem::take(&mut self.counted) {
            let (sender, code, field) = (sender.as_str(), code.as_str(), field.as_str());
            self.write_refused(&Refused { sender, code, field, counted: count, ..Refused::default() });
        }
        self.previous_us = 0;
        self.names = 0;
        self.recent = [[Name::default(); RECENT_NAMES]; NAME_COLUMNS];
        let mut chunk = std::mem::replace(&mut self.chunk, empty());
        if chunk.payload.len() + SPARE_BYTES <= PAYLOAD_TARGET_BYTES {
            // The chunk waits in memory for a batch, or longer while the database is down.
            chunk.payload.shrink_to_fit();
        }
        Some(chunk)
    }

    /// Number of bytes of payload.
    pub(super) fn bytes(&self) -> usize {
        self.chunk.payload.len()
    }

    /// True if the call fits, or is the first.
    pub(super) fn has_room_for(&self, call: &Call<'_>) -> bool {
        self.is_empty() || self.fits(call_bytes_max(call))
    }

    /// True if the refused record fits, or is the first.
    pub(super) fn has_room_for_refused(&self, refused: &Refused<'_>) -> bool {
        let has_number = self.chunk.refused + refused.counted.max(1) <= REFUSED_MAX;
        let is_shared = refused.counted > 0 && self.counted.iter().any(|counted| counted.is_of(refused));
        self.is_empty() || has_number && (is_shared || self.fits(refused_bytes_max(refused)))
    }

    fn is_empty(&self) -> bool {
        self.chunk.records == 0 && self.chunk.refused == 0
    }

    fn fits(&self, bytes: usize) -> bool {
        let counted: usize = self.counted.iter().map(Counted::bytes_max).sum();
        self.chunk.payload.len() + counted + bytes <= PAYLOAD_TARGET_BYTES
    }

    fn settle(&mut self, seq: u64) {
        if self.is_empty() {
            self.chunk.first_seq = seq;
            // Allocated with the first record only, because thousands of connections are idle.
            self.chunk.payload.reserve_exact(PAYLOAD_TARGET_BYTES);
        }
        self.chunk.last_seq = seq;
    }

    pub(super) fn write_name(&mut self, column: usize, name: &str) {
        let out = &mut self.chunk.payload;
        if name.is_empty() {
            out.push(0);
            return;
        }
        let bytes = name.as_bytes();
        let tail = tail_of(bytes);
        let known = self.recent[column].iter().find(|known| {
            known.tail == tail
                && known.len as usize == bytes.len()
                && &out[known.start as usize..][..bytes.len()] == bytes
        });
        if let Some(known) = known {
            write_u64(out, 2 * (u64::from(known.index) + 1));
            return;
        }
        write_u64(out, 2 * bytes.len() as u64 + 1);
        debug_assert!(
            u32::try_from(out.len() + bytes.len()).is_ok(),
            "a chunk ends below 7 KB, or after one record of a frame"
        );
        let place = Name { start: out.len() as u32, len: bytes.len() as u32, index: self.names, tail };
        out.extend_from_slice(bytes);
        self.names += 1;
        let next = &mut self.next[column];
        self.recent[column][usize::from(*next)] = place;
        *next = (*next + 1) % RECENT_NAMES as u8;
    }
}

pub(super) fn tail_of(bytes: &[u8]) -> u64 {
    match bytes.last_chunk::<8>() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => bytes.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte)),
    }
}

fn empty() -> Chunk {
    Chunk {
        payload: Vec::new(),
        records: 0,
        refused: 0,
        first_seq: 0,
        last_seq: 0,
        min_us: i64::MAX,
        max_us: i64::MIN,
        columns: Columns::NONE,
        claims: IdentityClaims::default(),
    }
}

/// Upper bound of a refused record's bytes.
fn refused_bytes_max(refused: &Refused<'_>) -> usize {
    let texts = [refused.code, refused.field, refused.message, refused.payload_format];
    let payload = refused.payload.len().min(REFUSED_PAYLOAD_BYTES);
    payload + refused.sender.len() + texts.iter().map(|text| text.len() + 4).sum::<usize>() + COUNTED_BYTES
}
