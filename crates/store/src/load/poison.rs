//! Finds the calls of one chunk that PostgreSQL refuses, and loads the rest.
//!
//! The chunk's transaction tries ranges of calls under savepoints. A range that fails is halved until a single call has
//! failed, which goes to the dead letters with PostgreSQL's message. The watermark moves over the chunk as usual, so
//! each poison call is handled exactly once.
//!
//! A call is poison by its row, or by its share of a rollup: a sum that would exceed `int8` (22003). The rows are tried
//! first, then the rollups once for all of them. Only if the rollups fail, the ranges are tried again, each with its
//! rollups. Rollup tables are then written range by range: if that deadlocks with another lane, PostgreSQL ends one of
//! the two, which is retried.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Client;

use super::copy_row::Layout;
use super::dead_letters::DeadLetters;
use super::slots::BEGIN;
use super::transaction::Committed;
use super::watermark::Watermark;
use super::{FlushError, Loader, copy_row};
use crate::user_deltas::Side;
use crate::{FailureClass, classify, describe, dimensions, rollup_upserts};
use tallyd_model::call::Call;
use tallyd_model::rollup::fold::Fold;
use tallyd_wal::chunk::{Entry, PayloadReader};
use tallyd_wal::recent::StoredChunk;

/// Loads one chunk without the rows that PostgreSQL refuses.
///
/// # Errors
/// [`FlushError`]; as for a whole batch, the connection must not be used afterwards.
pub async fn load_without_poison(
    loader: &Loader,
    client: &Client,
    watermark: Watermark,
    from: u64,
    chunk: &Arc<StoredChunk>,
) -> Result<Committed, FlushError> {
    let mut letters = DeadLetters::default();
    let payload = tokio::task::block_in_place(|| loader.wal.payload(chunk))?;
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
    client.batch_execute(BEGIN).await?;
    let side = watermark.advance(client, from, chunk.last_key, loader.days.zone()).await?;
    let alone = std::slice::from_ref(chunk);
    let earlier = loader.earlier.loaded(client, &loader.wal, alone, loader.clock.now_us()).await?;
    let all = calls.len();
    let (positions, calls): (Vec<_>, Vec<_>) =
        positions.into_iter().zip(calls).filter(|(_, call)| !earlier.contains(&call.id)).unzip();
    let known = (all - calls.len()) as u64;
    let dimensions = dimensions::counted(client).await?;
    let new_fold = || Fold::new(&loader.guard, loader.days.clone(), &dimensions);
    let poison = load_calls(client, side, &calls, new_fold).await?;
    for Poison { place, code, said } in &poison {
        letters.push_poison(chunk, positions[*place], &calls[*place], code, said);
    }
    let written = letters.insert(client, watermark.buffer_id, loader.quota.bounds()).await?;
    let mut loaded = new_fold();
    let refused: HashSet<usize> = poison.iter().map(|poison| poison.place).collect();
    for (place, call) in calls.iter().enumerate() {
        if !refused.contains(&place) {
            loaded.add(call);
        }
    }
    loader.spend.commits(watermark.lane, chunk.last_key, &loaded.deltas());
    client.batch_execute("COMMIT").await?;
    loader.spend.is_at(watermark.lane, chunk.last_key);
    loader.learn(&written.ledgers);
    let poison = poison.len() as u64;
    let records = calls.len() as u64 - poison;
    let (last_key, passed) = (Some(chunk.last_key), u64::from(chunk.records) + u64::from(chunk.refused));
    Ok(Committed { records, refused: written.kept, counted: written.counted, poison, last_key, passed, known })
}

/// A call that PostgreSQL refused.
#[derive(Debug)]
pub struct Poison {
    /// Its place among the calls.
    pub place: usize,
    /// The SQLSTATE.
    pub code: String,
    /// PostgreSQL's message.
    pub said: String,
}

/// The parts of a range that are tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    Rows,
    RowsAndRollups,
}

/// Where a range failed, and PostgreSQL's error.
struct Fault {
    error: tokio_postgres::Error,
    in_rollups: bool,
}

/// Loads calls and their rollups in the caller's transaction, except the calls that PostgreSQL refuses.
///
/// # Errors
/// [`FlushError`] for any other failure; the transaction is then lost.
pub async fn load_calls<'g>(
    client: &Client,
    side: Side,
    calls: &[Call<'_>],
    new_fold: impl Fn() -> Fold<'g>,
) -> Result<Vec<Poison>, FlushError> {
    client.batch_execute("SAVEPOINT calls").await?;
    let mut fold = new_fold();
    let poison = bisect(client, side, calls, Tried::Rows, (&new_fold, &mut fold)).await?;
    match rollup_upserts::add(client, side, &fold.deltas()).await {
        Ok(()) => Ok(poison),
        Err(error) if classify(&error) == FailureClass::Data => {
            client.batch_execute("ROLLBACK TO SAVEPOINT calls").await?;
            bisect(client, side, calls, Tried::RowsAndRollups, (&new_fold, &mut new_fold())).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Tries ranges of calls. Those whose rows are accepted are added to `fold`.
async fn bisect<'g>(
    client: &Client,
    side: Side,
    calls: &[Call<'_>],
    tried: Tried,
    (new_fold, fold): (&impl Fn() -> Fold<'g>, &mut Fold<'g>),
) -> Result<Vec<Poison>, FlushError> {
    let mut poison = Vec::new();
    // Ranges still to be tried; the last is the next.
    let mut ranges = vec![(0, calls.len())];
    while let Some((start, end)) = ranges.pop() {
        let some = &calls[start..end];
        if some.is_empty() {
            continue;
        }
        let of_range = (tried == Tried::RowsAndRollups).then(new_fold);
        match try_range(client, side, some, fold, of_range).await? {
            Ok(()) => {
                for call in some {
                    fold.add(call);
                }
            }
            Err(Fault { error, in_rollups }) if some.len() == 1 => {
                let code = error.code().map_or("", |code| code.code()).to_owned();
                let said = describe(&error);
                let said = if in_rollups { format!("a sum of a daily rollup would overflow: {said}") } else { said };
                poison.push(Poison { place: start, code, said });
            }
            Err(_) => {
                let middle = start + some.len() / 2;
                ranges.extend([(middle, end), (start, middle)]);
            }
        }
    }
    Ok(poison)
}

/// Copies calls under a savepoint and, if they have a fold of their own, adds them to the rollups. The inner error is a
/// refusal of the data, after which the transaction continues.
async fn try_range<'g>(
    client: &Client,
    side: Side,
    calls: &[Call<'_>],
    fold: &mut Fold<'g>,
    of_range: Option<Fold<'g>>,
) -> Result<Result<(), Fault>, FlushError> {
    client.batch_execute("SAVEPOINT range").await?;
    let layout = Layout::whole();
    let mut data = copy_row::HEADER.to_vec();
    for call in calls {
        layout.write(&mut data, call, fold.other_of(call));
    }
    data.extend_from_slice(copy_row::TRAILER);
    let mut in_rollups = false;
    let mut done = copy(client, &layout, data.into()).await;
    if let (Ok(()), Some(mut of_range)) = (&done, of_range) {
        for call in calls {
            of_range.add(call);
        }
        in_rollups = true;
        done = rollup_upserts::add(client, side, &of_range.deltas()).await;
    }
    match done {
        Ok(()) => {
            client.batch_execute("RELEASE SAVEPOINT range").await?;
            Ok(Ok(()))
        }
        Err(error) if classify(&error) == FailureClass::Data => {
            client.batch_execute("ROLLBACK TO SAVEPOINT range").await?;
            Ok(Err(Fault { error, in_rollups }))
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
