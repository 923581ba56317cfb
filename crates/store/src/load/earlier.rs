//! Calls that an earlier WAL has loaded, whose data folder is gone.
//!
//! A daemon whose data folder was lost begins an empty WAL. Clients send their unacknowledged records again, and a
//! part of them may be committed: the acknowledgement was lost with the daemon. The producers' numbers and the window of
//! stated ids were in the lost folder, so the new WAL takes these records as new ones.
//!
//! PostgreSQL decides. A call has an id, of the client or of its sender, that stands in the call log. So a batch looks up
//! the ids of the calls that an earlier WAL can have had, in its own transaction, and leaves those out that are there:
//!
//! * An earlier WAL can only have had calls from before this one was made. [`SLACK`] is added for clocks that differ, and
//!   for calls that do not state their time and get the time of their arrival. After it a batch of fresh calls costs
//!   nothing.
//! * A call with an id that its client made has its time as well, and is found at exactly that time. One with a stated
//!   identity may have the time of its arrival, and is searched for [`AROUND`] its time.
//! * Nothing is looked up if the database knows no other WAL, or once this one is older than the identity window.
//!
//! ## The earlier WAL's last transaction
//! It may still wait for its COMMIT, on a standby for instance. Its rows are not visible then. It holds its row of
//! `ingest_watermark`; so a lane locks all other WALs' rows once, before it loads anything.
//!
//! ## Calls that are not found
//! A call without an id, from a sender that neither numbers nor names its records, and a refused record: it is kept a
//! second time as a dead letter.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::FlushError;
use super::replay::{Named, find};
use tallyd_wal::chunk::{Entry, PayloadReader};
use tallyd_wal::recent::StoredChunk;
use tallyd_wal::wal::Wal;

/// How long after this WAL was made a call of an earlier one may have been made, by its own time.
const SLACK: Duration = Duration::from_secs(15 * 60);
/// How far the times of two records of a call with a stated identity may differ.
const AROUND: Duration = Duration::from_secs(60 * 60);

/// Finds the calls of earlier WALs.
pub struct EarlierCalls {
    buffer_id: Uuid,
    /// When this WAL was made, microseconds since 1970; none if its identity does not tell.
    made_us: Option<i64>,
    /// How long after that earlier WALs matter, microseconds.
    span_us: i64,
    /// Whether the database knows other WALs.
    others: OnceCell<bool>,
}

impl EarlierCalls {
    /// For the WAL with this identity. `span` is the identity window.
    #[must_use]
    pub fn new(buffer_id: Uuid, span: Duration) -> Self {
        // An identity of version 7 begins with the time at which it was made. Older WALs have another version.
        let made = buffer_id.get_timestamp().map(|time| time.to_unix());
        let made_us = made.and_then(|(seconds, nanos)| {
            i64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1_000))
        });
        Self { buffer_id, made_us, span_us: micros(span), others: OnceCell::new() }
    }

    /// The time up to which calls are looked up, microseconds since 1970.
    fn until_us(&self, now_us: i64) -> Option<i64> {
        let made_us = self.made_us.filter(|made_us| now_us.saturating_sub(*made_us) < self.span_us)?;
        Some(made_us.saturating_add(micros(SLACK)))
    }

    /// Asks the database for other WALs, and waits for their transactions. Called before a lane loads; does nothing
    /// once it has succeeded.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn learn(&self, client: &Client, now_us: i64) -> Result<(), tokio_postgres::Error> {
        if self.until_us(now_us).is_none() {
            return Ok(());
        }
        let ask = async || {
            let sql = "SELECT last_seq FROM ingest_watermark WHERE buffer_id <> $1 ORDER BY buffer_id, lane FOR SHARE";
            let rows = client.query_typed(sql, &[(&self.buffer_id, Type::UUID)]).await?;
            Ok::<_, tokio_postgres::Error>(rows.iter().any(|row| row.get::<_, i64>(0) > 0))
        };
        self.others.get_or_try_init(ask).await.map(drop)
    }

    /// The ids of those calls of the batch that the call log has. `client` is in the batch's transaction.
    ///
    /// # Errors
    /// [`FlushError`].
    pub async fn loaded(
        &self,
        client: &Client,
        wal: &Wal,
        chunks: &[Arc<StoredChunk>],
        now_us: i64,
    ) -> Result<HashSet<[u8; 16]>, FlushError> {
        let Some(until_us) = self.until_us(now_us).filter(|_| self.others.get() == Some(&true)) else {
            return Ok(HashSet::new());
        };
        let (mut made, mut stated) = (Named::default(), Named::default());
        for chunk in chunks.iter().filter(|chunk| chunk.min_us <= until_us) {
            let payload = tokio::task::block_in_place(|| wal.payload(chunk))?;
            for entry in PayloadReader::new(&payload) {
                match entry? {
                    Entry::Call(call) if call.occurred_at_us > until_us => {}
                    Entry::Call(call) if call.stated.is_any() => stated.add(&call),
                    Entry::Call(call) => made.add(&call),
                    Entry::Refused(_) => {}
                }
            }
        }
        let mut loaded = find(client, &made, Duration::ZERO).await?;
        loaded.extend(find(client, &stated, AROUND).await?);
        Ok(loaded)
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_calls_matter_within_the_window_of_a_wal_that_knows_when_it_was_made() {
        let made_ms = 1_764_000_000_000_u64;
        let id = uuid::Builder::from_unix_timestamp_millis(made_ms, &[7; 10]).into_uuid();
        let (earlier, made_us) = (EarlierCalls::new(id, Duration::from_secs(60)), 1_764_000_000_000_000);
        assert_eq!(earlier.until_us(made_us), Some(made_us + 900_000_000));
        assert_eq!(earlier.until_us(made_us + 59_999_999), Some(made_us + 900_000_000));
        assert_eq!(earlier.until_us(made_us + 60_000_000), None);
        assert_eq!(EarlierCalls::new(Uuid::from_u128(7), Duration::MAX).until_us(made_us), None);
    }
}
