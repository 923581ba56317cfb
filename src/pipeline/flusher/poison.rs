//! Finds the rows of one chunk that PostgreSQL will not take, and loads the rest.
//!
//! The chunk's transaction tries ranges of rows under savepoints: a range that fails is halved until a single row has
//! failed, which goes to the dead letters with what PostgreSQL said. The watermark moves over the chunk as usual, so the
//! poison row is settled exactly once.

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Client;

use super::copy_row::Layout;
use super::dead_letters::DeadLetters;
use super::transaction::{BEGIN, Committed};
use super::watermark::Watermark;
use super::{FlushError, Shared, copy_row};
use crate::database::{FailureClass, classify, describe};
use crate::pipeline::chunk::{Call, Entry, PayloadReader};
use crate::pipeline::wal::recent::StoredChunk;
use crate::rollup::fold::Fold;
use crate::rollup::sql;

/// Loads one chunk without the rows that PostgreSQL will not take.
///
/// # Errors
/// [`FlushError`]; as for a whole batch, the connection must not be used after one.
pub async fn load_without_poison(
    shared: &Shared,
    client: &Client,
    watermark: Watermark,
    from: u64,
    chunk: &StoredChunk,
) -> Result<Committed, FlushError> {
    let mut letters = DeadLetters::default();
    let payload = tokio::task::block_in_place(|| shared.log.payload(chunk))?;
    let (mut positions, mut calls) = (Vec::new(), Vec::new());
    for (position, entry) in PayloadReader::new(&payload).enumerate() {
        match entry? {
            Entry::Call(call) => {
                positions.push(position);
                calls.push(call);
            }
            Entry::Refused(refused) => letters.push_refused(chunk, position, &refused),
        }
    }
    let refused = letters.len() as u64;
    client.batch_execute(BEGIN).await?;
    watermark.advance(client, from, chunk.last_key).await?;
    let mut fold = Fold::new(&shared.guard, shared.days.clone());
    let poison = copy_calls(client, &calls, &mut fold).await?;
    for (index, error) in &poison {
        let code = error.code().map_or("", |code| code.code());
        letters.push_poison(chunk, positions[*index], &calls[*index], code, &describe(error));
    }
    letters.insert(client, watermark.buffer_id).await?;
    sql::upsert(client, &fold.deltas()).await?;
    client.batch_execute("COMMIT").await?;
    let poison = poison.len() as u64;
    Ok(Committed { records: calls.len() as u64 - poison, refused, poison })
}

/// Copies calls within the caller's transaction and folds those that PostgreSQL takes. Returns the places of the others,
/// each with what PostgreSQL said of it.
///
/// # Errors
/// [`FlushError`] if it is not a row's fault; the transaction is lost then.
pub async fn copy_calls(
    client: &Client,
    calls: &[Call<'_>],
    fold: &mut Fold<'_>,
) -> Result<Vec<(usize, tokio_postgres::Error)>, FlushError> {
    let mut poison = Vec::new();
    // Ranges still to be tried, the next one last.
    let mut ranges = vec![(0, calls.len())];
    while let Some((start, end)) = ranges.pop() {
        let rows = &calls[start..end];
        if rows.is_empty() {
            continue;
        }
        match try_rows(client, rows, fold).await? {
            Ok(()) => {
                for call in rows {
                    fold.add(call);
                }
            }
            Err(error) if rows.len() == 1 => poison.push((start, error)),
            Err(_) => {
                let middle = start + rows.len() / 2;
                ranges.extend([(middle, end), (start, middle)]);
            }
        }
    }
    Ok(poison)
}

/// Copies rows under a savepoint. The inner error is one of the data; the transaction goes on after it.
async fn try_rows(
    client: &Client,
    rows: &[Call<'_>],
    fold: &mut Fold<'_>,
) -> Result<Result<(), tokio_postgres::Error>, FlushError> {
    client.batch_execute("SAVEPOINT rows").await?;
    let layout = Layout::whole();
    let mut data = copy_row::HEADER.to_vec();
    for call in rows {
        layout.write(&mut data, call, fold.other_of(call));
    }
    data.extend_from_slice(copy_row::TRAILER);
    match copy(client, &layout, data.into()).await {
        Ok(()) => {
            client.batch_execute("RELEASE SAVEPOINT rows").await?;
            Ok(Ok(()))
        }
        Err(error) if classify(&error) == FailureClass::Data => {
            client.batch_execute("ROLLBACK TO SAVEPOINT rows").await?;
            Ok(Err(error))
        }
        Err(error) => Err(error.into()),
    }
}

async fn copy(client: &Client, layout: &Layout, data: Bytes) -> Result<(), tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(layout.sql()).await?;
    let mut sink = std::pin::pin!(sink);
    sink.feed(data).await?;
    sink.finish().await.map(drop)
}
