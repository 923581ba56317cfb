//! `[flusher]`: loading from the WAL into PostgreSQL.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::form;

/// Batches and retries.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flusher {
    /// Connections that load at once.
    pub lanes: usize,
    /// How old a record may get before its batch is closed, however small.
    #[serde(rename = "flush_interval_ms", with = "form::milliseconds")]
    pub flush_interval: Duration,
    /// Records of the largest batch; a backlog makes batches grow up to it, or to 18 MiB of their size in the WAL.
    pub max_batch_records: usize,
    /// How long one whole batch may take in the database before it is given up and tried again.
    #[serde(rename = "statement_deadline_ms", with = "form::milliseconds")]
    pub statement_deadline: Duration,
    /// The pause before the first retry. It doubles up to `retry_max_ms`; retries go on for ever.
    #[serde(rename = "retry_min_ms", with = "form::milliseconds")]
    pub retry_min: Duration,
    /// The longest pause between two retries.
    #[serde(rename = "retry_max_ms", with = "form::milliseconds")]
    pub retry_max: Duration,
}

impl Default for Flusher {
    fn default() -> Self {
        Self {
            lanes: 2,
            flush_interval: Duration::from_millis(200),
            max_batch_records: 500_000,
            statement_deadline: Duration::from_secs(60),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(10),
        }
    }
}

impl Flusher {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("flusher.lanes", self.lanes, 1..=16);
        faults.in_range("flusher.flush_interval_ms", self.flush_interval.as_millis(), 1..=600_000);
        faults.in_range("flusher.max_batch_records", self.max_batch_records, 1..=10_000_000);
        faults.in_range("flusher.statement_deadline_ms", self.statement_deadline.as_millis(), 100..=3_600_000);
        faults.in_range("flusher.retry_min_ms", self.retry_min.as_millis(), 1..=600_000);
        if self.retry_max < self.retry_min {
            let reason = format!(
                "{} is less than flusher.retry_min_ms ({}); raise it, or lower that",
                self.retry_max.as_millis(),
                self.retry_min.as_millis()
            );
            faults.add("flusher.retry_max_ms", reason);
        }
        faults.in_range("flusher.retry_max_ms", self.retry_max.as_millis(), 1..=3_600_000);
    }
}
