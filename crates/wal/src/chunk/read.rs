//! Reads a chunk's payload: an iterator of entries whose text borrows from it.

use super::varint::{read_u64, read_u128, unzigzag, unzigzag128};
use super::{Refused, TAG_CALL, TAG_REFUSED, TAG_REFUSED_BY, flag};
use tallyd_model::call::{Call, Cost, Stated};
use tallyd_model::pricing::STANDARD_TIER;
use tallyd_model::pricing::{Tokens, Usd};

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
    /// Bytes that were left when the entry was begun.
    pub at: usize,
}

/// Iterates over a payload's entries, and ends after the first that does not decode.
pub struct PayloadReader<'a> {
    rest: &'a [u8],
    names: Vec<&'a str>,
    previous_us: i64,
}

impl<'a> PayloadReader<'a> {
    /// Reads from the payload's beginning.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, names: Vec::new(), previous_us: 0 }
    }

    /// Reads another payload with the memory of this reader.
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

    #[inline]
    fn call(&mut self) -> Option<Call<'a>> {
        let flags = self.number().filter(|flags| flags & !flag::ALL == 0)?;
        let has = |bit: u64| flags & bit != 0;
        let (id, rest) = self.rest.split_first_chunk::<16>()?;
        self.rest = rest;
        let occurred_at_us = self.previous_us.wrapping_add(unzigzag(self.number()?));
        self.previous_us = occurred_at_us;
        let [provider, model, endpoint] = [self.name()?, self.name()?, self.name()?];
        let [user_id, app] = [self.name()?, self.name()?];
        let service_tier = if has(flag::TIER) { self.name()? } else { STANDARD_TIER };
        let platform = if has(flag::PLATFORM) { self.name()? } else { "" };
        let mut tokens = Tokens { input: self.number()?, output: self.number()?, ..Tokens::default() };
        if has(flag::CACHE) {
            tokens.cache_read = self.number()?;
            tokens.cache_write_5m = self.number()?;
            tokens.cache_write_1h = self.number()?;
        }
        let requests = if has(flag::REQUESTS) { self.number()? } else { 1 };
        let status = if has(flag::STATUS) { u16::try_from(self.number()?).ok()? } else { 200 };
        let latency_ms = if has(flag::LATENCY) { Some(u32::try_from(self.number()?).ok()?) } else { None };
        let cost = self.cost(flags)?;
        let request_id = self.text(has(flag::REQUEST_ID))?;
        let extra_units = self.text(has(flag::EXTRA_UNITS))?;
        let metadata = self.text(has(flag::METADATA))?;
        Some(Call {
            id: *id,
            occurred_at_us,
            provider,
            model,
            endpoint,
            user_id,
            app,
            request_id,
            tokens,
            requests,
            extra_units,
            service_tier,
            status,
            latency_ms,
            cost,
            metadata,
            platform,
            stated: Stated { id: has(flag::STATED_ID), response: has(flag::STATED_RESPONSE) },
        })
    }

    #[inline]
    fn cost(&mut self, flags: u64) -> Option<Cost> {
        if flags & flag::COST == 0 {
            return Some(Cost::Unpriced);
        }
        let usd = if flags & flag::COST_NANO != 0 {
            Usd::from_attos(i128::from(unzigzag(self.number()?)) * 1_000_000_000)
        } else {
            Usd::from_attos(unzigzag128(read_u128(&mut self.rest)?))
        };
        if flags & flag::PRICE_ID == 0 {
            return Some(Cost::Client(usd));
        }
        Some(Cost::Catalog { usd, price_id: i32::try_from(unzigzag(self.number()?)).ok()? })
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
        // As many as a chunk's header can count.
        let counted = u16::try_from(self.number()?).ok()?.into();
        Some(Refused { sender, counted, ..self.refused()? })
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        read_u64(&mut self.rest)
    }

    #[inline]
    fn name(&mut self) -> Option<&'a str> {
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
    fn text(&mut self, present: bool) -> Option<&'a str> {
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
