//! Drops old partitions of the call log, and keeps their sums.
//!
//! ## Invariant
//! Rollups and lifetime totals do not change. A partition's sums go into the tables `tallyd_dropped_*` in the
//! transaction that empties it. So in every committed state a rollup is the sum of the call log and of dropped calls.
//!
//! ## Two steps
//! 1. `empty`: one transaction locks the partition against writers, adds its sums to the dropped ones, stores its
//!    totals and the author, and truncates it. Only this partition is locked: loading goes on, except for a batch with
//!    calls of just this period, which waits. Readers wait only during the truncation.
//! 2. `remove`: the empty partition is dropped. That takes a lock on the whole call log, which is tried again and again
//!    with a short time limit. If that fails, the empty partition stays until the next run, at no cost.
//!
//! A process that is killed leaves one of three complete states: nothing done, an empty partition, or a dropped one.
//! Calls that arrive for the partition between the steps are found when it is locked for dropping, and both steps are
//! repeated. Calls that arrive later make the partition again, and count; the next run adds their sums to the dropped
//! ones.
//!
//! `DETACH … CONCURRENTLY` is not used. It cannot run in one transaction with the sums, and a detached table may have
//! received rows since the sums were made.
//!
//! ## Archive
//! With an [`Archive`], the partition is written into a file before the first step, and the step empties it only if it
//! still has the file's rows. Otherwise both are repeated.
//!
//! ## Concurrency
//! A lock ([`Lock::Retention`](super::locks::Lock)), held until the transaction ends, admits one run at a time.
//! Repricing and forgetting write to partitions, so they and a run wait for one another. A transaction that waits for
//! longer than two seconds gives way.

mod empty;
mod remove;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::archive::{Archive, ArchiveError};
use super::partitions::{self, PartitionInfo};
use crate::queries::audit::Actor;

/// Time limit for a lock on a partition.
pub(crate) const LOCK_WAIT: &str = "2s";
/// Repetitions of both steps after calls arrived in between.
const ROUNDS: u32 = 3;

/// Result for a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Its name, quoted for SQL.
    pub partition: String,
    /// Calls that this run took out of the call log.
    pub calls: i64,
    /// The sum of their costs in USD, as exact decimal text.
    pub cost_usd: String,
    /// Its state after the run.
    pub state: DropState,
}

/// State of a partition after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DropState {
    /// It was dropped.
    Gone,
    /// It is empty, and still there: others were using the call log. The next run drops it.
    Emptied,
    /// It is unchanged: others were using it. The next run tries again.
    Busy,
}

impl DropState {
    /// The state as text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Emptied => "emptied",
            Self::Busy => "busy",
        }
    }
}

/// Why partitions were not dropped. Committed steps stay, and are complete.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// PostgreSQL failed.
    #[error("dropping partitions stopped: {}; run it again to go on", super::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// Another process is dropping partitions.
    #[error("another process is dropping partitions; wait for it")]
    Taken,
    /// This role does not own the partition.
    #[error(
        "the role {role} does not own {partition}, and only its owner drops it. hint: run `tallyd partitions drop` as the \
         role that migrated the database (by --database-url), from time to time; tallyd_writer loads, and drops nothing"
    )]
    NotOwner {
        /// The session's role.
        role: String,
        /// The first partition that it does not own.
        partition: String,
    },
    /// The schema is missing, or somebody has removed the setting.
    #[error("tallyd_settings has no reporting_time_zone. hint: run `tallyd migrate`")]
    NoTimeZone,
    /// A partition was not archived, and so it was not dropped.
    #[error("the partition {partition} was not archived and stays: {source}")]
    Archive {
        /// The partition.
        partition: String,
        /// The reason.
        source: ArchiveError,
    },
}

/// The partitions that end before an instant and are sealed.
///
/// # Errors
/// PostgreSQL's.
pub async fn due(client: &Client, before: DateTime<Utc>) -> Result<Vec<PartitionInfo>, tokio_postgres::Error> {
    let all = partitions::list(client).await?;
    Ok(all.into_iter().filter(|one| one.sealed && one.to.is_some_and(|to| to <= before)).collect())
}

/// Calls of these days, both included, that were dropped from the call log.
///
/// # Errors
/// PostgreSQL's.
pub async fn dropped_calls(client: &Client, days: (NaiveDate, NaiveDate)) -> Result<u64, tokio_postgres::Error> {
    let sql = "SELECT coalesce(sum(calls), 0)::int8 FROM public.tallyd_dropped_costs WHERE day BETWEEN $1 AND $2";
    let rows = client.query_typed(sql, &[(&days.0, Type::DATE), (&days.1, Type::DATE)]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// Drops the partitions that end before an instant and are sealed, oldest first, each after it was archived, if there
/// is an archive. `report` is called after each.
///
/// # Errors
/// [`RetentionError`]. Another call continues.
pub async fn drop_before(
    client: &Client,
    before: DateTime<Utc>,
    by: &Actor<'_>,
    archive: Option<&Archive>,
    mut report: impl FnMut(&Dropped),
) -> Result<Vec<Dropped>, RetentionError> {
    let due = due(client, before).await?;
    if let Some(foreign) = due.iter().find(|one| !one.owned) {
        let rows = client.query_typed("SELECT current_user::text", &[]).await?;
        let role = rows.first().map_or_else(String::new, |row| row.get(0));
        return Err(RetentionError::NotOwner { role, partition: foreign.name.clone() });
    }
    let mut all = Vec::new();
    for partition in due {
        let dropped = drop_one(client, &partition, by, archive).await?;
        report(&dropped);
        all.push(dropped);
    }
    Ok(all)
}

async fn drop_one(
    client: &Client,
    partition: &PartitionInfo,
    by: &Actor<'_>,
    archive: Option<&Archive>,
) -> Result<Dropped, RetentionError> {
    let of_archive = |source| match source {
        ArchiveError::Taken => RetentionError::Taken,
        source => RetentionError::Archive { partition: partition.name.clone(), source },
    };
    let mut dropped =
        Dropped { partition: partition.name.clone(), calls: 0, cost_usd: "0".into(), state: DropState::Busy };
    for _ in 0..ROUNDS {
        let file = match archive {
            Some(archive) => match archive.prepare(client, partition, by.name).await {
                Err(ArchiveError::Database(error)) if is_gone(&error) => {
                    dropped.state = DropState::Gone;
                    return Ok(dropped);
                }
                Err(ArchiveError::Database(error)) if gives_way(&error) => return Ok(dropped),
                file => Some(file.map_err(of_archive)?),
            },
            None => None,
        };
        match empty::empty(client, partition, by, file.as_ref()).await? {
            empty::Emptied::Changed => {
                if let (Some(archive), Some(file)) = (archive, file) {
                    archive.outdated(client, file).await.map_err(of_archive)?;
                }
                continue;
            }
            empty::Emptied::Busy => return Ok(dropped),
            empty::Emptied::Gone => {
                dropped.state = DropState::Gone;
                return Ok(dropped);
            }
            empty::Emptied::Was { calls: 0, .. } => {}
            empty::Emptied::Was { calls, cost_usd } => {
                dropped.calls += calls;
                dropped.cost_usd = cost_usd;
            }
        }
        dropped.state = DropState::Emptied;
        match remove::remove(client, partition).await? {
            remove::Removed::Gone => {
                dropped.state = DropState::Gone;
                return Ok(dropped);
            }
            remove::Removed::Busy => return Ok(dropped),
            remove::Removed::Refilled => {}
        }
    }
    Ok(dropped)
}

/// Begins a transaction with a time limit for its locks.
async fn begin(client: &Client, lock_wait: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '{lock_wait}'")).await
}

/// True if a table still is a partition of the call log with this end.
async fn is_partition(client: &Client, partition: &PartitionInfo) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT FROM public.tallyd_partitions() AS p WHERE p.relation = to_regclass($1) AND p.to_at = $2";
    let rows = client.query_typed(sql, &[(&partition.name, Type::TEXT), (&partition.to, Type::TIMESTAMPTZ)]).await?;
    Ok(!rows.is_empty())
}

/// True for a lock timeout or a deadlock.
fn gives_way(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// True if the table does not exist any more.
fn is_gone(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}
