//! One accepted call, on its way from the connection to PostgreSQL, and its stated identity.

use sha2::{Digest, Sha256};

use crate::pricing::{STANDARD_TIER, Tokens, Usd};

/// The metadata key whose value names the usage that a sender or a translator could not fully read. The catalog does
/// not price such a call.
pub const NOT_UNDERSTOOD: &str = "tallyd.not_understood";

/// One accepted call: validated, normalised and priced. Text is borrowed from a frame or from a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// Identity of the call, a UUID's bytes.
    pub id: [u8; 16],
    /// Microseconds since 1970 UTC.
    pub occurred_at_us: i64,
    /// Lower case, aliases resolved.
    pub provider: &'a str,
    /// As the client named it, or empty.
    pub model: &'a str,
    /// Without its query string, or empty.
    pub endpoint: &'a str,
    /// The user's id, or empty.
    pub user_id: &'a str,
    /// The application, or empty.
    pub app: &'a str,
    /// The provider's own id of the call, or empty.
    pub request_id: &'a str,
    /// The five disjoint token buckets.
    pub tokens: Tokens,
    /// Billable requests.
    pub requests: u64,
    /// A JSON object of unit to decimal, or empty.
    pub extra_units: &'a str,
    /// `standard`, `batch` …
    pub service_tier: &'a str,
    /// HTTP status.
    pub status: u16,
    /// Milliseconds.
    pub latency_ms: Option<u32>,
    /// The call's cost, and its source.
    pub cost: Cost,
    /// A JSON object, or empty.
    pub metadata: &'a str,
    /// Where the model ran, if not at its vendor; lower case, or empty.
    pub platform: &'a str,
    /// A JSON object of tag to value, or empty ([`crate::tags`]).
    pub tags: &'a str,
    /// The identity that the sender states.
    pub stated: Stated,
}

impl Default for Call<'_> {
    /// Every field at the default of its record; no id, no time.
    fn default() -> Self {
        Self {
            id: [0; 16],
            occurred_at_us: 0,
            provider: "",
            model: "",
            endpoint: "",
            user_id: "",
            app: "",
            request_id: "",
            tokens: Tokens::default(),
            requests: 1,
            extra_units: "",
            service_tier: STANDARD_TIER,
            status: 200,
            latency_ms: None,
            cost: Cost::Unpriced,
            metadata: "",
            platform: "",
            tags: "",
            stated: Stated::default(),
        }
    }
}

/// Reads a field of the record from a call: `field_of!(call, input_tokens)`.
#[macro_export]
macro_rules! field_of {
    ($call:expr, occurred_at) => {
        $call.occurred_at_us
    };
    ($call:expr, input_tokens) => {
        $call.tokens.input
    };
    ($call:expr, output_tokens) => {
        $call.tokens.output
    };
    ($call:expr, cache_read_tokens) => {
        $call.tokens.cache_read
    };
    ($call:expr, cache_write_5m_tokens) => {
        $call.tokens.cache_write_5m
    };
    ($call:expr, cache_write_1h_tokens) => {
        $call.tokens.cache_write_1h
    };
    ($call:expr, cost_usd) => {
        $call.cost
    };
    ($call:expr, $name:ident) => {
        $call.$name
    };
}

/// A call's cost, and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Priced from the catalog, by the price `price_id`.
    Catalog {
        /// Exact amount.
        usd: Usd,
        /// `api_prices.id`.
        price_id: i32,
    },
    /// Stated by the client.
    Client(Usd),
    /// Without a known price: NULL in the call log, never 0.
    Unpriced,
}

impl Cost {
    /// The amount, if there is one.
    #[must_use]
    pub const fn usd(self) -> Option<Usd> {
        match self {
            Self::Catalog { usd, .. } | Self::Client(usd) => Some(usd),
            Self::Unpriced => None,
        }
    }

    /// The value of `api_usage_log.cost_source`.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Catalog { .. } => "catalog",
            Self::Client(_) => "client",
            Self::Unpriced => "unpriced",
        }
    }
}

/// The key of a call: its id's bytes, or the digest of its provider and the vendor's id.
pub type Key = [u8; 16];

/// The stated identity of a call. None of both: the call does not have a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stated {
    /// True if its id was stated.
    pub id: bool,
    /// True if its provider and `request_id` together name it.
    pub response: bool,
}

impl Stated {
    /// True if the call has a key.
    #[must_use]
    #[inline]
    pub const fn is_any(self) -> bool {
        self.id | self.response
    }
}

impl Call<'_> {
    /// The keys of the call.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let response = self.stated.response.then(|| {
            let digest = Sha256::new_with_prefix((self.provider.len() as u64).to_be_bytes());
            let digest = digest.chain_update(self.provider).chain_update(self.request_id).finalize();
            let mut key = Key::default();
            key.copy_from_slice(&digest[..16]);
            key
        });
        self.stated.id.then_some(self.id).into_iter().chain(response)
    }
}
