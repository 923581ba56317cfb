//! The list of users: one row a user with lifetime sums (`tallyd_user_list`), indexed by each order that it is asked in.
//!
//! A row is the sum of its user's rows in `tallyd_user_totals`, and nothing else. Each change of a row writes six indexes, which would
//! make a merge take three times as long (docs/internals/deltas.md). So a merge only notes its users in `tallyd_user_list_due` ([`note`]), and a refresh computes their rows anew
//! ([`refresh`]), in a transaction and at a pace of its own: the more merges it comes after, the more of them each row adds up.
//!
//! ## Invariant
//! A user who is not due has a row that equals the totals. `tallyd reconcile` compares the two. Notes are written in the transaction that
//! changes the totals, and deleted in the one that writes the rows. Both hold [`Lock::Merge`].
//!
//! ## Readers
//! [`Standing`] says how a request reads the list. While few deltas and notes wait, it computes those users itself, and its answer is exact.
//! Otherwise it reads the list alone, and says how old that is.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::citus::is_spread;
use crate::locks::Lock;
use crate::retry::in_transaction;

/// The columns, in the order of [`sums_by_user`].
pub(crate) const COLUMNS: &str =
    "user_id, calls, claude_calls, rentcast_calls, errors, unpriced_calls, cost_usd, first_call_at, last_call_at";

/// Deltas and notes up to which a request computes their users' rows. On a busy machine 2,000 took 50 ms in SQL, 4,000 took 75 to 95 ms.
const ADDED_UP: i64 = 3_000;
/// Bytes of their tables from which on they are not even counted: rows that a merge has deleted are passed over until a VACUUM.
const COUNTED_BYTES: i64 = 16 << 20;

/// `SELECT` of the list's rows from rows like those of the totals: `source` has at least their columns, and may end with a condition.
pub(crate) fn sums_by_user(source: &str) -> String {
    format!(
        "SELECT user_id, sum(calls) AS calls, coalesce(sum(calls) FILTER (WHERE provider = 'claude'), 0) AS claude_calls, \
         coalesce(sum(calls) FILTER (WHERE provider = 'rentcast'), 0) AS rentcast_calls, sum(errors) AS errors, \
         sum(unpriced_calls) AS unpriced_calls, round(sum(cost_usd), 18) AS cost_usd, min(first_call_at) AS first_call_at, \
         max(last_call_at) AS last_call_at FROM {source} GROUP BY user_id"
    )
}

/// Notes that the totals of the users of some rows change, within the caller's transaction, which holds the base.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn note(client: &Client, rows: &str) -> Result<(), Error> {
    let sql = format!("INSERT INTO public.tallyd_user_list_due (user_id) SELECT DISTINCT d.user_id FROM {rows} AS d");
    client.execute_typed(&sql, &[]).await.map(drop)
}

/// Computes one user's row anew, within the caller's transaction, which holds the base.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn renew(client: &Client, user: &str) -> Result<(), Error> {
    let (one, values): (_, [(&(dyn ToSql + Sync), Type); 1]) = ("t.user_id = $1", [(&user, Type::TEXT)]);
    write(client, one, &values).await?;
    leave_out(client, one, &values).await?;
    let noted = "DELETE FROM public.tallyd_user_list_due AS t WHERE t.user_id = $1";
    client.query_typed(noted, &[(&user, Type::TEXT)]).await.map(drop)
}

/// Computes all rows anew, within the caller's transaction, which holds the base.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn renew_all(client: &Client) -> Result<(), Error> {
    write(client, "true", &[]).await?;
    leave_out(client, "true", &[]).await?;
    client.batch_execute("DELETE FROM public.tallyd_user_list_due").await
}

/// Writes the rows of the users that `which` chooses, a condition on `t.user_id`.
async fn write(client: &Client, which: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<(), Error> {
    let each = |text: fn(&str) -> String| COLUMNS.split(", ").skip(1).map(text).collect::<Vec<_>>().join(", ");
    let rows = sums_by_user(&format!("public.tallyd_user_totals AS t WHERE t.user_id <> '' AND {which}"));
    let insert = format!(
        "INSERT INTO public.tallyd_user_list AS l ({COLUMNS}) {rows} ON CONFLICT (user_id) DO UPDATE SET {updates} \
         WHERE ({old}) IS DISTINCT FROM ({new})",
        updates = each(|column| format!("{column} = excluded.{column}")),
        old = each(|column| format!("l.{column}")),
        new = each(|column| format!("excluded.{column}")),
    );
    client.query_typed(&insert, values).await.map(drop)
}

/// Deletes the rows of those users who have no totals any more.
async fn leave_out(client: &Client, which: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<(), Error> {
    let gone = format!(
        "DELETE FROM public.tallyd_user_list AS t WHERE {which} \
         AND NOT EXISTS (SELECT 1 FROM public.tallyd_user_totals AS o WHERE o.user_id = t.user_id)"
    );
    client.query_typed(&gone, values).await.map(drop)
}

/// Whether a user is due.
///
/// # Errors
/// PostgreSQL's.
pub async fn is_due(client: &Client) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM public.tallyd_user_list_due LIMIT 1)";
    Ok(client.query_typed(sql, &[]).await?.first().is_some_and(|row| row.get(0)))
}

/// Computes the rows of the users that are due. Returns how long it took, or None if another daemon changes the base. Whoever deletes a user's
/// totals has renewed the row.
///
/// # Errors
/// PostgreSQL's. The users stay due then.
pub async fn refresh(client: &Client) -> Result<Option<Duration>, Error> {
    let start = Instant::now();
    if !in_transaction(client, refresh_within(client)).await? {
        return Ok(None);
    }
    // Frees the space for the next notes. Only the owner may; otherwise autovacuum does it.
    client.batch_execute("VACUUM (SKIP_LOCKED) public.tallyd_user_list_due").await?;
    Ok(Some(start.elapsed()))
}

async fn refresh_within(client: &Client) -> Result<bool, Error> {
    if !Lock::Merge.try_take(client).await? {
        return Ok(false);
    }
    write(client, "t.user_id IN (SELECT d.user_id FROM public.tallyd_user_list_due AS d)", &[]).await?;
    client
        .batch_execute(
            "DELETE FROM public.tallyd_user_list_due; UPDATE public.tallyd_delta_ring SET listed_to = merged_to",
        )
        .await?;
    Ok(true)
}

/// How a request reads the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// None if the request computes the rows of users with deltas or notes itself: its answer has every call that is loaded. Otherwise
    /// the list has the calls that were loaded until then, and perhaps some later ones.
    pub as_of: Option<DateTime<Utc>>,
    /// True if the list lies on Citus' nodes.
    pub is_spread: bool,
}

impl Standing {
    /// Counts deltas and notes up to the bound. On Citus the list is always read alone: many small answers of nodes take longer.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn read(client: &Client) -> Result<Self, Error> {
        let is_spread = is_spread(client).await?;
        let is_small = format!(
            "CASE WHEN pg_relation_size('public.tallyd_user_deltas_0'::regclass) + pg_relation_size('public.tallyd_user_deltas_1'::regclass) \
                 + pg_relation_size('public.tallyd_user_list_due'::regclass) > {COUNTED_BYTES} THEN false \
             ELSE (SELECT count(*) <= {ADDED_UP} FROM (SELECT 1 FROM public.tallyd_user_deltas_0 \
                 UNION ALL SELECT 1 FROM public.tallyd_user_deltas_1 \
                 UNION ALL SELECT 1 FROM public.tallyd_user_list_due LIMIT {ADDED_UP} + 1) AS w) END"
        );
        let is_small = if is_spread { "false" } else { is_small.as_str() };
        let sql = format!("SELECT r.listed_to, {is_small} FROM public.tallyd_delta_ring AS r");
        let rows = client.query_typed(&sql, &[]).await?;
        // Without its row nothing is ever listed anew.
        let (listed_to, is_exact) =
            rows.first().map_or((DateTime::UNIX_EPOCH, !is_spread), |row| (row.get(0), row.get(1)));
        Ok(Self { as_of: (!is_exact).then_some(listed_to), is_spread })
    }

    /// Whether the rows of users who are due are computed: see [`exact`].
    pub(crate) const fn is_exact(self) -> bool {
        self.as_of.is_none()
    }
}

/// What stands before a statement that reads the list exactly: `due`, the users whose rows may be out of date, and `fresh`, their rows.
///
/// The condition on the totals is an array, which reaches their index.
pub(crate) fn exact() -> String {
    let columns = "user_id, provider, calls, errors, unpriced_calls, cost_usd, first_call_at, last_call_at";
    let parts = format!(
        "(SELECT {columns} FROM public.tallyd_user_totals WHERE user_id = ANY (ARRAY(SELECT user_id FROM due)) \
          UNION ALL SELECT {columns} FROM public.tallyd_user_deltas_0 \
          UNION ALL SELECT {columns} FROM public.tallyd_user_deltas_1) AS p WHERE user_id <> ''"
    );
    format!(
        "WITH due AS MATERIALIZED (SELECT user_id FROM public.tallyd_user_deltas_0 UNION SELECT user_id FROM public.tallyd_user_deltas_1 \
             UNION SELECT user_id FROM public.tallyd_user_list_due), \
         fresh AS MATERIALIZED ({})",
        sums_by_user(&parts)
    )
}
