//! Which of the log's optional columns a set of calls needs.
//!
//! Most products leave most of a record's fields alone: no units of their own, no tier, no metadata. A column that is at
//! the table's default in every call of a batch need not be sent: PostgreSQL fills it in for less than it takes to
//! receive it. The log's values carry the set, so that a lane knows a batch's columns before it encodes the first row.

use std::ops::{BitOr, BitOrAssign};

use tallyd_model::call::Call;
use tallyd_model::pricing::STANDARD_TIER;

/// A set of optional columns of `api_usage_log`, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns(u32);

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident = $bit:literal: $column:literal, $default:expr;)*) => {
        impl Columns {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Each with its name, and its default as PostgreSQL's catalog prints it; none is NULL.
            pub const ALL: &[(Self, &'static str, Option<&'static str>)] = &[$((Self::$name, $column, $default)),*];
        }
    };
}

columns! {
    /// Named by most calls.
    MODEL = 0: "model", Some("''::text");
    /// Its query string is cut off.
    ENDPOINT = 1: "endpoint", Some("''::text");
    /// Whoever made the call.
    USER_ID = 2: "user_id", Some("''::text");
    /// The application.
    APP = 3: "app", Some("''::text");
    /// The provider's own id.
    REQUEST_ID = 4: "request_id", Some("''::text");
    /// Tokens that came from a cache.
    CACHE_READ = 5: "cache_read_tokens", Some("0");
    /// Tokens that were put into a cache for five minutes.
    CACHE_WRITE_5M = 6: "cache_write_5m_tokens", Some("0");
    /// Tokens that were put into a cache for an hour.
    CACHE_WRITE_1H = 7: "cache_write_1h_tokens", Some("0");
    /// Billable requests, where they are not one.
    REQUESTS = 8: "requests", Some("1");
    /// Units of other kinds.
    EXTRA_UNITS = 9: "extra_units", None;
    /// Another tier than the standard one.
    SERVICE_TIER = 10: "service_tier", Some("'standard'::text");
    /// Another status than 200.
    STATUS = 11: "status", Some("200");
    /// How long the call took.
    LATENCY_MS = 12: "latency_ms", None;
    /// What the application adds.
    METADATA = 13: "metadata", None;
    /// Where the model ran, if not at its vendor.
    PLATFORM = 14: "platform", Some("''::text");
}

impl Columns {
    /// None.
    pub const NONE: Self = Self(0);

    /// Every one.
    pub const EVERY: Self = Self(u32::MAX);

    /// Those in which the call differs from the table's defaults.
    #[inline]
    #[must_use]
    pub fn of(call: &Call<'_>) -> Self {
        let mut set = Self::NONE;
        let mut add = |column: Self, is_given: bool| set.0 |= column.0 * u32::from(is_given);
        add(Self::MODEL, !call.model.is_empty());
        add(Self::ENDPOINT, !call.endpoint.is_empty());
        add(Self::USER_ID, !call.user_id.is_empty());
        add(Self::APP, !call.app.is_empty());
        add(Self::REQUEST_ID, !call.request_id.is_empty());
        add(Self::CACHE_READ, call.tokens.cache_read != 0);
        add(Self::CACHE_WRITE_5M, call.tokens.cache_write_5m != 0);
        add(Self::CACHE_WRITE_1H, call.tokens.cache_write_1h != 0);
        add(Self::REQUESTS, call.requests != 1);
        add(Self::EXTRA_UNITS, !call.extra_units.is_empty());
        add(Self::SERVICE_TIER, call.service_tier != STANDARD_TIER);
        add(Self::STATUS, call.status != 200);
        add(Self::LATENCY_MS, call.latency_ms.is_some());
        add(Self::METADATA, !call.metadata.is_empty());
        add(Self::PLATFORM, !call.platform.is_empty());
        set
    }

    /// True if all of `columns` are in the set.
    #[inline]
    #[must_use]
    pub const fn has(self, columns: Self) -> bool {
        self.0 & columns.0 == columns.0
    }

    /// The set as a number, for the log.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set that [`Columns::bits`] gave.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl BitOr for Columns {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Columns {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
