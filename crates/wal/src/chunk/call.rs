//! A call in a payload: its flag word, its writing and its reading.
//!
//! A new field gets the next flag bit, a line in [`flags`], and one each in `write_call` and `call`, at the same place.
//! A field without its flag takes no byte, so payloads of older versions stay readable.

use super::varint::{read_u128, unzigzag, unzigzag128, write_u64, write_u128, zigzag, zigzag128};
use super::{ChunkBuilder, PayloadReader, TAG_CALL};
use tallyd_model::call::{Call, Cost, Stated};
use tallyd_model::pricing::{STANDARD_TIER, Tokens, Usd};

/// Bits of a call's flag word: the optional parts that follow.
mod flag {
    pub(super) const REQUEST_ID: u64 = 1;
    pub(super) const CACHE: u64 = 1 << 1;
    pub(super) const REQUESTS: u64 = 1 << 2;
    pub(super) const EXTRA_UNITS: u64 = 1 << 3;
    pub(super) const TIER: u64 = 1 << 4;
    pub(super) const STATUS: u64 = 1 << 5;
    pub(super) const LATENCY: u64 = 1 << 6;
    pub(super) const METADATA: u64 = 1 << 7;
    /// A cost follows.
    pub(super) const COST: u64 = 1 << 8;
    /// The cost is in nano-dollars rather than atto-dollars.
    pub(super) const COST_NANO: u64 = 1 << 9;
    /// The cost came from the catalog, and the price's id follows.
    pub(super) const PRICE_ID: u64 = 1 << 10;
    pub(super) const PLATFORM: u64 = 1 << 11;
    /// The sender states the call's id.
    pub(super) const STATED_ID: u64 = 1 << 12;
    /// The provider and the request id name the call.
    pub(super) const STATED_RESPONSE: u64 = 1 << 13;
    pub(super) const TAGS: u64 = 1 << 14;
    pub(super) const ALL: u64 = (1 << 15) - 1;
}

/// Columns of repeated names, beside those in every call: provider, model, endpoint, user, app.
mod name {
    pub(super) const TIER: usize = 5;
    pub(super) const PLATFORM: usize = 6;
    /// Calls of one sender often have the same tags.
    pub(super) const TAGS: usize = 7;
}

/// Number of columns of repeated names.
pub(super) const NAME_COLUMNS: usize = 8;
/// Upper bound of a call's bytes without its texts: tags, flags, numbers.
const FIXED_BYTES_MAX: usize = 180;

/// Upper bound of a call's bytes.
pub(super) fn call_bytes_max(call: &Call<'_>) -> usize {
    let texts = [call.provider, call.model, call.endpoint, call.user_id, call.app, call.service_tier];
    let long = [call.request_id, call.extra_units, call.metadata, call.platform, call.tags];
    FIXED_BYTES_MAX + texts.iter().chain(&long).map(|text| text.len()).sum::<usize>()
}

fn flags(call: &Call<'_>) -> u64 {
    let tokens = &call.tokens;
    let cache = tokens.cache_read | tokens.cache_write_5m | tokens.cache_write_1h;
    let mut flags = 0;
    let mut set = |bit: u64, on: bool| flags |= if on { bit } else { 0 };
    set(flag::REQUEST_ID, !call.request_id.is_empty());
    set(flag::CACHE, cache != 0);
    set(flag::REQUESTS, call.requests != 1);
    set(flag::EXTRA_UNITS, !call.extra_units.is_empty());
    set(flag::TIER, call.service_tier != STANDARD_TIER);
    set(flag::STATUS, call.status != 200);
    set(flag::LATENCY, call.latency_ms.is_some());
    set(flag::METADATA, !call.metadata.is_empty());
    set(flag::PLATFORM, !call.platform.is_empty());
    set(flag::TAGS, !call.tags.is_empty());
    set(flag::STATED_ID, call.stated.id);
    set(flag::STATED_RESPONSE, call.stated.response);
    set(flag::COST, call.cost.usd().is_some());
    set(flag::COST_NANO, call.cost.usd().is_some_and(|usd| is_whole_nano(usd.attos())));
    set(flag::PRICE_ID, matches!(call.cost, Cost::Catalog { .. }));
    flags
}

impl ChunkBuilder {
    pub(super) fn write_call(&mut self, call: &Call<'_>) {
        let flags = flags(call);
        self.chunk.payload.push(TAG_CALL);
        write_u64(&mut self.chunk.payload, flags);
        self.chunk.payload.extend_from_slice(&call.id);
        write_u64(&mut self.chunk.payload, zigzag(call.occurred_at_us.wrapping_sub(self.previous_us)));
        self.previous_us = call.occurred_at_us;
        for (column, name) in [call.provider, call.model, call.endpoint, call.user_id, call.app].iter().enumerate() {
            self.write_name(column, name);
        }
        if flags & flag::TIER != 0 {
            self.write_name(name::TIER, call.service_tier);
        }
        if flags & flag::PLATFORM != 0 {
            self.write_name(name::PLATFORM, call.platform);
        }
        if flags & flag::TAGS != 0 {
            self.write_name(name::TAGS, call.tags);
        }
        let out = &mut self.chunk.payload;
        write_u64(out, call.tokens.input);
        write_u64(out, call.tokens.output);
        if flags & flag::CACHE != 0 {
            write_u64(out, call.tokens.cache_read);
            write_u64(out, call.tokens.cache_write_5m);
            write_u64(out, call.tokens.cache_write_1h);
        }
        if flags & flag::REQUESTS != 0 {
            write_u64(out, call.requests);
        }
        if flags & flag::STATUS != 0 {
            write_u64(out, u64::from(call.status));
        }
        if let Some(ms) = call.latency_ms {
            write_u64(out, u64::from(ms));
        }
        write_cost(out, flags, call.cost);
        for text in [call.request_id, call.extra_units, call.metadata].iter().filter(|text| !text.is_empty()) {
            write_u64(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

impl<'a> PayloadReader<'a> {
    #[inline]
    pub(super) fn call(&mut self) -> Option<Call<'a>> {
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
        let tags = if has(flag::TAGS) { self.name()? } else { "" };
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
            tags,
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
}

const NANO: i128 = 1_000_000_000;

/// True if the amount fits nano-dollars exactly. Only the usual range is checked, where a division is cheap.
fn is_whole_nano(atto: i128) -> bool {
    i64::try_from(atto).is_ok_and(|atto| atto % NANO as i64 == 0)
}

fn write_cost(out: &mut Vec<u8>, flags: u64, cost: Cost) {
    let Some(usd) = cost.usd() else { return };
    let atto = usd.attos();
    if flags & flag::COST_NANO != 0 {
        debug_assert!(is_whole_nano(atto));
        write_u64(out, zigzag(atto as i64 / NANO as i64));
    } else {
        write_u128(out, zigzag128(atto));
    }
    if let Cost::Catalog { price_id, .. } = cost {
        write_u64(out, zigzag(i64::from(price_id)));
    }
}
