//! The daemon's state at an instant, and the rates between two instants.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::http::socket::{self, AskError};
use crate::http::{Status, Today};
use tallyd_base::registry;

/// The longest time for one sample.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub at: Instant,
    /// The answer of `/status`.
    pub status: Status,
    /// Today's costs; none while the database does not answer.
    pub today: Option<Today>,
    pub counters: Counters,
}

/// Values from `/metrics`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counters {
    /// Acknowledged records.
    pub acked: f64,
    /// Committed records.
    pub committed: f64,
    /// Refused records, for any reason.
    pub refused: f64,
    /// Records that became dead letters.
    pub dead_letters: f64,
    /// The WAL's bound, bytes.
    pub wal_max_bytes: f64,
    /// Cumulative counts of the WAL's commits, each with its bucket's upper bound in seconds, in the order of the
    /// bounds.
    pub commits: Vec<(f64, f64)>,
}

/// The rates between two samples, records a second, and the times of the WAL's commits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Throughput {
    pub acked: f64,
    pub committed: f64,
    pub refused: f64,
    /// The median commit of the WAL, seconds; none without any.
    pub commit_p50_s: Option<f64>,
    /// The 99th percentile, seconds.
    pub commit_p99_s: Option<f64>,
}

impl Sample {
    /// Takes a sample of the running daemon, with today by a dimension.
    ///
    /// # Errors
    /// [`AskError`].
    pub(super) async fn take(data_dir: &Path, by: &str) -> Result<Self, AskError> {
        let broken = |what: String| AskError::Broken(data_dir.to_owned(), what);
        let asking = async {
            let status = socket::get(data_dir, "/status").await?;
            let metrics = socket::get(data_dir, "/metrics").await?;
            // Missing until the database answers.
            let today = socket::get(data_dir, &format!("/today?by={by}")).await.ok();
            let status = serde_json::from_slice(&status).map_err(|error| broken(error.to_string()))?;
            let today = today.map(|body| serde_json::from_slice(&body)).transpose();
            let today = today.map_err(|error| broken(error.to_string()))?;
            let counters = Counters::read(&String::from_utf8_lossy(&metrics));
            Ok(Self { at: Instant::now(), status, today, counters })
        };
        let outcome = tokio::time::timeout(PATIENCE, asking).await;
        outcome.unwrap_or_else(|_| Err(broken(format!("no answer within {} s", PATIENCE.as_secs()))))
    }

    /// The rates since an earlier sample; none if the daemon was restarted in between.
    #[must_use]
    pub(super) fn since(&self, before: &Self) -> Option<Throughput> {
        let seconds = (self.at - before.at).as_secs_f64();
        if self.status.pid != before.status.pid || seconds <= 0.0 {
            return None;
        }
        let rate = |of: fn(&Counters) -> f64| (of(&self.counters) - of(&before.counters)).max(0.0) / seconds;
        let commits = self.counters.commits_since(&before.counters);
        Some(Throughput {
            acked: rate(|counters| counters.acked),
            committed: rate(|counters| counters.committed),
            refused: rate(|counters| counters.refused),
            commit_p50_s: quantile(&commits, 0.5),
            commit_p99_s: quantile(&commits, 0.99),
        })
    }
}

impl Counters {
    fn read(text: &str) -> Self {
        let mut counters = Self::default();
        let mut commits = BTreeMap::new();
        let bucket = format!("{}_bucket{{", registry::WAL_COMMIT_SECONDS);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let bare = name.split('{').next().unwrap_or_default();
            match bare {
                registry::RECORDS_ACKED => counters.acked += value,
                registry::RECORDS_COMMITTED => counters.committed += value,
                registry::RECORDS_REFUSED => counters.refused += value,
                registry::DEAD_LETTERS => counters.dead_letters += value,
                registry::WAL_MAX_BYTES => counters.wal_max_bytes = value,
                _ if name.starts_with(&bucket) => {
                    let bound = name.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
                    let bound = bound.and_then(|bound| bound.parse::<f64>().ok());
                    // Positive numbers are ordered as their bits are.
                    bound.map(|bound| commits.insert(bound.to_bits(), (bound, value)));
                }
                _ => {}
            }
        }
        counters.commits = commits.into_values().collect();
        counters
    }

    fn commits_since(&self, before: &Self) -> Vec<(f64, f64)> {
        let earlier = |at: usize| before.commits.get(at).map_or(0.0, |(_, count)| *count);
        self.commits.iter().enumerate().map(|(at, (bound, count))| (*bound, count - earlier(at))).collect()
    }
}

/// A quantile of a cumulative histogram, like Prometheus' `histogram_quantile`: linear within a bucket.
fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let rank = q * total;
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (lower, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let (upper, count) = buckets[at];
    if upper.is_infinite() {
        return Some(lower);
    }
    Some(lower + (upper - lower) * (rank - below) / (count - below).max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP tallyd_records_acked_total Records\n\
        tallyd_records_acked_total 120\n\
        tallyd_records_committed_total{lane=\"0\"} 60\n\
        tallyd_records_committed_total{lane=\"1\"} 40\n\
        tallyd_records_refused_total{code=\"format\"} 2\n\
        tallyd_wal_max_bytes 8589934592\n\
        tallyd_wal_commit_seconds_bucket{le=\"+Inf\"} 100\n\
        tallyd_wal_commit_seconds_bucket{le=\"0.001\"} 50\n\
        tallyd_wal_commit_seconds_bucket{le=\"0.01\"} 99\n\
        tallyd_wal_commit_seconds_sum 1\n";

    #[test]
    fn metrics_are_read_and_labels_added_up() {
        let counters = Counters::read(TEXT);
        assert_eq!((counters.acked, counters.committed, counters.refused), (120.0, 100.0, 2.0));
        assert_eq!(counters.commits, [(0.001, 50.0), (0.01, 99.0), (f64::INFINITY, 100.0)]);
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let buckets = [(0.001, 50.0), (0.01, 99.0), (f64::INFINITY, 100.0)];
        assert_eq!(quantile(&buckets, 0.5), Some(0.001));
        assert!(quantile(&buckets, 0.99).is_some_and(|p99| (p99 - 0.01).abs() < 1e-9));
        assert_eq!(quantile(&buckets, 0.995), Some(0.01), "beyond the last bound nothing is known");
        assert_eq!(quantile(&[(0.001, 0.0), (f64::INFINITY, 0.0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
