//! `[rollup]`: the daily tables.

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::form;

/// What the daily tables count by.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollup {
    /// The time zone in which a day begins, by its IANA name. The database remembers it: commands without this setting use
    /// the database's, one that differs is an error. Changing it later takes a rebuild of the daily tables.
    #[serde(with = "form::time_zone")]
    pub time_zone: Tz,
    /// Distinct models a day and provider; further ones count as `(other)` in the daily tables.
    pub max_models_per_day: usize,
    /// Distinct endpoints a day and provider; further ones count as `(other)` in the daily tables.
    pub max_endpoints_per_day: usize,
}

impl Default for Rollup {
    fn default() -> Self {
        Self { time_zone: Tz::UTC, max_models_per_day: 1000, max_endpoints_per_day: 2000 }
    }
}

impl Rollup {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("rollup.max_models_per_day", self.max_models_per_day, 1..=1_000_000);
        faults.in_range("rollup.max_endpoints_per_day", self.max_endpoints_per_day, 1..=1_000_000);
    }
}
