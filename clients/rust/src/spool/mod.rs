//! The spool: a ring of records in a memory-mapped file, which survives the end of the process.
//!
//! `record()` encodes the record, reserves room for it by one compare-and-swap, and copies it into the map. From then on it
//! is in the page cache: a SIGKILL of the process leaves it there, a loss of power may not. Nothing is synced.
//!
//! ```text
//! head │ settled … │ sent, not settled … │ not taken by the sender … │ free …
//!       0           freed                 read                        tail
//! ```
//! * The reservation gives each record its number, and the sender sends it under this number. So another process that
//!   finds the file resends each record under the number that the daemon may have, as the same producer.
//! * An entry's number is written last. The sender takes entries in order, and waits at one without a number. If the process
//!   ends there, the number was never used, and the next one is sent after a gap.
//! * Settled entries lose their numbers before their room is given away again, so a free unit never looks like an entry.
//! * `record()` waits for no other thread. If the room is used up, it gives the record back, as the ring does.

mod drain;
mod folder;
mod format;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;
use tallyd_protocol::{Record, record};

pub use self::drain::Drain;
pub use self::folder::NotMade;
use self::format::{ENTRY_BYTES, HEAD_BYTES, Head, SETTLED_AT, UNIT, checksum, units};
use crate::own::Own;
use crate::rng::Rng;
use crate::session::HelloOptions;

/// In place of a number: the rest up to the end of the area is left empty, because an entry is not divided.
const PAD: u64 = u64::MAX;
/// The smallest room for entries, in bytes: more than twice the largest record, so that one fits wherever the last one ended.
const AREA_MIN: usize = 4 << 20;
/// The largest room, 64 GiB: then positions and numbers of one file differ by less than 2^32.
const AREA_MAX: usize = 1 << 36;
/// The free bytes that [`Spool::has_room`] needs: one record for each of 64 threads.
const ROOM: u64 = 128 * 1024;

/// A cache line pair of its own, as in the ring.
#[repr(align(128))]
struct Apart<T>(T);

/// The end of the entries that are settled. Written by the sender, once for each acknowledgement.
struct Settled {
    /// The highest settled number.
    seq: AtomicU64,
    /// The first unit that is not free, counted over all laps.
    freed: AtomicU64,
}

/// The end of the entries that the sender has taken. Written by the sender, for each of them.
struct Taken {
    /// The last number.
    seq: AtomicU64,
    /// The next unit, counted over all laps.
    read: AtomicU64,
}

/// Room for an entry.
struct Place {
    seq: u64,
    /// The unit of the area that is left empty from there on, because the entry did not fit before the area's end.
    pad: Option<u64>,
    /// The first unit of the area that is the entry's.
    unit: u64,
}

/// A thread's buffer for encoding.
struct Scratch {
    bytes: Vec<u8>,
    rng: Rng,
}

thread_local! {
    /// Taken out while it is in use.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// The spool of one recorder. See the module.
pub struct Spool {
    map: MmapRaw,
    /// Keeps the lock.
    _file: File,
    path: PathBuf,
    /// Units in the area.
    area: u64,
    salted: u32,
    own: Own,
    /// Both halves count on modulo 2^32: the last number, and the first free unit. Written by recording threads.
    tail: Apart<AtomicU64>,
    settled: Apart<Settled>,
    taken: Apart<Taken>,
}

impl Spool {
    /// Makes a file in `folder`, with room for `bytes` of entries.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(folder: &Path, bytes: usize, hello: &HelloOptions, own: Own) -> Result<Self, NotMade> {
        Self::with_area(folder, bytes.clamp(AREA_MIN, AREA_MAX).next_multiple_of(UNIT), hello, own)
    }

    fn with_area(folder: &Path, area: usize, hello: &HelloOptions, own: Own) -> Result<Self, NotMade> {
        let salt = Rng::from_entropy().next_u128().to_le_bytes();
        let head = Head {
            producer: hello.producer.clone(),
            secret: hello.secret.clone(),
            salt: *salt.first_chunk().unwrap_or(&[0; 8]),
            area,
        };
        let (file, path) = folder::create(folder, &head)?;
        let zero = || AtomicU64::new(0);
        Ok(Self {
            map: MmapRaw::map_raw(&file).map_err(|error| NotMade { error, is_ours: true })?,
            _file: file,
            path,
            area: (area / UNIT) as u64,
            salted: head.salted(),
            own,
            tail: Apart(zero()),
            settled: Apart(Settled { seq: zero(), freed: zero() }),
            taken: Apart(Taken { seq: zero(), read: zero() }),
        })
    }

    /// Completes the record and copies it into the file. Returns whether there was room.
    pub fn push(&self, record: &mut Record) -> bool {
        let new = || Box::new(Scratch { bytes: Vec::with_capacity(512), rng: Rng::from_entropy() });
        // Neither a thread at its end nor a signal handler that interrupts this function finds a buffer.
        let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_else(new);
        self.own.complete(record, &mut scratch.rng);
        scratch.bytes.clear();
        record::write(&mut scratch.bytes, record);
        let is_kept = self.append(&mut scratch.bytes);
        let _ = SCRATCH.try_with(|place| place.set(Some(scratch)));
        is_kept
    }

    /// Copies the record into the file. Leaves its number behind the record in `buffer`, so that the checksum covers both in
    /// one pass.
    fn append(&self, buffer: &mut Vec<u8>) -> bool {
        let length = buffer.len();
        let Ok(bytes) = u32::try_from(length) else { return false };
        let Some(place) = self.reserve(units(length) as u64) else { return false };
        if let Some(pad) = place.pad {
            self.word(pad).store(PAD, Ordering::Release);
        }
        buffer.extend_from_slice(&place.seq.to_le_bytes());
        let sum = checksum(self.salted, buffer);
        let entry = self.unit(place.unit);
        let head = u64::from(sum) << 32 | u64::from(bytes);
        // SAFETY: the reservation gave the units from this one on to this call alone, and they end within the map. The
        // buffer has `length` bytes, and is not part of the map.
        unsafe {
            ptr::copy_nonoverlapping(head.to_le_bytes().as_ptr(), entry.add(8), 8);
            ptr::copy_nonoverlapping(buffer.as_ptr(), entry.add(ENTRY_BYTES), length);
        }
        self.word(place.unit).store(place.seq.to_le(), Ordering::Release);
        true
    }

    /// Reserves units in one piece.
    fn reserve(&self, units: u64) -> Option<Place> {
        loop {
            // Before the tail, so that they are never ahead of it.
            let settled = self.settled.0.seq.load(Ordering::Acquire);
            let freed = self.settled.0.freed.load(Ordering::Acquire);
            let tail = self.tail.0.load(Ordering::Relaxed);
            let (last, free) = (onward(settled, tail >> 32), onward(freed, tail));
            let unit = free % self.area;
            let before_end = self.area - unit;
            let (pad, unit, end) = if units > before_end {
                (Some(unit), 0, free + before_end + units)
            } else {
                (None, unit, free + units)
            };
            if end - freed > self.area {
                return None;
            }
            let next = (last + 1) << 32 | low(end);
            if self.tail.0.compare_exchange_weak(tail, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some(Place { seq: last + 1, pad, unit });
            }
        }
    }

    /// The next record's number and array form. Only the sender calls it. The bytes stay until the sender settles them.
    pub fn next(&self) -> Option<(u64, &[u8])> {
        let taken = &self.taken.0;
        let (seq, mut at) = (taken.seq.load(Ordering::Relaxed) + 1, taken.read.load(Ordering::Relaxed));
        let mut unit = at % self.area;
        if self.word(unit).load(Ordering::Acquire) == PAD {
            (at, unit) = (at + self.area - unit, 0);
        }
        if u64::from_le(self.word(unit).load(Ordering::Acquire)) != seq {
            return None;
        }
        let bytes = self.record_bytes(unit);
        // SAFETY: the number is there, so the entry is whole, and nobody writes into it before it is settled.
        let record = unsafe { std::slice::from_raw_parts(self.unit(unit).add(ENTRY_BYTES), bytes) };
        taken.seq.store(seq, Ordering::Relaxed);
        taken.read.store(at + units(bytes) as u64, Ordering::Relaxed);
        Some((seq, record))
    }

    /// Gives the room of all records up to `seq` away. Only the sender calls it, for records that it has taken.
    pub fn settle(&self, seq: u64) {
        let settled = self.settled.0.seq.load(Ordering::Relaxed);
        if seq <= settled {
            return;
        }
        // SAFETY: the place is within the head, aligned, and written by this thread alone.
        let place = unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(SETTLED_AT).cast()) };
        place.store(seq.to_le(), Ordering::Release);
        let mut at = self.settled.0.freed.load(Ordering::Relaxed);
        for _ in settled..seq {
            let mut unit = at % self.area;
            if self.word(unit).load(Ordering::Relaxed) == PAD {
                self.word(unit).store(0, Ordering::Relaxed);
                (at, unit) = (at + self.area - unit, 0);
            }
            let units = units(self.record_bytes(unit)) as u64;
            (unit..unit + units).for_each(|unit| self.word(unit).store(0, Ordering::Relaxed));
            at += units;
        }
        self.settled.0.seq.store(seq, Ordering::Release);
        self.settled.0.freed.store(at, Ordering::Release);
    }

    /// Whether it would take a record of each of several threads now.
    pub fn has_room(&self) -> bool {
        let room = (ROOM / UNIT as u64).min(self.area / 2);
        let freed = self.settled.0.freed.load(Ordering::Acquire);
        onward(freed, self.tail.0.load(Ordering::Relaxed)) - freed + room <= self.area
    }

    /// Records that were ever put in.
    pub fn pushed(&self) -> u64 {
        let settled = self.settled.0.seq.load(Ordering::Acquire);
        onward(settled, self.tail.0.load(Ordering::Relaxed) >> 32)
    }

    /// Records that the sender has taken.
    pub fn taken(&self) -> u64 {
        self.taken.0.seq.load(Ordering::Relaxed)
    }

    /// Deletes the file: everything in it is settled.
    pub fn remove(&self) {
        // If it fails, the next start finds an empty spool, and deletes it.
        let _ = fs::remove_file(&self.path);
    }

    /// The folder, for messages.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    fn record_bytes(&self, unit: u64) -> usize {
        let mut bytes = [0; 4];
        // SAFETY: within the map. The caller has read the entry's number, so its length does not change.
        unsafe { ptr::copy_nonoverlapping(self.unit(unit).add(8), bytes.as_mut_ptr(), 4) };
        u32::from_le_bytes(bytes) as usize
    }

    /// The place of the number of one of the area's units.
    fn word(&self, unit: u64) -> &AtomicU64 {
        // SAFETY: within the map and aligned to 64 bytes. Each access to a unit that may be reserved goes through this.
        unsafe { AtomicU64::from_ptr(self.unit(unit).cast()) }
    }

    /// The first byte of one of the area's units. `unit` is below `area`.
    fn unit(&self, unit: u64) -> *mut u8 {
        debug_assert!(unit < self.area);
        // The area was mapped, so its units fit a usize.
        let at = HEAD_BYTES + unit as usize * UNIT;
        // SAFETY: the map has the head and all units of the area.
        unsafe { self.map.as_mut_ptr().add(at) }
    }
}

fn low(count: u64) -> u64 {
    count & u64::from(u32::MAX)
}

/// The count whose lower half is that of `half`, from `base` on.
fn onward(base: u64, half: u64) -> u64 {
    base + low(half.wrapping_sub(base))
}
