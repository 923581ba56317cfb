//! What must be in place before a batch is loaded: the partitions for its times, and the names its days have.
//!
//! A COPY that is under way does not see a partition that is made meanwhile, so a batch's periods are found first: from
//! the chunks' earliest and latest times, and by reading a chunk only where those lie in different periods.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Datelike, NaiveDate};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::FlushError;
use crate::database::Granularity;
use crate::pipeline::chunk::{Entry, PayloadReader};
use crate::pipeline::wal::recent::StoredChunk;
use crate::rollup::day::Days;
use crate::rollup::guard::{KeyGuard, Names};

/// The first day of the partition that an instant needs.
fn start_of(granularity: Granularity, us: i64) -> NaiveDate {
    let date = DateTime::from_timestamp_micros(us).unwrap_or_default().date_naive();
    match granularity {
        Granularity::Day => date,
        Granularity::Month => date.with_day(1).unwrap_or(date),
    }
}

/// The partitions that are known to be there.
pub struct Partitions {
    granularity: Granularity,
    known: Mutex<HashSet<NaiveDate>>,
}

impl Partitions {
    /// Knows none yet.
    #[must_use]
    pub fn new(granularity: Granularity) -> Self {
        Self { granularity, known: Mutex::default() }
    }

    /// Forgets what is known: one that was thought to be there is not.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Makes the partitions that the chunks need and that are not known to be there.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn ensure(&self, client: &Client, chunks: &[impl AsRef<StoredChunk>]) -> Result<(), FlushError> {
        let mut needed = BTreeSet::new();
        for chunk in chunks {
            each_extreme(chunk.as_ref(), |us| start_of(self.granularity, us), &mut needed)?;
        }
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            needed.retain(|start| !known.contains(start));
        }
        for start in needed {
            let sql = "SELECT tallyd_ensure_partition($1::date::timestamp AT TIME ZONE 'UTC', $2)";
            client.query_typed(sql, &[(&start, Type::DATE), (&self.granularity.as_str(), Type::TEXT)]).await?;
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(start);
        }
        Ok(())
    }
}

/// Teaches the guard the names that the chunks' days have in the rollup.
///
/// # Errors
/// PostgreSQL's.
pub async fn learn_days(
    client: &Client,
    guard: &KeyGuard,
    days: &Days,
    chunks: &[impl AsRef<StoredChunk>],
) -> Result<(), FlushError> {
    let mut days = days.clone();
    let mut needed = BTreeSet::new();
    for chunk in chunks {
        each_extreme(chunk.as_ref(), |us| days.of(us), &mut needed)?;
    }
    for day in guard.unknown(needed.into_iter()) {
        let mut names = Names::default();
        let sql = "SELECT DISTINCT model, endpoint FROM daily_api_costs WHERE day = $1";
        for row in client.query_typed(sql, &[(&day, Type::DATE)]).await? {
            names.models.insert(row.get(0));
            names.endpoints.insert(row.get(1));
        }
        names.models.remove("");
        names.endpoints.remove("");
        guard.learn(day, names);
    }
    Ok(())
}

/// Collects the periods of a chunk's calls.
fn each_extreme(
    chunk: &StoredChunk,
    mut period: impl FnMut(i64) -> NaiveDate,
    periods: &mut BTreeSet<NaiveDate>,
) -> Result<(), FlushError> {
    if chunk.records == 0 {
        return Ok(());
    }
    let (first, last) = (period(chunk.min_us), period(chunk.max_us));
    periods.extend([first, last]);
    if first != last {
        for entry in PayloadReader::new(&chunk.payload) {
            if let Entry::Call(call) = entry? {
                periods.insert(period(call.occurred_at_us));
            }
        }
    }
    Ok(())
}
