//! Partitions as Parquet files, written before the partitions are dropped.
//!
//! ## Steps
//! 1. `prepare`: one snapshot of the partition, sorted by user and time, is written into a file, which is synced, read
//!    back, and compared with the snapshot. The comparison has calls, and the exact sum of each day and model. Then the file gets its name,
//!    and a row of `tallyd_archives` its digest and sums. All of it is one transaction, with
//!    [`Lock::Retention`](crate::locks::Lock).
//! 2. [`retention`](crate::retention) empties the partition only if its rows are still those of the file, by a
//!    fingerprint under the partition's lock. `emptied_at` is set in the transaction that empties.
//!
//! ## Interruption
//! A killed process leaves a `.part` file, a file without a row, or a row without `emptied_at`. The next run writes the
//! first anew, replaces the second by the same bytes, and takes up the third after it has checked the file's digest. If calls arrived or changed in between, the row and its file are discarded and written anew.
//!
//! ## Files
//! `api_usage_log_2025_01-<12 digits of the digest>.parquet`, with the columns of `tallyd export calls` and
//! `rollup_other`. Sorted by `user_id` and `occurred_at`, so that one user's calls are in few row groups; with bloom
//! filters of `user_id`, `id` and `request_id`.

mod file;
mod restore;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::describe;
use crate::locks::Lock;
use crate::partitions::PartitionInfo;
use crate::queries::QueryError;
use crate::queries::records;
use crate::retention::LOCK_WAIT;
use file::{Message, Written};
use tallyd_parquet::FileError;

pub use restore::restore;

/// Calls of one message to the thread that writes.
const BATCH: usize = 1_000;
/// Messages on their way to it.
const QUEUE: usize = 4;

/// Where archived partitions are.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
}

/// Why a partition was not archived, or a file cannot be used. Nothing was dropped.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// PostgreSQL failed.
    #[error("{}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A row cannot be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The file has other bytes than were written.
    #[error("{file}: {fault}")]
    Damaged {
        /// The file's name.
        file: String,
        /// The fault.
        fault: String,
    },
    /// The file cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A cost has more decimals than a file can have.
    #[error(
        "{0} has costs with more than 18 decimals, which SQL wrote and Parquet cannot keep; it is not archived. hint: round \
         them: UPDATE {0} SET cost_usd = round(cost_usd, 18) WHERE scale(cost_usd) > 18, then `tallyd rollups rebuild`"
    )]
    TooExact(String),
    /// The row of a file is missing.
    #[error("there is no archive {0}. hint: `tallyd archive list`")]
    Unknown(i64),
    /// The file was restored before.
    #[error("{0} is there already, from an earlier restore. hint: DROP TABLE {0}, then restore again")]
    Restored(String),
    /// Another process archives or drops partitions.
    #[error("another process is dropping partitions; wait for it")]
    Taken,
    /// The thread that writes has ended.
    #[error("the thread that writes the archive has ended")]
    Ended,
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archived {
    /// Its number.
    pub id: i64,
    /// The partition's name.
    pub partition: String,
    /// The first instant of the partition's range; none if it has no lower bound.
    pub from: Option<DateTime<Utc>>,
    /// The first instant after the range; none if it has no upper bound.
    pub to: Option<DateTime<Utc>>,
    /// The file's name within the archive.
    pub file: String,
    /// Its size.
    pub bytes: i64,
    /// Its digest, in hexadecimal digits.
    pub sha256: String,
    /// Its calls.
    pub calls: i64,
    /// The sum of their costs in USD, as exact decimal text.
    pub cost_usd: String,
    /// Its unpriced calls.
    pub unpriced_calls: i64,
    /// When the partition was emptied; none while the call log still has the calls.
    pub emptied_at: Option<DateTime<Utc>>,
}

const LISTED: &str = "SELECT id, partition_name, CASE WHEN isfinite(from_at) THEN from_at END AS from_at, \
    CASE WHEN isfinite(to_at) THEN to_at END AS to_at, file, bytes, sha256, calls, cost_usd::text, unpriced_calls, emptied_at \
    FROM public.tallyd_archives";

fn archived(row: &Row) -> Archived {
    Archived {
        id: row.get(0),
        partition: row.get(1),
        from: row.get(2),
        to: row.get(3),
        file: row.get(4),
        bytes: row.get(5),
        sha256: row.get(6),
        calls: row.get(7),
        cost_usd: row.get(8),
        unpriced_calls: row.get(9),
        emptied_at: row.get(10),
    }
}

/// All files, in order of time.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(client: &Client) -> Result<Vec<Archived>, ArchiveError> {
    let rows = client.query_typed(&format!("{LISTED} ORDER BY from_at, id"), &[]).await?;
    Ok(rows.iter().map(archived).collect())
}

/// One file.
///
/// # Errors
/// [`ArchiveError`].
pub async fn find(client: &Client, id: i64) -> Result<Archived, ArchiveError> {
    let rows = client.query_typed(&format!("{LISTED} WHERE id = $1"), &[(&id, Type::INT8)]).await?;
    rows.first().map(archived).ok_or(ArchiveError::Unknown(id))
}

/// The stored columns of a call, for a file and for its fingerprint.
fn stored() -> String {
    format!("{}, rollup_other", records::COLUMNS.join(", "))
}

/// Calls, whether their costs add up to `$1`, unpriced calls, and the fingerprint: a sum over hashes of the rows.
fn totals(partition: &str) -> String {
    format!(
        "SELECT count(*), coalesce(sum(cost_usd), 0) = $1::text::numeric, count(*) FILTER (WHERE cost_usd IS NULL), \
         coalesce(sum(hashtextextended(ROW({})::text, 0)::numeric), 0)::text FROM {partition}",
        stored()
    )
}

/// The settings on which a row's text depends.
const SAME_TEXT: &str =
    "SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL extra_float_digits = 1";

/// A partition's file that is ready for the partition to be emptied.
#[derive(Debug)]
pub(crate) struct Ready {
    archived: Archived,
    fingerprint: String,
}

impl Archive {
    /// An archive in a folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The archive of the configuration, if there is one.
    #[must_use]
    pub fn of(config: &tallyd_config::Config) -> Option<Self> {
        config.retention.archive.clone().map(Self::new)
    }

    /// Reads a file, and compares it with its row: bytes, digest, calls and sums.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn verify(&self, archived: &Archived) -> Result<(), ArchiveError> {
        let path = self.folder.join(&archived.file);
        let fault = |fault: String| ArchiveError::Damaged { file: archived.file.clone(), fault };
        let (bytes, digest) = file::digest(&path)?;
        if digest != archived.sha256 || bytes != archived.bytes.unsigned_abs() {
            return Err(fault(format!("{bytes} bytes with the digest {digest} are not the ones that were written")));
        }
        // The digest is the one that was written, so the reader meets no foreign bytes.
        let sums = file::read_back(&path)?;
        let is = (sums.calls, sums.cost_usd.to_string(), sums.unpriced_calls);
        let was = (archived.calls, tidy(&archived.cost_usd), archived.unpriced_calls);
        if is != was {
            return Err(fault(format!("calls, cost and unpriced calls are {is:?}, and were {was:?}")));
        }
        Ok(())
    }

    /// Writes a partition's file, or takes up the one of an interrupted run. None for a partition without calls.
    pub(crate) async fn prepare(
        &self,
        client: &Client,
        partition: &PartitionInfo,
        actor: &str,
    ) -> Result<Option<Ready>, ArchiveError> {
        // Reading and comparing the file takes a while, in which the transaction has nothing to do.
        client
            .batch_execute(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = '{LOCK_WAIT}'; SET LOCAL statement_timeout = 0; \
                 SET LOCAL idle_in_transaction_session_timeout = 0; {SAME_TEXT}"
            ))
            .await?;
        let done = self.within(client, partition, actor).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        // The session itself may have failed.
        let ended = client.batch_execute(end).await;
        let done = done?;
        ended?;
        Ok(done)
    }

    async fn within(
        &self,
        client: &Client,
        partition: &PartitionInfo,
        actor: &str,
    ) -> Result<Option<Ready>, ArchiveError> {
        if !Lock::Retention.try_take(client).await? {
            return Err(ArchiveError::Taken);
        }
        if let Some(ready) = self.pending(client, partition).await? {
            return Ok(Some(ready));
        }
        let written = self.write(client, partition).await?;
        if written.sums.calls == 0 {
            file::remove(&written.part);
            return Ok(None);
        }
        let cost = written.sums.cost_usd.to_string();
        let rows = client.query_typed(&totals(&partition.name), &[(&cost, Type::TEXT)]).await?;
        let row = rows.first().ok_or(ArchiveError::Ended)?;
        let (calls, same_cost, unpriced, fingerprint): (i64, bool, i64, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        if !same_cost {
            return Err(ArchiveError::TooExact(partition.name.clone()));
        }
        if (calls, unpriced) != (written.sums.calls, written.sums.unpriced_calls) {
            let fault = format!("calls written: {}, in the partition: {calls}", written.sums.calls);
            return Err(ArchiveError::Damaged { file: written.part.display().to_string(), fault });
        }
        let file = file::name(&partition.name, &written.sha256);
        file::publish(&written.part, &self.folder, &file)?;
        let insert = "INSERT INTO public.tallyd_archives (partition_name, from_at, to_at, file, bytes, sha256, calls, cost_usd, \
            unpriced_calls, fingerprint, actor) VALUES ($1, coalesce($2, '-infinity'), coalesce($3, 'infinity'), $4, $5, $6, $7, \
            $8::text::numeric, $9, $10::text::numeric, $11) RETURNING id";
        let bytes = i64::try_from(written.bytes).unwrap_or(i64::MAX);
        let values: [(&(dyn ToSql + Sync), Type); 11] = [
            (&partition.name, Type::TEXT),
            (&partition.from, Type::TIMESTAMPTZ),
            (&partition.to, Type::TIMESTAMPTZ),
            (&file, Type::TEXT),
            (&bytes, Type::INT8),
            (&written.sha256, Type::TEXT),
            (&calls, Type::INT8),
            (&cost, Type::TEXT),
            (&unpriced, Type::INT8),
            (&fingerprint, Type::TEXT),
            (&actor, Type::TEXT),
        ];
        let rows = client.query_typed(insert, &values).await?;
        let id: i64 = rows.first().ok_or(ArchiveError::Ended)?.get(0);
        tracing::info!(partition = partition.name, file, calls, bytes, "a partition was archived");
        Ok(Some(Ready { archived: find(client, id).await?, fingerprint }))
    }

    /// The file of an interrupted run, if it is whole; otherwise its row is discarded.
    async fn pending(&self, client: &Client, partition: &PartitionInfo) -> Result<Option<Ready>, ArchiveError> {
        let sql = format!(
            "SELECT a.*, t.fingerprint::text FROM ({LISTED} WHERE partition_name = $1 AND emptied_at IS NULL) AS a \
             JOIN public.tallyd_archives AS t USING (id) ORDER BY id"
        );
        for row in client.query_typed(&sql, &[(&partition.name, Type::TEXT)]).await? {
            let archived = archived(&row);
            let (path, of_row) = (self.folder.join(&archived.file), archived.sha256.clone());
            let is_whole = blocking(move || Ok(file::digest(&path).is_ok_and(|(_, digest)| digest == of_row))).await?;
            if is_whole {
                return Ok(Some(Ready { archived, fingerprint: row.get(11) }));
            }
            self.discard(client, &archived).await?;
        }
        Ok(None)
    }

    /// Removes a file whose partition was not emptied, and its row.
    async fn discard(&self, client: &Client, archived: &Archived) -> Result<(), ArchiveError> {
        let sql = "DELETE FROM public.tallyd_archives WHERE id = $1 AND emptied_at IS NULL";
        client.query_typed(sql, &[(&archived.id, Type::INT8)]).await?;
        file::remove(&self.folder.join(&archived.file));
        Ok(())
    }

    /// Removes a file whose partition has changed since.
    pub(crate) async fn outdated(&self, client: &Client, ready: Option<Ready>) -> Result<(), ArchiveError> {
        match ready {
            Some(ready) => self.discard(client, &ready.archived).await,
            None => Ok(()),
        }
    }

    /// Writes the partition's calls into a file without a name, and reads them back.
    async fn write(&self, client: &Client, partition: &PartitionInfo) -> Result<Written, ArchiveError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (folder, name) = (self.folder.clone(), partition.name.clone());
        let writer = tokio::task::spawn_blocking(move || file::write(&folder, &name, receiver));
        let sent = send(client, &partition.name, sender).await;
        let written = writer.await.map_err(|_| ArchiveError::Ended)?;
        match sent {
            // The writer's own error says why it has ended.
            Err(ArchiveError::Ended) | Ok(()) => written,
            Err(error) => Err(error),
        }
    }
}

/// Sends the rows of a partition, by user and time.
async fn send(client: &Client, partition: &str, to: mpsc::Sender<Message>) -> Result<(), ArchiveError> {
    let sql = format!(
        "SELECT {columns} FROM {partition} ORDER BY user_id, occurred_at, id",
        columns = stored().replace("cost_usd,", "round(cost_usd, 18),")
    );
    let rows = client.query_typed_raw(&sql, Vec::<(&(dyn ToSql + Sync), Type)>::new()).await?;
    let mut rows = std::pin::pin!(rows);
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(row) = rows.try_next().await? {
        batch.push((records::read(&row)?, row.try_get(records::COLUMNS.len())?));
        if batch.len() == BATCH {
            to.send(Message::Calls(std::mem::take(&mut batch))).await.map_err(|_| ArchiveError::Ended)?;
        }
    }
    to.send(Message::Calls(batch)).await.map_err(|_| ArchiveError::Ended)?;
    to.send(Message::End).await.map_err(|_| ArchiveError::Ended)
}

impl Ready {
    /// True if a partition, which is locked against writers, still has the file's rows.
    pub(crate) async fn matches(&self, client: &Client, partition: &str) -> Result<bool, tokio_postgres::Error> {
        client.batch_execute(SAME_TEXT).await?;
        let rows = client.query_typed(&totals(partition), &[(&self.archived.cost_usd, Type::TEXT)]).await?;
        Ok(rows.first().is_some_and(|row| {
            let (calls, same_cost, unpriced, fingerprint): (i64, bool, i64, String) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            let archived = &self.archived;
            same_cost && (calls, unpriced, &fingerprint) == (archived.calls, archived.unpriced_calls, &self.fingerprint)
        }))
    }

    /// Notes that the partition is emptied, in the transaction that does it.
    pub(crate) async fn emptied(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE public.tallyd_archives SET emptied_at = clock_timestamp() WHERE id = $1";
        client.query_typed(sql, &[(&self.archived.id, Type::INT8)]).await.map(drop)
    }
}

/// A decimal without trailing zeros, as [`Usd`](tallyd_model::pricing::Usd) writes it.
fn tidy(decimal: &str) -> String {
    tallyd_model::pricing::Usd::parse(decimal).map_or_else(|_| decimal.to_owned(), |amount| amount.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ArchiveError::Ended)?
}
