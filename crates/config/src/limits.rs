//! `[limits]`, `[dead_letters]`: the bounds of a record, and of stored refusals.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::form;
use tallyd_model::pricing::Usd;
use tallyd_protocol::limits;

/// Costs that senders may state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatedCosts {
    /// None: a record that states its cost is refused.
    Refuse,
    /// From 0 up to `stated_cost_max_usd`.
    NonNegative,
    /// Any amount that a record can hold, credits (amounts below 0) included.
    Allow,
}

impl StatedCosts {
    /// The name in `config.toml` and in `tallyd_tokens`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::NonNegative => "non_negative",
            Self::Allow => "allow",
        }
    }

    /// The policy of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Refuse, Self::NonNegative, Self::Allow].into_iter().find(|policy| policy.name() == name)
    }
}

/// Bounds of one record.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one text field.
    pub text_bytes: usize,
    /// Bytes of the metadata, as JSON text.
    pub metadata_bytes: usize,
    /// Entries of `extra_units`.
    pub extra_units: usize,
    /// Tokens of one bucket of a record, and its requests; at most 10^12. A row of a rollup holds 9.2 * 10^18, which is
    /// 9.2 billion calls of the default size. Calls that do not fit go to the dead letters.
    pub tokens: u64,
    /// No call was made before this.
    #[serde(rename = "occurred_at_min", with = "form::rfc3339")]
    pub occurred_at_min_us: i64,
    /// How far ahead of the daemon's clock a call's time may be.
    #[serde(rename = "ahead_ms", with = "form::milliseconds")]
    pub ahead: Duration,
    /// Cut `?…` off endpoints: query strings hold addresses and keys.
    pub strip_query: bool,
    /// Costs that senders may state in `cost_usd`, over every way in:
    ///
    /// * `"non_negative"`: from 0 to `stated_cost_max_usd`.
    /// * `"allow"`: also credits, which are negative, and amounts up to 10^9 USD either way.
    /// * `"refuse"`: none; a record that states one is refused.
    ///
    /// An admin's token may state any amount over HTTP, and a credit of it is in the audit log. A token of the role `ingest` may be
    /// limited further: `tallyd token create --stated-costs`.
    pub stated_costs: StatedCosts,
    /// The highest cost that one record may state under `"non_negative"`, in USD.
    pub stated_cost_max_usd: Usd,
}

/// The default of `stated_cost_max_usd`.
const STATED_COST_MAX: Usd = Usd::from_attos(Usd::ONE.attos() * 10_000);

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
            stated_costs: StatedCosts::NonNegative,
            stated_cost_max_usd: STATED_COST_MAX,
        }
    }
}

impl Limits {
    pub(super) fn validate(&self, faults: &mut Faults, max_frame_bytes: usize) {
        faults.in_range("limits.text_bytes", self.text_bytes, 16..=65_536);
        faults.in_range("limits.extra_units", self.extra_units, 0..=1024);
        faults.in_range("limits.tokens", self.tokens, 1..=limits::TOKENS_MAX);
        faults.in_range("limits.ahead_ms", self.ahead.as_millis(), 0..=366 * 24 * 3_600_000);
        if self.stated_cost_max_usd < Usd::ZERO || !self.stated_cost_max_usd.fits_a_record() {
            let reason = format!("{} is not between 0 and {} USD", self.stated_cost_max_usd, Usd::RECORD_MAX);
            faults.add("limits.stated_cost_max_usd", reason);
        }
        if self.metadata_bytes > max_frame_bytes / 2 {
            let reason = format!(
                "{} bytes are more than half of listen.max_frame_bytes ({max_frame_bytes}); lower it, or raise that",
                self.metadata_bytes
            );
            faults.add("limits.metadata_bytes", reason);
        }
    }
}

/// The bounds of stored refusals. Beyond a bound a refused record is answered and counted, and its payload is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetters {
    /// Refused records that are kept of one sender (a producer, or a token) in a day, UTC.
    pub rows_per_day: u64,
    /// Bytes of the payloads that are kept of one sender in a day.
    pub bytes_per_day: u64,
    /// Refused records that are kept of all senders together in a day.
    pub total_rows_per_day: u64,
    /// Bytes of the payloads that are kept of all senders together in a day.
    pub total_bytes_per_day: u64,
    /// Days after which dead letters and their counts are deleted, every hour; 0: never.
    pub keep_days: u32,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self {
            rows_per_day: 10_000,
            bytes_per_day: 32 << 20,
            total_rows_per_day: 50_000,
            total_bytes_per_day: 128 << 20,
            keep_days: 90,
        }
    }
}

impl DeadLetters {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("dead_letters.rows_per_day", self.rows_per_day, 0..=1_000_000_000);
        faults.in_range("dead_letters.bytes_per_day", self.bytes_per_day, 0..=1 << 40);
        faults.in_range("dead_letters.total_rows_per_day", self.total_rows_per_day, 0..=1_000_000_000);
        faults.in_range("dead_letters.total_bytes_per_day", self.total_bytes_per_day, 0..=1 << 40);
        faults.in_range("dead_letters.keep_days", self.keep_days, 0..=36_500);
    }

    /// How long letters are kept; none: for ever.
    #[must_use]
    pub fn keep(&self) -> Option<chrono::TimeDelta> {
        (self.keep_days > 0).then(|| chrono::TimeDelta::days(self.keep_days.into()))
    }
}
