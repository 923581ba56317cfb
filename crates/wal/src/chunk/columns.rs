//! Sets of the call log's optional columns.
//!
//! Most products leave most of a record's fields at their defaults: no units of their own, no tier, no metadata. A
//! column whose value is the table's default in every call of a batch need not be sent: PostgreSQL fills in a default
//! faster than it receives one. The WAL's values have the set, so that a lane knows a batch's columns before it encodes
//! the first row.

use std::ops::{BitOr, BitOrAssign};

use tallyd_model::call::Call;
use tallyd_model::pricing::STANDARD_TIER;

/// A set of optional columns of `api_usage_log`, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns(u32);

/// Passes the list of the optional columns to the macro `$with`. Each has:
/// * its constant's name, its bit in a [`Columns`], and its name in the table
/// * its kind (`text`, `count`, `status`, `latency`, `json`), which names its writer in COPY, and its place in a [`Call`]
/// * the default value that need not be sent, and that default as PostgreSQL's catalog prints it; none is NULL
///
/// The bits are on disk: a new column gets the next one.
#[macro_export]
macro_rules! for_each_column {
    ($with:ident) => {
        $with! {
            MODEL = 0: "model", text, model, "", Some("''::text");
            ENDPOINT = 1: "endpoint", text, endpoint, "", Some("''::text");
            USER_ID = 2: "user_id", text, user_id, "", Some("''::text");
            APP = 3: "app", text, app, "", Some("''::text");
            REQUEST_ID = 4: "request_id", text, request_id, "", Some("''::text");
            CACHE_READ = 5: "cache_read_tokens", count, tokens.cache_read, 0, Some("0");
            CACHE_WRITE_5M = 6: "cache_write_5m_tokens", count, tokens.cache_write_5m, 0, Some("0");
            CACHE_WRITE_1H = 7: "cache_write_1h_tokens", count, tokens.cache_write_1h, 0, Some("0");
            REQUESTS = 8: "requests", count, requests, 1, Some("1");
            EXTRA_UNITS = 9: "extra_units", json, extra_units, "", None;
            SERVICE_TIER = 10: "service_tier", text, service_tier, STANDARD_TIER, Some("'standard'::text");
            STATUS = 11: "status", status, status, 200, Some("200");
            LATENCY_MS = 12: "latency_ms", latency, latency_ms, None, None;
            METADATA = 13: "metadata", json, metadata, "", None;
            PLATFORM = 14: "platform", text, platform, "", Some("''::text");
            TAGS = 15: "tags", json, tags, "", None;
        }
    };
}

macro_rules! columns {
    ($($name:ident = $bit:literal: $column:literal, $kind:ident, $($place:ident).+, $usual:expr, $default:expr;)*) => {
        #[expect(missing_docs, reason = "a column each; protocol/README.md documents the fields")]
        impl Columns {
            $(pub const $name: Self = Self(1 << $bit);)*
        }

        impl Columns {
            /// Each with its name, and its default as PostgreSQL's catalog prints it; none is NULL.
            pub const ALL: &[(Self, &'static str, Option<&'static str>)] = &[$((Self::$name, $column, $default)),*];

            /// The columns in which the call differs from the table's defaults.
            #[inline]
            #[must_use]
            pub fn of(call: &Call<'_>) -> Self {
                let mut set = Self::NONE;
                $(set.0 |= Self::$name.0 * u32::from(call.$($place).+ != $usual);)*
                set
            }
        }
    };
}

for_each_column!(columns);

impl Columns {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// All columns.
    pub const EVERY: Self = Self(u32::MAX);

    /// True if all of `columns` are in the set.
    #[inline]
    #[must_use]
    pub const fn has(self, columns: Self) -> bool {
        self.0 & columns.0 == columns.0
    }

    /// The set as a number, for the WAL.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set of [`Columns::bits`].
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
