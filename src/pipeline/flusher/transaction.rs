//! One batch, one transaction.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Client;

use super::dead_letters::DeadLetters;
use super::watermark::Watermark;
use super::{FlushError, Shared, copy_row, periods};
use crate::failpoint;
use crate::pipeline::chunk::{Entry, PayloadReader};
use crate::pipeline::wal::recent::StoredChunk;
use crate::rollup::fold::Fold;
use crate::rollup::sql;

/// Bytes of COPY data that go to the connection at once.
const PIECE_BYTES: usize = 128 * 1024;
/// A piece ends with the chunk that fills it: one chunk's rows fit above the mark.
const PIECE_CAPACITY: usize = PIECE_BYTES + 64 * 1024;

/// Begins a transaction whose COMMIT waits for the disk, whatever the server's default is: the log is trimmed after it.
pub(super) const BEGIN: &str = "BEGIN; SELECT set_config('synchronous_commit', \
     CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)";

/// What a transaction has committed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Rows of `api_usage_log`.
    pub records: u64,
    /// Refused records, in the dead letters.
    pub refused: u64,
    /// Calls that PostgreSQL would not take, in the dead letters.
    pub poison: u64,
}

/// Makes sure of what a batch needs before its transaction begins.
///
/// # Errors
/// [`FlushError`].
pub async fn prepare(shared: &Shared, client: &Client, chunks: &[Arc<StoredChunk>]) -> Result<(), FlushError> {
    shared.partitions.ensure(client, chunks).await?;
    periods::learn_days(client, &shared.guard, &shared.days, chunks).await
}

/// Loads the chunks in one transaction, which moves the watermark from `from` to the last chunk's key.
///
/// # Errors
/// [`FlushError`]. The connection must not be used after one: its transaction may still be open, or have committed.
pub async fn load(
    shared: &Shared,
    client: &Client,
    watermark: Watermark,
    from: u64,
    chunks: &[Arc<StoredChunk>],
) -> Result<Committed, FlushError> {
    let Some(to) = chunks.last().map(|chunk| chunk.last_key) else { return Ok(Committed::default()) };
    let start = Instant::now();
    client.batch_execute(BEGIN).await?;
    watermark.advance(client, from, to).await?;
    let mut fold = Fold::new(&shared.guard, shared.days.clone());
    let mut letters = DeadLetters::default();
    let records = if chunks.iter().any(|chunk| chunk.records > 0) {
        copy(client, chunks, &mut fold, &mut letters).await?
    } else {
        collect_refused(chunks, &mut letters)?;
        0
    };
    letters.insert(client, watermark.buffer_id).await?;
    failpoint::hit("flusher.copied");
    let copied = start.elapsed();
    let deltas = fold.deltas();
    sql::upsert(client, &deltas).await?;
    let rolled_up = start.elapsed();
    failpoint::hit("flusher.rolled_up");
    client.batch_execute("COMMIT").await?;
    failpoint::hit("flusher.committed");
    tracing::debug!(
        lane = watermark.lane,
        records,
        users = deltas.users.len(),
        copy_ms = copied.as_millis() as u64,
        rollups_ms = (rolled_up - copied).as_millis() as u64,
        commit_ms = (start.elapsed() - rolled_up).as_millis() as u64,
        "a batch is committed"
    );
    Ok(Committed { records, refused: letters.len() as u64, poison: 0 })
}

/// Streams the rows while they are encoded. Returns how many PostgreSQL took.
async fn copy<'a>(
    client: &Client,
    chunks: &'a [Arc<StoredChunk>],
    fold: &mut Fold<'a, '_>,
    letters: &mut DeadLetters,
) -> Result<u64, FlushError> {
    let sink = client.copy_in::<_, Bytes>(copy_row::COPY_SQL).await?;
    let mut sink = std::pin::pin!(sink);
    let mut piece = Vec::with_capacity(PIECE_CAPACITY);
    piece.extend_from_slice(copy_row::HEADER);
    let (mut calls, mut others) = (Vec::new(), Vec::new());
    for chunk in chunks {
        calls.clear();
        for (position, entry) in PayloadReader::new(&chunk.payload).enumerate() {
            match entry? {
                Entry::Call(call) => calls.push(call),
                Entry::Refused(refused) => letters.push_refused(chunk, position, &refused),
            }
        }
        fold.add_all(calls.iter(), &mut others);
        for (call, other) in calls.iter().zip(&others) {
            copy_row::write(&mut piece, call, *other);
        }
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_CAPACITY));
            sink.feed(full.into()).await?;
            failpoint::hit("flusher.copying");
        }
    }
    piece.extend_from_slice(copy_row::TRAILER);
    sink.feed(piece.into()).await?;
    Ok(sink.finish().await?)
}

fn collect_refused(chunks: &[Arc<StoredChunk>], letters: &mut DeadLetters) -> Result<(), FlushError> {
    for chunk in chunks {
        for (position, entry) in PayloadReader::new(&chunk.payload).enumerate() {
            if let Entry::Refused(refused) = entry? {
                letters.push_refused(chunk, position, &refused);
            }
        }
    }
    Ok(())
}
