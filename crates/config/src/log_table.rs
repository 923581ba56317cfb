//! `[log_table]`: how `api_usage_log`, the table of single calls, is laid out.

use serde::{Deserialize, Serialize};

use super::error::Faults;

/// The period that one partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// A month.
    #[default]
    Month,
    /// A day: for many millions of calls a day, where an index on a whole month no longer fits memory.
    Day,
}

/// When a partition gets its index on `(user_id, occurred_at)`, which costs most of the loading speed while it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UserIndex {
    /// From the start: one user's calls are found fast at once, and loading takes nearly twice as long.
    Always,
    /// Once the partition has stopped growing, without blocking anybody.
    #[default]
    Sealed,
    /// Not at all.
    Never,
}

/// The layout of `api_usage_log`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogTable {
    /// The period of one partition: `"month"` or `"day"`. With `"day"`, a day of more than 31 days ago that has no partition
    /// yet gets one by month.
    pub partition: Partition,
    /// Partitions that are made ahead of time.
    pub partitions_ahead: u32,
    /// When a partition gets its index by user: `"always"` (loading takes nearly twice as long), `"sealed"` (once it has
    /// stopped growing), `"never"`.
    pub user_index: UserIndex,
}

impl Default for LogTable {
    fn default() -> Self {
        Self { partition: Partition::Month, partitions_ahead: 2, user_index: UserIndex::Sealed }
    }
}

impl LogTable {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("log_table.partitions_ahead", self.partitions_ahead, 1..=366);
    }
}
