//! The billed part of one record, to which a price is applied, borrowed from the decoded record.

use std::borrow::Cow;

use super::money::Quantity;

/// The billed part of one record. Names are in the form of [`normalise_provider`](super::names::normalise_provider).
#[derive(Debug, Clone, Copy)]
pub struct Usage<'a> {
    /// `claude`, `rentcast`, `openai` …
    pub provider: &'a str,
    /// The platform that ran the model (`bedrock`, `vertex` …) and whose price then applies; or empty.
    pub platform: &'a str,
    /// The model as sent: [`resolve`](super::names) reads it. Empty if there is none.
    pub model: &'a str,
    /// The endpoint's path. No vendor in the catalog prices by endpoint today.
    pub endpoint: &'a str,
    /// In the form of [`normalise_tier`](super::names::normalise_tier).
    pub service_tier: &'a str,
    /// The time of the call, in microseconds since 1970 UTC: the price of that instant applies.
    pub occurred_at_us: i64,
    /// Tokens by bucket.
    pub tokens: Tokens,
    /// Billable requests.
    pub requests: u64,
    /// Other billed units and their quantities.
    pub extra_units: &'a [(Cow<'a, str>, Quantity)],
}

impl<'a> Usage<'a> {
    /// The provider or platform whose prices apply.
    #[must_use]
    pub const fn scope(&self) -> &'a str {
        if self.platform.is_empty() { self.provider } else { self.platform }
    }

    /// The whole prompt, which decides the size tier: the token buckets except `output`, and input with units of its
    /// own, such as audio. Saturates at `u64::MAX`.
    #[must_use]
    pub fn prompt(&self) -> u64 {
        let is_input = |unit: &str| unit.ends_with("_input_token") || unit.ends_with("_cache_read_token");
        let own = self.extra_units.iter().filter(|(unit, _)| is_input(unit)).map(|(_, quantity)| {
            let whole = quantity.nanos().max(0).unsigned_abs() / Quantity::ONE.nanos().unsigned_abs();
            u64::try_from(whole).unwrap_or(u64::MAX)
        });
        own.fold(self.tokens.prompt(), u64::saturating_add)
    }
}

/// Token buckets. They are disjoint: `input` excludes tokens read from or written to a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Prompt tokens billed at the full rate.
    pub input: u64,
    /// Generated tokens, thinking included.
    pub output: u64,
    /// Prompt tokens read from a cache.
    pub cache_read: u64,
    /// Prompt tokens written to a cache that lives 5 minutes.
    pub cache_write_5m: u64,
    /// Prompt tokens written to a cache that lives an hour.
    pub cache_write_1h: u64,
}

impl Tokens {
    /// The whole prompt, which decides the size tier: all buckets except `output`. Saturates at `u64::MAX`.
    #[must_use]
    pub const fn prompt(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write_5m)
            .saturating_add(self.cache_write_1h)
    }
}
