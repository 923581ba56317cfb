//! What the writer counts. A handle that is kept costs a tenth of one that is looked up for each record.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tallyd_base::registry as name;

/// What the log's writer counts.
pub struct WalMetrics {
    acked: Counter,
    duplicate: Counter,
    commit_seconds: Histogram,
    batch_records: Histogram,
}

impl Default for WalMetrics {
    fn default() -> Self {
        // Counted where it happens; here it begins at 0, so that an alert sees the first one.
        drop(counter!(name::PRODUCER_NAMES_SHARED));
        Self {
            acked: counter!(name::RECORDS_ACKED),
            duplicate: counter!(name::RECORDS_DUPLICATE),
            commit_seconds: histogram!(name::WAL_COMMIT_SECONDS),
            batch_records: histogram!(name::WAL_BATCH_RECORDS),
        }
    }
}

impl WalMetrics {
    /// Counts records that name calls which are known.
    pub fn duplicate(&self, records: u64) {
        if records > 0 {
            self.duplicate.increment(records);
        }
    }

    /// Counts one commit of the log.
    pub fn committed(&self, took: Duration, records: u64) {
        self.acked.increment(records);
        self.commit_seconds.record(took.as_secs_f64());
        self.batch_records.record(records as f64);
    }
}
