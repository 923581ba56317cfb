//! `[database]`, `[log_table]`, `[rollup]`: PostgreSQL's address, and the layout of its tables.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tallyd_model::zone::Tz;

use super::error::Faults;
use super::{SecretUrl, form};

/// How to reach PostgreSQL.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// URL or key=value connection string. Empty: the daemon starts a private PostgreSQL of its own in the data folder.
    #[serde(with = "form::empty_is_none")]
    pub url: Option<SecretUrl>,
    /// File with the password, instead of one in the URL; read at every attempt to connect, so a new one needs no restart.
    #[serde(with = "form::empty_is_none")]
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities that may sign the server's certificate. Empty: the system's.
    #[serde(with = "form::empty_is_none")]
    pub ca_file: Option<PathBuf>,
    /// How long one attempt to connect may take, each host of the URL by itself.
    #[serde(rename = "connect_timeout_ms", with = "form::milliseconds")]
    pub connect_timeout: Duration,
    /// Folder with the PostgreSQL server's programs, for the private one. Empty: they are searched for.
    #[serde(with = "form::empty_is_none")]
    pub embedded_bin_dir: Option<PathBuf>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            embedded_bin_dir: None,
        }
    }
}

impl Database {
    pub(super) fn validate(&self, faults: &mut Faults) {
        if self.password_file.is_some() && self.url.is_none() {
            let reason = "there is no database.url that it would be for; the private PostgreSQL has no password";
            faults.add("database.password_file", reason);
        }
        faults.in_range("database.connect_timeout_ms", self.connect_timeout.as_millis(), 100..=600_000);
    }
}

/// The period that one partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// A month.
    #[default]
    Month,
    /// A day: for many millions of calls a day, where an index on a whole month no longer fits memory.
    Day,
}

impl Granularity {
    /// Its name in SQL, and in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Day => "day",
        }
    }
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
    pub partition: Granularity,
    /// Partitions that are made ahead of time.
    pub partitions_ahead: u32,
    /// When a partition gets its index by user: `"always"` (loading takes nearly twice as long), `"sealed"` (once it has
    /// stopped growing), `"never"`.
    pub user_index: UserIndex,
}

impl Default for LogTable {
    fn default() -> Self {
        Self { partition: Granularity::Month, partitions_ahead: 2, user_index: UserIndex::Sealed }
    }
}

impl LogTable {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("log_table.partitions_ahead", self.partitions_ahead, 1..=366);
    }
}

/// The days and bounds of the rollups.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollup {
    /// The time zone in which a day begins, by its IANA name. The database remembers it: commands without this setting use
    /// the database's, one that differs is an error. Changing it later needs a rebuild of the rollups.
    #[serde(with = "form::time_zone")]
    pub time_zone: Tz,
    /// Distinct models a day and provider; further ones count as `(other)` in the rollups.
    pub max_models_per_day: usize,
    /// Distinct endpoints a day and provider; further ones count as `(other)` in the rollups.
    pub max_endpoints_per_day: usize,
    /// Distinct applications a day; further ones count as `(other)` in the rollups.
    pub max_apps_per_day: usize,
}

impl Default for Rollup {
    fn default() -> Self {
        Self { time_zone: Tz::UTC, max_models_per_day: 1000, max_endpoints_per_day: 2000, max_apps_per_day: 200 }
    }
}

impl Rollup {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("rollup.max_models_per_day", self.max_models_per_day, 1..=1_000_000);
        faults.in_range("rollup.max_endpoints_per_day", self.max_endpoints_per_day, 1..=1_000_000);
        faults.in_range("rollup.max_apps_per_day", self.max_apps_per_day, 1..=1_000_000);
    }
}
