//! The users' rollups as base and deltas.
//!
//! An upsert costs about 20 microseconds for each user of a batch. So a batch does not write the base
//! (`tallyd_user_days`, `tallyd_user_totals`). It appends its sums by day, user and provider to a table of deltas
//! ([`append`]), in its own transaction. A merge adds the deltas to the base and deletes them ([`merge`]), in another
//! one. Readers add both, through the views of `migrations/V13__user_deltas.sql`.
//!
//! ## Two sides
//! There are two tables of deltas. `tallyd_delta_ring` names the one for new deltas. A merge first turns the ring and
//! commits. Then it merges the side that no longer gets new deltas, while loading goes on with the other.
//!
//! ## Why nothing is lost or counted twice
//! * A transaction that appends locks the side IN ROW EXCLUSIVE MODE until its COMMIT. Lanes take this lock before they
//!   write calls, right after reading the ring, so that they hardly ever wait for a merge ([`Side::enter`]).
//! * A merge locks the side IN SHARE ROW EXCLUSIVE MODE. So it waits for those transactions, and its statements see the
//!   same rows: they delete exactly the rows that they have added to the base.
//! * The ring is only a hint. A writer that has read it before it turned, and gets the lock afterwards, appends rows
//!   that the next merge finds.
//! * Deltas are deleted, not truncated. A reader's snapshot from before the merge has the earlier base and deltas.
//!
//! ## Other changes of the base
//! Forgetting a user, dropping duplicates, a rebuild and adopting also change the base. Each locks [`Lock::Merge`]
//! ([`hold_base`]), as merges do, so one transaction at a time changes the base. Operations that subtract first merge
//! the users' deltas ([`absorb_user`], [`absorb_all`]), because the deltas may have the sums that they subtract. The
//! order of all locks is in the head of the migration.
//!
//! ## Full rows
//! Counts of the base are `int8`. Deltas that would make a row exceed it (SQLSTATE 22003) move to the other side, and
//! stay deltas: the views add in `numeric`. All other rows are merged.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use crate::citus::is_spread;
use crate::load::copy_row::{EPOCH_OFFSET_US, HEADER, TRAILER, int8, sized, text};
use crate::locks::Lock;
use crate::retry::in_transaction;
use crate::rollup_upserts::COUNTS;
use crate::rollups::{TOTALS, USERS};
use crate::user_list;
use tallyd_base::failpoint;
use tallyd_model::pricing::pg_numeric;
use tallyd_model::rollup::measures::{UserKey, UserSums};

/// Bytes of COPY data that are sent at once.
const PIECE_BYTES: usize = 128 * 1024;
/// Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_OFFSET_DAYS: i32 = 10_957;
/// Time limit of a merge that waits for transactions which still append to its side. A writer that has just read the
/// ring waits behind it.
const LOCK_WAIT: &str = "5s";
/// Memory for sums by user. Larger ones are sorted on disk.
const WORK_MEM: &str = "64MB";
/// Rows of a side from which on its index is kept up to date; smaller sides are scanned in some milliseconds.
const INDEXED_ROWS: u64 = 100_000;

/// One of the two tables of deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side(i16);

/// Both, in the order of locking.
const SIDES: [Side; 2] = [Side(0), Side(1)];

impl Side {
    /// The side for new deltas, locked until the caller's transaction ends.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn enter(client: &Client) -> Result<Self, Error> {
        let rows = client.query_typed("SELECT side FROM public.tallyd_delta_ring", &[]).await?;
        // Without the ring's row the ring does not turn, and either side is right.
        let side = Self(rows.first().map_or(0, |row| row.get(0)));
        side.hold(client).await?;
        Ok(side)
    }

    /// The same, with the ring read by another statement.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn read(client: &Client, ring: Option<i16>) -> Result<Self, Error> {
        let side = Self(ring.unwrap_or(0));
        side.hold(client).await?;
        Ok(side)
    }

    const fn table(self) -> &'static str {
        if self.0 == 0 { "tallyd_user_deltas_0" } else { "tallyd_user_deltas_1" }
    }

    const fn other(self) -> Self {
        Self(1 - self.0)
    }

    async fn hold(self, client: &Client) -> Result<(), Error> {
        client.batch_execute(&format!("LOCK TABLE ONLY public.{} IN ROW EXCLUSIVE MODE", self.table())).await
    }

    async fn has_rows(self, client: &Client) -> Result<bool, Error> {
        let sql = format!("SELECT 1 FROM public.{} LIMIT 1", self.table());
        Ok(!client.query_typed(&sql, &[]).await?.is_empty())
    }
}

/// Appends a batch's sums, sorted by user, in the caller's transaction, which has locked the side.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn append(client: &Client, side: Side, users: &[(UserKey<'_>, &UserSums)]) -> Result<(), Error> {
    // A measure that is zero for every user is left out; the column's default applies.
    let used: Vec<_> =
        COUNTS.iter().filter(|(_, count)| users.iter().any(|(_, sums)| count(&sums.measures) != 0)).collect();
    let names: Vec<&str> = used.iter().map(|(name, _)| *name).collect();
    let sql = format!(
        "COPY public.{} (day, user_id, provider, cost_usd, first_call_at, last_call_at{}) FROM STDIN BINARY",
        side.table(),
        names.iter().map(|name| format!(", {name}")).collect::<String>(),
    );
    let sink = client.copy_in::<_, Bytes>(&sql).await?;
    let mut sink = std::pin::pin!(sink);
    let mut piece = HEADER.to_vec();
    for (key, sums) in users {
        // At most 15 measures.
        piece.put_i16(6 + used.len() as i16);
        piece.put_i32(4);
        piece.put_i32(key.day.to_epoch_days() - EPOCH_OFFSET_DAYS);
        text(&mut piece, key.user_id);
        text(&mut piece, key.provider);
        sized(&mut piece, |out| pg_numeric::encode(sums.measures.cost, out));
        piece.extend_from_slice(&int8(sums.first_us - EPOCH_OFFSET_US));
        piece.extend_from_slice(&int8(sums.last_us - EPOCH_OFFSET_US));
        for (_, count) in &used {
            piece.extend_from_slice(&int8(count(&sums.measures)));
        }
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES + 4096));
            sink.feed(full.into()).await?;
        }
    }
    piece.extend_from_slice(TRAILER);
    sink.feed(piece.into()).await?;
    sink.finish().await.map(drop)
}

/// Keeps others from changing the base until the caller's transaction ends. Call it after locking the call log.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn hold_base(client: &Client) -> Result<(), Error> {
    Lock::Merge.wait(client).await
}

/// Also keeps others from appending deltas, and waits for transactions that have.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn hold_all(client: &Client) -> Result<(), Error> {
    hold_base(client).await?;
    for side in SIDES {
        freeze(client, side).await?;
    }
    Ok(())
}

/// Merges one user's deltas, in the caller's transaction: the base then has the user's committed sums. The caller
/// renews the user's row of the list.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn absorb_user(client: &Client, user: &str) -> Result<(), Error> {
    hold_all(client).await?;
    for side in SIDES {
        let table = side.table();
        for rollup in [USERS, TOTALS] {
            let sql = rollup.absorb(table, " WHERE d.user_id = $1");
            client.query_typed(&sql, &[(&user, Type::TEXT)]).await?;
        }
        let delete = format!("DELETE FROM public.{table} AS d WHERE d.user_id = $1");
        client.query_typed(&delete, &[(&user, Type::TEXT)]).await?;
    }
    let due = "INSERT INTO public.tallyd_user_list_due (user_id) VALUES ($1)";
    client.query_typed(due, &[(&user, Type::TEXT)]).await.map(drop)
}

/// Merges all deltas, in the caller's transaction.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn absorb_all(client: &Client) -> Result<(), Error> {
    hold_all(client).await?;
    for side in SIDES {
        absorb(client, side).await?;
    }
    Ok(())
}

async fn freeze(client: &Client, side: Side) -> Result<(), Error> {
    client.batch_execute(&format!("LOCK TABLE ONLY public.{} IN SHARE ROW EXCLUSIVE MODE", side.table())).await
}

/// Moves a side's rows into the base. The caller has locked both. Returns the number of rows.
async fn absorb(client: &Client, side: Side) -> Result<u64, Error> {
    for rollup in [USERS, TOTALS] {
        client.execute_typed(&rollup.absorb(side.table(), ""), &[]).await?;
        failpoint::hit("merge.adding");
    }
    user_list::note(client, &format!("public.{}", side.table())).await?;
    let deleted = client.execute_typed(&format!("DELETE FROM public.{}", side.table()), &[]).await;
    failpoint::hit("merge.deleted");
    deleted
}

/// The deltas before a merge.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// Approximate rows of both sides, from PostgreSQL's statistics. These begin anew after a crash of the server. On
    /// Citus, the rows of all nodes together.
    pub rows: u64,
    /// True if there is a row.
    pub any: bool,
    /// Time since the ring turned.
    pub turned_ago: Duration,
    /// Time since a daemon committed the last merge.
    pub merged_ago: Duration,
    /// The side for new deltas.
    pub side: i16,
    /// The rows of that side.
    pub of_side: u64,
}

/// Counts the deltas.
///
/// # Errors
/// PostgreSQL's.
pub async fn look(client: &Client) -> Result<Waiting, Error> {
    let sql = "SELECT r.side, greatest(extract(epoch FROM clock_timestamp() - r.turned_at), 0)::float8, \
            greatest(extract(epoch FROM clock_timestamp() - r.merged_at), 0)::float8 FROM public.tallyd_delta_ring AS r";
    let rows = client.query_typed(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(Waiting::default()) };
    let side: i16 = row.get(0);
    let any = Side(side).has_rows(client).await? || Side(side).other().has_rows(client).await?;
    let live = if any { live_rows(client).await? } else { [0, 0] };
    Ok(Waiting {
        rows: live[0] + live[1],
        any,
        turned_ago: Duration::from_secs_f64(row.get(1)),
        merged_ago: Duration::from_secs_f64(row.get(2)),
        side,
        of_side: live[usize::from(side == 1)],
    })
}

/// Rows of each side, by the statistics of the nodes that have them.
async fn live_rows(client: &Client) -> Result<[u64; 2], Error> {
    let sql = if is_spread(client).await? {
        // Each node adds up its shards, whose names end in a number.
        "SELECT coalesce(sum(split_part(n.result, ' ', 1)::int8), 0)::int8, coalesce(sum(split_part(n.result, ' ', 2)::int8), 0)::int8 \
         FROM pg_catalog.run_command_on_all_nodes($$ \
             SELECT concat_ws(' ', coalesce(sum(pg_stat_get_live_tuples(c.oid)) FILTER (WHERE c.relname ~ '_0_[0-9]+$'), 0), \
                 coalesce(sum(pg_stat_get_live_tuples(c.oid)) FILTER (WHERE c.relname ~ '_1_[0-9]+$'), 0)) \
             FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' \
                 AND c.relname ~ '^tallyd_user_deltas_[01]_[0-9]+$' $$) AS n WHERE n.success"
    } else {
        "SELECT pg_stat_get_live_tuples('public.tallyd_user_deltas_0'::regclass), \
             pg_stat_get_live_tuples('public.tallyd_user_deltas_1'::regclass)"
    };
    let rows = client.query_typed(sql, &[]).await?;
    Ok(rows.first().map_or([0, 0], |row| [0, 1].map(|side| row.get::<_, i64>(side).unsigned_abs())))
}

impl Waiting {
    /// Makes the index of the side for new deltas include its new pages, for queries of one user's deltas. Only the
    /// owner may; otherwise autovacuum does it.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn index(&self, client: &Client) -> Result<(), Error> {
        if self.of_side < INDEXED_ROWS || is_spread(client).await? {
            return Ok(());
        }
        let table = Side(self.side).table();
        let sql = format!(
            "SELECT brin_summarize_new_values('public.{table}_user') FROM pg_class AS c \
             WHERE c.oid = 'public.{table}'::regclass AND pg_has_role(c.relowner, 'USAGE')"
        );
        client.query_typed(&sql, &[]).await.map(drop)
    }
}

/// A committed merge.
#[derive(Debug, Clone, Copy)]
pub struct Merged {
    /// Deltas that were merged.
    pub rows: u64,
    /// Its duration, including waits.
    pub took: Duration,
}

/// Turns the ring and merges the side that had the new deltas; or the other side, if an earlier merge was not finished
/// or a writer was late. None if there is nothing to merge, or another daemon is merging.
///
/// # Errors
/// PostgreSQL's. Nothing is lost: the next merge continues.
pub async fn merge(client: &Client) -> Result<Option<Merged>, Error> {
    let start = Instant::now();
    let ring = client.query_typed("SELECT side FROM public.tallyd_delta_ring", &[]).await?;
    let current = Side(ring.first().map_or(0, |row| row.get(0)));
    let mut frozen = current.other();
    if !frozen.has_rows(client).await? {
        if !current.has_rows(client).await? || !in_transaction(client, turn(client, current)).await? {
            return Ok(None);
        }
        frozen = current;
    }
    failpoint::hit("merge.turned");
    let rows = match in_transaction(client, merge_side(client, frozen)).await {
        Ok(Some(rows)) => rows,
        Ok(None) => return Ok(None),
        // A transaction that appends takes long; the next merge tries again.
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(None),
        Err(error) => return Err(error),
    };
    failpoint::hit("merge.committed");
    // Frees the space for new rows. Only the owner may; otherwise autovacuum does it.
    client.batch_execute(&format!("VACUUM (SKIP_LOCKED) public.{}", frozen.table())).await?;
    Ok(Some(Merged { rows, took: start.elapsed() }))
}

/// Makes writers append to the other side. Returns false if another daemon is merging.
async fn turn(client: &Client, current: Side) -> Result<bool, Error> {
    if !Lock::Merge.try_take(client).await? {
        return Ok(false);
    }
    let sql = "UPDATE public.tallyd_delta_ring SET side = $1, turned_at = now() WHERE side = $2";
    client.query_typed(sql, &[(&current.other().0, Type::INT2), (&current.0, Type::INT2)]).await?;
    Ok(true)
}

/// Merges a side. None if another daemon is merging.
async fn merge_side(client: &Client, side: Side) -> Result<Option<u64>, Error> {
    if !Lock::Merge.try_take(client).await? {
        return Ok(None);
    }
    client.batch_execute(&format!("SET LOCAL lock_timeout = '{LOCK_WAIT}'; SET LOCAL work_mem = '{WORK_MEM}'")).await?;
    freeze(client, side).await?;
    failpoint::hit("merge.frozen");
    client.batch_execute("SAVEPOINT frozen").await?;
    let rows = match absorb(client, side).await {
        Err(error) if error.code() == Some(&SqlState::NUMERIC_VALUE_OUT_OF_RANGE) => {
            client.batch_execute("ROLLBACK TO SAVEPOINT frozen").await?;
            set_aside(client, side).await?;
            absorb(client, side).await?
        }
        absorbed => absorbed?,
    };
    // The base has what was loaded before the ring turned, unless it has turned again.
    let sql = "UPDATE public.tallyd_delta_ring SET merged_at = now(), \
        merged_to = CASE WHEN side = $1 THEN merged_to ELSE turned_at END";
    client.query_typed(sql, &[(&side.0, Type::INT2)]).await?;
    Ok(Some(rows))
}

/// Moves deltas whose rows in the base are full to the other side, so that they do not block the merge.
async fn set_aside(client: &Client, side: Side) -> Result<(), Error> {
    let (from, to) = (side.table(), side.other().table());
    let full = client.query_typed(&format!("{} UNION {}", USERS.overfull(from), TOTALS.overfull(from)), &[]).await?;
    let (users, providers): (Vec<String>, Vec<String>) = full.iter().map(|row| (row.get(0), row.get(1))).unzip();
    let these = "(d.user_id, d.provider) IN (SELECT f.user_id, f.provider FROM unnest($1::text[], $2::text[]) AS f (user_id, provider))";
    let moved = [
        format!("INSERT INTO public.{to} SELECT d.* FROM public.{from} AS d WHERE {these}"),
        format!("DELETE FROM public.{from} AS d WHERE {these}"),
    ];
    for sql in moved {
        client.query_typed(&sql, &[(&users, Type::TEXT_ARRAY), (&providers, Type::TEXT_ARRAY)]).await?;
    }
    Ok(())
}
