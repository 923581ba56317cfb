//! Partitions as Parquet files, written before the partitions are dropped.
//!
//! ## Steps
//! 1. One snapshot of the partition, sorted by user and time, is written to its `place`: a folder, or a bucket. The bytes are stored
//!    there and do not have a name yet. In the snapshot's transaction, `tallyd_archives` gets a row with the file's name, digest and sums.
//! 2. In a second transaction the file gets its name, and is read back from its place: its digest, its calls, and the exact sum of each
//!    day and model are those that were written. Then the row gets `verified_at`. Only such a row is listed.
//! 3. [`retention`](crate::retention) empties the partition only if its rows are still those of the file, by a
//!    fingerprint under the partition's lock. `emptied_at` is set in the transaction that empties.
//!
//! Each transaction has [`Lock::Retention`](crate::locks::Lock).
//!
//! ## Interruption
//! A killed process leaves bytes without a name, which nobody reads, or a row without `verified_at` or `emptied_at`. A name is given only
//! after its row is committed, so there is never a whole file without a row. The next run discards a row without `verified_at`, with its
//! file, and writes anew. It takes up a row without `emptied_at` after it has checked the file's digest. If calls arrived or changed in
//! between, the row and its file are discarded and written anew.
//!
//! ## Files
//! `api_usage_log_2025_01-<12 digits>.parquet`, with the columns of `tallyd export calls` and
//! `rollup_other`. Sorted by `user_id` and `occurred_at`, so that one user's calls are in few row groups; with a bloom
//! filter of `request_id`.

mod bucket;
mod file;
mod http;
mod place;
mod prepare;
mod restore;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tallyd_config::{ArchivePlace, Config, S3};
use tallyd_parquet::FileError;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::describe;
use crate::queries::QueryError;
use bucket::Bucket;
use place::{Folder, Place};

pub use bucket::BucketFault;
pub(crate) use prepare::Ready;
pub use restore::restore;

/// Calls of one message between the thread of the file and the one of the database.
const BATCH: usize = 1_000;
/// Messages on their way.
const QUEUE: usize = 4;

/// Where archived partitions are.
#[derive(Debug, Clone)]
pub struct Archive {
    place: ArchivePlace,
    s3: S3,
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
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketFault),
    /// The file cannot be written or read.
    #[error(transparent)]
    File(FileError),
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
    FROM public.tallyd_archives WHERE verified_at IS NOT NULL";

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
    let rows = client.query_typed(&format!("{LISTED} AND id = $1"), &[(&id, Type::INT8)]).await?;
    rows.first().map(archived).ok_or(ArchiveError::Unknown(id))
}

impl From<FileError> for ArchiveError {
    /// The failure of a place is told as it is, although it came through the reader or the writer of a file.
    fn from(error: FileError) -> Self {
        let FileError::Source(failure) = error else { return Self::File(error) };
        match failure.downcast::<Self>() {
            Ok(own) => *own,
            Err(failure) => match failure.downcast::<std::io::Error>().map(|io| (*io).downcast::<Self>()) {
                Ok(Ok(own)) => own,
                Ok(Err(io)) => Self::File(FileError::Source(io.into())),
                Err(failure) => Self::File(FileError::Source(failure)),
            },
        }
    }
}

impl Archive {
    /// The archive of the configuration, if there is one.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        config.retention.place().map(|place| Self { place, s3: config.retention.s3.clone() })
    }

    /// Reads the settings of the place. Called within a runtime.
    fn open(&self) -> Result<Arc<dyn Place>, ArchiveError> {
        Ok(match &self.place {
            ArchivePlace::Folder(folder) => Arc::new(Folder(folder.clone())),
            ArchivePlace::Bucket { name, prefix } => Arc::new(Bucket::open(name, prefix, &self.s3)?),
        })
    }

    /// Reads a file, and compares it with its row: bytes, digest, calls and sums.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub async fn verify(&self, archived: &Archived) -> Result<(), ArchiveError> {
        let (place, archived) = (self.open()?, archived.clone());
        blocking(move || verify(&place, &archived)).await
    }

    /// Writes a small file, reads it and removes it. Returns the address of the place.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub async fn try_out(&self) -> Result<String, ArchiveError> {
        let hasty = Self { s3: S3 { patience: self.s3.patience.min(TRY_OUT), ..self.s3.clone() }, ..self.clone() };
        let place = hasty.open()?;
        blocking(move || {
            let name = format!(".tallyd-doctor-{}", std::process::id());
            let mut upload = place.begin(&name)?;
            let written = upload.write_all(TRIED).map_err(|error| ArchiveError::from(FileError::Source(error.into())));
            if let Err(error) = written.and_then(|()| upload.settle()) {
                upload.abandon();
                return Err(error);
            }
            upload.publish()?;
            let read = place.read(&name, 0..TRIED.len() as u64);
            place.remove(&name)?;
            if read? != TRIED {
                let fault = "other bytes are read than were written".to_owned();
                return Err(ArchiveError::Damaged { file: place.shown(&name), fault });
            }
            Ok(place.shown(""))
        })
        .await
    }
}

/// The longest time for which a request of [`Archive::try_out`] is sent again.
const TRY_OUT: Duration = Duration::from_secs(2);
/// The content of its file.
const TRIED: &[u8] = b"written by tallyd doctor\n";

fn verify(place: &Arc<dyn Place>, archived: &Archived) -> Result<(), ArchiveError> {
    let fault = |fault: String| ArchiveError::Damaged { file: archived.file.clone(), fault };
    let (bytes, digest) = file::digest(&**place, &archived.file)?;
    if digest != archived.sha256 || bytes != archived.bytes.unsigned_abs() {
        return Err(fault(format!("{bytes} bytes with the digest {digest} are not the ones that were written")));
    }
    // The digest is the one that was written, so the reader meets no foreign bytes.
    let sums = file::read_back(place, &archived.file)?;
    let is = (sums.calls, sums.cost_usd.to_string(), sums.unpriced_calls);
    let was = (archived.calls, tidy(&archived.cost_usd).to_owned(), archived.unpriced_calls);
    if is != was {
        return Err(fault(format!("calls, cost and unpriced calls are {is:?}, and were {was:?}")));
    }
    Ok(())
}

/// A decimal without zeros at its end, as [`Usd`](tallyd_model::pricing::Usd) writes it.
fn tidy(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ArchiveError::Ended)?
}
