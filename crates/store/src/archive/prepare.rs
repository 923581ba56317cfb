//! Writes a partition's file, and verifies it, before the partition is emptied.

use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::file::{self, Message, Told, Written};
use super::place::{Place, Upload};
use super::{Archive, ArchiveError, Archived, BATCH, LISTED, QUEUE, archived, blocking, tidy};
use crate::locks::Lock;
use crate::partitions::PartitionInfo;
use crate::queries::records;
use crate::retention::LOCK_WAIT;

/// The settings on which a row's text depends.
const SAME_TEXT: &str =
    "SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL extra_float_digits = 1";
/// The first transaction writes the rows of one snapshot, the second looks at the work of other runs.
const SNAPSHOT: &str = "REPEATABLE READ";
const CURRENT: &str = "READ COMMITTED";

/// A partition's file that is ready for the partition to be emptied.
#[derive(Debug)]
pub(crate) struct Ready {
    archived: Archived,
    fingerprint: String,
}

/// The first transaction's result.
enum Step {
    /// The partition has no calls.
    Nothing,
    /// An interrupted run has written the file.
    Ready(Ready),
    /// The file has a row, and does not have its name.
    Unnamed(Unnamed),
}

struct Unnamed {
    id: i64,
    name: String,
    fingerprint: String,
    written: Written,
}

/// A partition's calls.
struct Totals {
    calls: i64,
    cost_usd: String,
    unpriced_calls: i64,
    /// A sum over hashes of the rows.
    fingerprint: String,
}

impl Totals {
    async fn of(client: &Client, partition: &str) -> Result<Self, tokio_postgres::Error> {
        let sql = format!(
            "SELECT count(*), coalesce(sum(cost_usd), 0)::text, count(*) FILTER (WHERE cost_usd IS NULL), \
             coalesce(sum(hashtextextended(ROW({})::text, 0)::numeric), 0)::text FROM {partition}",
            stored()
        );
        let row = client.query_typed_one(&sql, &[]).await?;
        Ok(Self { calls: row.get(0), cost_usd: row.get(1), unpriced_calls: row.get(2), fingerprint: row.get(3) })
    }
}

/// The stored columns of a call, for a file and for its fingerprint.
fn stored() -> String {
    format!("{}, rollup_other", records::COLUMNS.join(", "))
}

impl Archive {
    /// Writes and verifies a partition's file, or takes up the one of an interrupted run. None for a partition without calls.
    pub(crate) async fn prepare(
        &self,
        client: &Client,
        partition: &PartitionInfo,
        actor: &str,
    ) -> Result<Option<Ready>, ArchiveError> {
        let place = self.open()?;
        begin(client, SNAPSHOT).await?;
        let unnamed = match first(client, &place, partition, actor).await {
            Ok(Step::Unnamed(unnamed)) => unnamed,
            other => {
                end(client, other.is_ok()).await?;
                return other.map(|step| if let Step::Ready(ready) = step { Some(ready) } else { None });
            }
        };
        if let Err(error) = end(client, true).await {
            abandon(unnamed.written.upload).await;
            return Err(error.into());
        }
        begin(client, CURRENT).await?;
        let (id, fingerprint, calls) = (unnamed.id, unnamed.fingerprint.clone(), unnamed.written.told.sums.calls);
        let done = second(client, &place, unnamed).await;
        end(client, done.is_ok()).await?;
        let (name, bytes) = done?;
        tracing::info!(partition = partition.name, file = place.shown(&name), calls, bytes, "a partition was archived");
        Ok(Some(Ready { archived: super::find(client, id).await?, fingerprint }))
    }

    /// Removes a file whose partition has changed since.
    pub(crate) async fn outdated(&self, client: &Client, ready: Option<Ready>) -> Result<(), ArchiveError> {
        match ready {
            Some(ready) => discard(client, &self.open()?, ready.archived.id, &ready.archived.file).await,
            None => Ok(()),
        }
    }
}

/// Begins a transaction. Reading and comparing the file takes a while, in which it has nothing to do.
async fn begin(client: &Client, isolation: &str) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "BEGIN ISOLATION LEVEL {isolation}; SET LOCAL lock_timeout = '{LOCK_WAIT}'; SET LOCAL statement_timeout = 0; \
         SET LOCAL idle_in_transaction_session_timeout = 0; {SAME_TEXT}"
    );
    client.batch_execute(&sql).await
}

/// Ends it. After a failure, which is told instead, the session may have failed, too.
async fn end(client: &Client, commits: bool) -> Result<(), tokio_postgres::Error> {
    let ended = client.batch_execute(if commits { "COMMIT" } else { "ROLLBACK" }).await;
    if commits { ended } else { Ok(()) }
}

async fn abandon(upload: Box<dyn Upload>) {
    // It ends with a failure that is told.
    let _ = blocking(move || {
        upload.abandon();
        Ok(())
    })
    .await;
}

/// Writes a snapshot's rows, and notes the file.
async fn first(
    client: &Client,
    place: &Arc<dyn Place>,
    partition: &PartitionInfo,
    actor: &str,
) -> Result<Step, ArchiveError> {
    if !Lock::Retention.try_take(client).await? {
        return Err(ArchiveError::Taken);
    }
    if let Some(ready) = pending(client, place, partition).await? {
        return Ok(Step::Ready(ready));
    }
    let totals = Totals::of(client, &partition.name).await?;
    if totals.calls == 0 {
        return Ok(Step::Nothing);
    }
    // The same rows may have been archived, put back and be archived again.
    let earlier = "SELECT count(*) FROM public.tallyd_archives WHERE partition_name = $1";
    let earlier: i64 = client.query_typed_one(earlier, &[(&partition.name, Type::TEXT)]).await?.get(0);
    let name = file::name(&partition.name, &format!("{}/{}/{earlier}", totals.fingerprint, totals.calls));
    let written = write(client, place, &partition.name, &name).await?;
    match note(client, partition, actor, (&name, &totals, &written.told)).await {
        Ok(id) => Ok(Step::Unnamed(Unnamed { id, name, fingerprint: totals.fingerprint, written })),
        Err(error) => {
            abandon(written.upload).await;
            Err(error)
        }
    }
}

/// Compares the file with the partition, and adds its row. Returns the row's number.
async fn note(
    client: &Client,
    partition: &PartitionInfo,
    actor: &str,
    (name, totals, told): (&str, &Totals, &Told),
) -> Result<i64, ArchiveError> {
    let sums = &told.sums;
    if (totals.calls, totals.unpriced_calls) != (sums.calls, sums.unpriced_calls) {
        let fault = format!("calls written: {}, in the partition: {}", sums.calls, totals.calls);
        return Err(ArchiveError::Damaged { file: name.to_owned(), fault });
    }
    let cost = sums.cost_usd.to_string();
    if tidy(&totals.cost_usd) != cost {
        return Err(ArchiveError::TooExact(partition.name.clone()));
    }
    let insert = "INSERT INTO public.tallyd_archives (partition_name, from_at, to_at, file, bytes, sha256, calls, cost_usd, \
        unpriced_calls, fingerprint, actor) VALUES ($1, coalesce($2, '-infinity'), coalesce($3, 'infinity'), $4, $5, $6, $7, \
        $8::text::numeric, $9, $10::text::numeric, $11) RETURNING id";
    let bytes = i64::try_from(told.bytes).unwrap_or(i64::MAX);
    let values: [(&(dyn ToSql + Sync), Type); 11] = [
        (&partition.name, Type::TEXT),
        (&partition.from, Type::TIMESTAMPTZ),
        (&partition.to, Type::TIMESTAMPTZ),
        (&name, Type::TEXT),
        (&bytes, Type::INT8),
        (&told.sha256, Type::TEXT),
        (&totals.calls, Type::INT8),
        (&cost, Type::TEXT),
        (&totals.unpriced_calls, Type::INT8),
        (&totals.fingerprint, Type::TEXT),
        (&actor, Type::TEXT),
    ];
    Ok(client.query_typed_one(insert, &values).await?.get(0))
}

/// Gives the file its name, reads it back, and notes that it has every row. Returns its name and size.
async fn second(client: &Client, place: &Arc<dyn Place>, unnamed: Unnamed) -> Result<(String, u64), ArchiveError> {
    let Unnamed { id, name, written: Written { upload, told }, .. } = unnamed;
    let is_ours = async {
        // Another run may have discarded the row while no transaction was open.
        let row = "SELECT FROM public.tallyd_archives WHERE id = $1";
        Ok::<_, ArchiveError>(
            Lock::Retention.try_take(client).await?
                && client.query_typed_opt(row, &[(&id, Type::INT8)]).await?.is_some(),
        )
    };
    match is_ours.await {
        Ok(true) => {}
        other => {
            abandon(upload).await;
            return Err(other.err().unwrap_or(ArchiveError::Taken));
        }
    }
    let (place, file) = (Arc::clone(place), name.clone());
    let bytes = told.bytes;
    blocking(move || {
        upload.publish()?;
        let read = file::told(&place, &file)?;
        if read == told {
            return Ok(());
        }
        let fault = format!(
            "what was read back is not what was written. Bytes: {} and {}, calls: {} and {}; or the sums or digests differ",
            read.bytes, told.bytes, read.sums.calls, told.sums.calls
        );
        Err(ArchiveError::Damaged { file: place.shown(&file), fault })
    })
    .await?;
    let verified = "UPDATE public.tallyd_archives SET verified_at = clock_timestamp() WHERE id = $1";
    client.query_typed(verified, &[(&id, Type::INT8)]).await?;
    Ok((name, bytes))
}

/// The file of an interrupted run, if it is verified and whole. Other rows of such runs are discarded.
async fn pending(
    client: &Client,
    place: &Arc<dyn Place>,
    partition: &PartitionInfo,
) -> Result<Option<Ready>, ArchiveError> {
    let unverified = "SELECT id, file FROM public.tallyd_archives WHERE partition_name = $1 AND verified_at IS NULL";
    for row in client.query_typed(unverified, &[(&partition.name, Type::TEXT)]).await? {
        discard(client, place, row.get(0), row.get(1)).await?;
    }
    let sql = format!(
        "SELECT a.*, t.fingerprint::text FROM ({LISTED} AND partition_name = $1 AND emptied_at IS NULL) AS a \
         JOIN public.tallyd_archives AS t USING (id) ORDER BY id"
    );
    for row in client.query_typed(&sql, &[(&partition.name, Type::TEXT)]).await? {
        let archived = archived(&row);
        let (at, of_row, name) = (Arc::clone(place), archived.sha256.clone(), archived.file.clone());
        let is_whole =
            blocking(move || Ok(file::digest(&*at, &name).is_ok_and(|(_, digest)| digest == of_row))).await?;
        if is_whole {
            return Ok(Some(Ready { archived, fingerprint: row.get(11) }));
        }
        discard(client, place, archived.id, &archived.file).await?;
    }
    Ok(None)
}

/// Removes a file whose partition was not emptied, and its row.
async fn discard(client: &Client, place: &Arc<dyn Place>, id: i64, name: &str) -> Result<(), ArchiveError> {
    let (place, name) = (Arc::clone(place), name.to_owned());
    blocking(move || place.remove(&name)).await?;
    let sql = "DELETE FROM public.tallyd_archives WHERE id = $1 AND emptied_at IS NULL";
    client.query_typed(sql, &[(&id, Type::INT8)]).await?;
    Ok(())
}

/// Writes the partition's calls into a file without a name.
async fn write(client: &Client, place: &Arc<dyn Place>, partition: &str, name: &str) -> Result<Written, ArchiveError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (at, name) = (Arc::clone(place), name.to_owned());
    let writer = tokio::task::spawn_blocking(move || file::write(&*at, &name, receiver));
    let sent = send(client, partition, sender).await;
    let written = writer.await.map_err(|_| ArchiveError::Ended)?;
    match sent {
        // The writer's own error says why it has ended.
        Err(ArchiveError::Ended) | Ok(()) => written,
        Err(error) => Err(error),
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
        let (is, was) = (Totals::of(client, partition).await?, &self.archived);
        Ok(tidy(&is.cost_usd) == tidy(&was.cost_usd)
            && (is.calls, is.unpriced_calls, &is.fingerprint) == (was.calls, was.unpriced_calls, &self.fingerprint))
    }

    /// Notes that the partition is emptied, in the transaction that does it.
    pub(crate) async fn emptied(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE public.tallyd_archives SET emptied_at = clock_timestamp() WHERE id = $1";
        client.query_typed(sql, &[(&self.archived.id, Type::INT8)]).await.map(drop)
    }
}
