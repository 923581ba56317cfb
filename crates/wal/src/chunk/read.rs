//! Reads a chunk's payload: an iterator of entries that borrow their text from it.

use super::varint::read_u64;
use super::{Refused, TAG_CALL, TAG_REFUSED, TAG_REFUSED_BY};
use tallyd_model::call::Call;

/// One entry of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// An accepted call.
    Call(Call<'a>),
    /// A refused record.
    Refused(Refused<'a>),
}

/// A payload that does not decode. Its checksum was right, so another version of tallyd wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk's payload does not decode {at} bytes before its end; was it written by a newer tallyd?")]
pub struct PayloadError {
    /// Remaining bytes at the beginning of the invalid entry.
    pub at: usize,
}

/// Iterates over a payload's entries, up to and including the first that does not decode.
pub struct PayloadReader<'a> {
    pub(super) rest: &'a [u8],
    names: Vec<&'a str>,
    pub(super) previous_us: i64,
}

impl<'a> PayloadReader<'a> {
    /// Starts at the payload's beginning.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, names: Vec::new(), previous_us: 0 }
    }

    /// Starts with another payload, and reuses this reader's memory.
    pub fn reset(&mut self, payload: &'a [u8]) {
        self.rest = payload;
        self.names.clear();
        self.previous_us = 0;
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let (tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        match *tag {
            TAG_CALL => self.call().map(Entry::Call),
            TAG_REFUSED => self.refused().map(Entry::Refused),
            TAG_REFUSED_BY => self.refused_by().map(Entry::Refused),
            _ => None,
        }
    }

    fn refused(&mut self) -> Option<Refused<'a>> {
        let [code, field, message] = [self.text(true)?, self.text(true)?, self.text(true)?];
        let payload_format = self.text(true)?;
        let payload_bytes = self.number()?;
        let payload = self.bytes(payload_bytes)?;
        Some(Refused { code, field, message, payload_format, payload, ..Refused::default() })
    }

    fn refused_by(&mut self) -> Option<Refused<'a>> {
        let sender = self.text(true)?;
        // At most as many as a chunk's header can count.
        let counted = u16::try_from(self.number()?).ok()?.into();
        Some(Refused { sender, counted, ..self.refused()? })
    }

    #[inline]
    pub(super) fn number(&mut self) -> Option<u64> {
        read_u64(&mut self.rest)
    }

    #[inline]
    pub(super) fn name(&mut self) -> Option<&'a str> {
        let code = self.number()?;
        if code == 0 {
            return Some("");
        }
        if code & 1 == 0 {
            return self.names.get((code / 2 - 1) as usize).copied();
        }
        let name = std::str::from_utf8(self.bytes(code / 2)?).ok()?;
        self.names.push(name);
        Some(name)
    }

    #[inline]
    pub(super) fn text(&mut self, present: bool) -> Option<&'a str> {
        if !present {
            return Some("");
        }
        let bytes = self.number()?;
        std::str::from_utf8(self.bytes(bytes)?).ok()
    }

    #[inline]
    fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }
}

impl<'a> Iterator for PayloadReader<'a> {
    type Item = Result<Entry<'a>, PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.rest.len();
        let entry = self.entry();
        if entry.is_none() {
            self.rest = &[];
        }
        Some(entry.ok_or(PayloadError { at }))
    }
}
