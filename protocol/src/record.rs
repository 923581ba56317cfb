//! One paid API call, as a client describes it, and its encoding as a MessagePack array.
//!
//! The array's order is the order of [`FIELDS`]. Trailing fields that hold their default are left off, a default in
//! the middle is nil. Maps with the same names are accepted by the daemon too; they cost more bytes.

use std::borrow::Cow;

use rmp::encode;

/// The names of a record's fields, in the order of the array form.
pub const FIELDS: [&str; 21] = [
    "id",
    "occurred_at",
    "provider",
    "model",
    "endpoint",
    "user_id",
    "app",
    "request_id",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "requests",
    "extra_units",
    "service_tier",
    "status",
    "latency_ms",
    "cost_usd",
    "metadata",
    "platform",
];

/// The first of the 17 bytes of an id that a client library has made; an id that the sender states has 16.
pub const MADE_ID: u8 = 1;

/// Text that is usually a constant: a provider's or a model's name costs no allocation.
pub type Text = Cow<'static, str>;

/// One paid API call. Token buckets are disjoint: `input_tokens` excludes whatever was read from or written to a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Identity of the call, a UUID; version 7, made by the client's sender, if none is given.
    pub id: Option<[u8; 16]>,
    /// True if a client library has made `id`, and the application has not stated one. Such an id identifies nothing beyond this
    /// record: its number already keeps it from being counted twice, so the daemon does not look it up.
    pub made_id: bool,
    /// When the call was made, in microseconds since 1970 UTC; now, if none is given.
    pub occurred_at: Option<i64>,
    /// `claude`, `rentcast`, `openai` … Required.
    pub provider: Text,
    /// The model as the vendor names it, or empty.
    pub model: Text,
    /// The endpoint's path, or empty. The daemon cuts a query string off.
    pub endpoint: Text,
    /// The product's user on whose behalf the call was made, or empty.
    pub user_id: Text,
    /// The application that made the call, or empty.
    pub app: Text,
    /// The provider's own id of the call, or empty.
    pub request_id: Text,
    /// Prompt tokens billed at the full rate.
    pub input_tokens: u64,
    /// Generated tokens, thinking included.
    pub output_tokens: u64,
    /// Prompt tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Prompt tokens written to a cache that lives 5 minutes.
    pub cache_write_5m_tokens: u64,
    /// Prompt tokens written to a cache that lives an hour.
    pub cache_write_1h_tokens: u64,
    /// Billable units of an API that is priced per request. Default 1.
    pub requests: u64,
    /// Any other priced unit (`web_search`, `image` …) and its quantity as decimal text.
    pub extra_units: Vec<(Text, Text)>,
    /// `standard`, `batch`, `priority` … Default `standard`.
    pub service_tier: Text,
    /// HTTP status of the call. Default 200; 400 and above count as errors.
    pub status: u16,
    /// How long the call took, in milliseconds.
    pub latency_ms: Option<u32>,
    /// What the call cost, USD as decimal text, where the application knows better than the price catalog.
    pub cost_usd: Option<Text>,
    /// A JSON object, as text, that is stored with the call.
    pub metadata: Option<Text>,
    /// Where the model ran, if not at its vendor: `bedrock`, `vertex`, `azure`, `openrouter`; or empty. Its price applies.
    pub platform: Text,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            id: None,
            made_id: false,
            occurred_at: None,
            provider: Text::Borrowed(""),
            model: Text::Borrowed(""),
            endpoint: Text::Borrowed(""),
            user_id: Text::Borrowed(""),
            app: Text::Borrowed(""),
            request_id: Text::Borrowed(""),
            input_tokens: 0,
            output_tokens: 0,
            cache_read_tokens: 0,
            cache_write_5m_tokens: 0,
            cache_write_1h_tokens: 0,
            requests: 1,
            extra_units: Vec::new(),
            service_tier: Text::Borrowed("standard"),
            status: 200,
            latency_ms: None,
            cost_usd: None,
            metadata: None,
            platform: Text::Borrowed(""),
        }
    }
}

impl Record {
    /// A call to a Claude model.
    pub fn claude(model: impl Into<Text>, input_tokens: u64, output_tokens: u64) -> Self {
        Self { provider: "claude".into(), model: model.into(), input_tokens, output_tokens, ..Self::default() }
    }

    /// A call to a RentCast endpoint.
    pub fn rentcast(endpoint: impl Into<Text>) -> Self {
        Self { provider: "rentcast".into(), endpoint: endpoint.into(), ..Self::default() }
    }

    /// Names the user on whose behalf the call was made.
    #[must_use]
    pub fn user(mut self, user_id: impl Into<Text>) -> Self {
        self.user_id = user_id.into();
        self
    }

    /// How many fields the array form needs: all up to the last one that is not at its default.
    fn array_len(&self) -> u32 {
        let set = [
            (21, !self.platform.is_empty()),
            (20, self.metadata.is_some()),
            (19, self.cost_usd.is_some()),
            (18, self.latency_ms.is_some()),
            (17, self.status != 200),
            (16, self.service_tier != "standard"),
            (15, !self.extra_units.is_empty()),
            (14, self.requests != 1),
            (13, self.cache_write_1h_tokens != 0),
            (12, self.cache_write_5m_tokens != 0),
            (11, self.cache_read_tokens != 0),
            (10, self.output_tokens != 0),
            (9, self.input_tokens != 0),
            (8, !self.request_id.is_empty()),
            (7, !self.app.is_empty()),
            (6, !self.user_id.is_empty()),
            (5, !self.endpoint.is_empty()),
            (4, !self.model.is_empty()),
        ];
        set.iter().find(|(_, is_set)| *is_set).map_or(3, |(len, _)| *len)
    }
}

/// Appends the record's array form.
pub fn write(out: &mut Vec<u8>, record: &Record) {
    // Every write goes into a `Vec`, which cannot fail.
    let ok = "a Vec takes every write";
    let len = record.array_len();
    encode::write_array_len(out, len).expect(ok);
    match record.id {
        Some(id) if record.made_id => {
            let mut made = [MADE_ID; 17];
            made[1..].copy_from_slice(&id);
            encode::write_bin(out, &made).expect(ok);
        }
        Some(id) => encode::write_bin(out, &id).expect(ok),
        None => write_nil(out),
    }
    match record.occurred_at {
        Some(us) => drop(encode::write_sint(out, us).expect(ok)),
        None => write_nil(out),
    }
    encode::write_str(out, &record.provider).expect(ok);
    let texts = [&record.model, &record.endpoint, &record.user_id, &record.app, &record.request_id];
    for text in texts.into_iter().take(len as usize - 3) {
        encode::write_str(out, text).expect(ok);
    }
    let counts = [
        record.input_tokens,
        record.output_tokens,
        record.cache_read_tokens,
        record.cache_write_5m_tokens,
        record.cache_write_1h_tokens,
        record.requests,
    ];
    for count in counts.into_iter().take((len as usize).saturating_sub(8)) {
        encode::write_uint(out, count).expect(ok);
    }
    if len >= 15 {
        write_rare(out, record, len);
    }
}

/// The fields from `extra_units` on, which most records do not have.
fn write_rare(out: &mut Vec<u8>, record: &Record, len: u32) {
    let ok = "a Vec takes every write";
    let units = u32::try_from(record.extra_units.len()).expect("a record has a handful of units");
    encode::write_map_len(out, units).expect(ok);
    for (unit, quantity) in &record.extra_units {
        encode::write_str(out, unit).expect(ok);
        encode::write_str(out, quantity).expect(ok);
    }
    if len >= 16 {
        encode::write_str(out, &record.service_tier).expect(ok);
    }
    if len >= 17 {
        encode::write_uint(out, u64::from(record.status)).expect(ok);
    }
    if len >= 18 {
        match record.latency_ms {
            Some(ms) => drop(encode::write_uint(out, u64::from(ms)).expect(ok)),
            None => write_nil(out),
        }
    }
    for text in [&record.cost_usd, &record.metadata].into_iter().take((len as usize).saturating_sub(18)) {
        match text {
            Some(text) => encode::write_str(out, text).expect(ok),
            None => write_nil(out),
        }
    }
    if len >= 21 {
        encode::write_str(out, &record.platform).expect(ok);
    }
}

fn write_nil(out: &mut Vec<u8>) {
    encode::write_nil(out).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_at_the_end_are_left_off() {
        let mut out = Vec::new();
        write(&mut out, &Record { provider: "x".into(), ..Record::default() });
        assert_eq!(out, [0x93, 0xc0, 0xc0, 0xa1, b'x']);
    }

    #[test]
    fn a_late_field_keeps_its_place() {
        let record = Record { platform: "bedrock".into(), ..Record::rentcast("/avm/value") };
        let mut out = Vec::new();
        write(&mut out, &record);
        let decoded: Vec<serde::de::IgnoredAny> = rmp_serde::from_slice(&out).unwrap();
        assert_eq!(decoded.len(), FIELDS.len());
    }
}
