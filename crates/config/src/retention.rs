//! `[retention]`: how long single calls are kept.

use serde::{Deserialize, Serialize};

use super::error::Faults;

/// How long single calls are kept. Sums by day and the users' lifetime totals stay for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days for which the call log keeps calls: partitions that lie wholly before are dropped, every hour. 0: for ever.
    pub log_days: u32,
}

impl Retention {
    pub(super) fn validate(&self, faults: &mut Faults) {
        // A century; more cannot be subtracted from every clock.
        faults.in_range("retention.log_days", self.log_days, 0..=36_500);
    }

    /// How long the log keeps calls; none: for ever.
    #[must_use]
    pub fn log(&self) -> Option<chrono::TimeDelta> {
        (self.log_days > 0).then(|| chrono::TimeDelta::days(self.log_days.into()))
    }
}
