//! A record in the form in which it arrives, whichever way it comes in.

use super::raw::RawRecord;
use super::refusal::Refusal;
use super::{frame, line};

/// A record's bytes, and how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded<'a> {
    /// A map of MessagePack, or an array in the order of the protocol's fields.
    MessagePack(&'a [u8]),
    /// A JSON object.
    Json(&'a [u8]),
}

impl<'a> Encoded<'a> {
    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        match self {
            Self::MessagePack(bytes) | Self::Json(bytes) => bytes,
        }
    }

    /// How they are written, as the WAL and the dead letters name it.
    #[must_use]
    pub const fn format(self) -> &'static str {
        match self {
            Self::MessagePack(_) => "msgpack",
            Self::Json(_) => "json",
        }
    }

    /// Reads the record, of which nothing is checked yet. [`Admission::admit`](super::Admission::admit) is the whole way.
    ///
    /// # Errors
    /// The [`Refusal`] that answers it.
    pub fn read(self) -> Result<RawRecord<'a>, Refusal> {
        match self {
            Self::MessagePack(bytes) => frame::decode(bytes),
            Self::Json(bytes) => line::read(bytes),
        }
    }
}

/// What a record gets that does not say it, from the request or the letter that it came in.
#[derive(Clone, Copy, Default)]
pub struct Absent<'a> {
    /// Makes the id. It counts as stated. None: a new id, which does not.
    pub id: Option<&'a dyn Fn() -> [u8; 16]>,
    /// The time, microseconds since 1970. None: now.
    pub occurred_at_us: Option<i64>,
}
