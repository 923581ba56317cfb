//! Where records wait for the sender: in memory, or in a file.

use tallyd_protocol::Record;

use crate::ring::Ring;
use crate::spool::Spool;

/// The ring in memory, or the spool.
#[expect(clippy::large_enum_variant, reason = "a recorder has one of it, and a box is one more way to each record")]
pub enum Queue {
    Memory(Ring),
    File(Spool),
}

impl Queue {
    /// Takes a record, or gives it back if there is no room.
    ///
    /// # Errors
    /// The record itself.
    #[inline]
    #[expect(clippy::result_large_err, reason = "the record is moved back to the caller; boxing it would allocate")]
    pub fn push(&self, mut record: Record) -> Result<(), Record> {
        match self {
            Self::Memory(ring) => ring.push(record),
            Self::File(spool) if spool.push(&mut record) => Ok(()),
            Self::File(_) => Err(record),
        }
    }

    /// Whether it would take a record of each of several threads now.
    pub fn has_room(&self) -> bool {
        match self {
            Self::Memory(ring) => ring.has_room(),
            Self::File(spool) => spool.has_room(),
        }
    }

    /// Records that were ever taken out.
    pub fn popped(&self) -> u64 {
        match self {
            Self::Memory(ring) => ring.popped(),
            Self::File(spool) => spool.taken(),
        }
    }

    /// Records that were ever put in. May lag behind `popped`.
    pub fn pushed(&self) -> u64 {
        match self {
            Self::Memory(ring) => ring.pushed(),
            Self::File(spool) => spool.pushed(),
        }
    }

    /// The position behind every record that was put in before this call. Only the sender calls it.
    pub fn barrier(&self) -> u64 {
        match self {
            Self::Memory(ring) => ring.barrier(),
            Self::File(spool) => spool.pushed(),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Memory(ring) => ring.is_empty(),
            Self::File(spool) => spool.pushed() == spool.taken(),
        }
    }
}
