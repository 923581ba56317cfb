//! `[limits]`: what a record may be. One outside of these bounds is refused alone; its neighbours go through.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tallyd_protocol::limits;

use super::error::{ConfigError, in_range};
use super::form;

/// Bounds of one record.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one text field. Default 512.
    pub text_bytes: usize,
    /// Bytes of the metadata, as JSON text. Default 16 KiB.
    pub metadata_bytes: usize,
    /// Entries of `extra_units`. Default 32.
    pub extra_units: usize,
    /// Tokens of one bucket, and requests. Default 10^9, at most 10^12.
    pub tokens: u64,
    /// No call was made before this: microseconds since 1970 UTC, in the file RFC 3339. Default 2015-01-01.
    #[serde(rename = "occurred_at_min", with = "form::rfc3339")]
    pub occurred_at_min_us: i64,
    /// How far ahead of the daemon's clock a call's time may be. Default 5 minutes.
    #[serde(rename = "ahead_ms", with = "form::milliseconds")]
    pub ahead: Duration,
    /// Cut `?…` off endpoints: query strings hold addresses and keys. Default true.
    pub strip_query: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: limits::TEXT_BYTES,
            metadata_bytes: limits::METADATA_BYTES,
            extra_units: limits::EXTRA_UNITS,
            tokens: limits::TOKENS,
            occurred_at_min_us: limits::OCCURRED_AT_MIN_US,
            ahead: Duration::from_micros(limits::AHEAD_US.unsigned_abs()),
            strip_query: true,
        }
    }
}

impl Limits {
    pub(super) fn validate(&self, max_frame_bytes: usize) -> Result<(), ConfigError> {
        in_range("limits.text_bytes", self.text_bytes, 16..=65_536)?;
        in_range("limits.extra_units", self.extra_units, 0..=1024)?;
        in_range("limits.tokens", self.tokens, 1..=limits::TOKENS_MAX)?;
        in_range("limits.ahead_ms", self.ahead.as_millis(), 0..=366 * 24 * 3_600_000)?;
        if self.metadata_bytes > max_frame_bytes / 2 {
            let reason = format!(
                "{} bytes are more than half of listen.max_frame_bytes ({max_frame_bytes}); lower it, or raise that",
                self.metadata_bytes
            );
            return Err(ConfigError::Invalid { key: "limits.metadata_bytes", reason });
        }
        Ok(())
    }
}
