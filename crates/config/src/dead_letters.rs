//! `[dead_letters]`: how much of what is refused is kept, and for how long.

use serde::{Deserialize, Serialize};

use super::error::Faults;

/// How much of what is refused is kept. Beyond a bound a refused record is answered and counted, and its payload is not kept.
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
