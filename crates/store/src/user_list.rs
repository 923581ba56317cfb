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
//! ## Bounds
//! A row also bounds the user's costs of ranges of days: `cost_usd` those of any range, `lately_usd` those of ranges that begin at
//! `tallyd_delta_ring.lately_from` or later. `crates/store/src/queries/dearest.rs` finds the users who cost most by them. Both are sums over days, so they
//! are bounds as long as no day's cost is negative. A user with such a day has `has_refunds`.
//!
//! Days that leave the last weeks make `lately_usd` larger than it must be, not wrong. So at midnight nothing has to happen at once. A
//! roll ([`roll`]) moves `lately_from` and computes the [`ROLLED`] largest bounds anew, because searches begin with those.
//!
//! ## Readers
//! [`Standing`] says how a request reads the list. While few deltas and notes wait, it computes those users itself, and its answer is exact.
//! Otherwise it reads the list alone, and says how old that is.

use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::citus::is_spread;
use crate::locks::Lock;
use crate::retry::in_transaction;

/// The columns, in the order of [`sums_by_user`].
pub(crate) const COLUMNS: &str =
    "user_id, calls, claude_calls, rentcast_calls, errors, unpriced_calls, cost_usd, first_call_at, last_call_at";

/// The users whose rows may be out of date.
pub(crate) const DUE: &str = "SELECT user_id FROM public.tallyd_user_deltas_0 UNION SELECT user_id FROM public.tallyd_user_deltas_1 \
    UNION SELECT user_id FROM public.tallyd_user_list_due";

/// Deltas and notes up to which a request computes their users' rows. On a busy machine 2,000 took 50 ms in SQL, 4,000 took 75 to 95 ms; a range of days
/// reads up to 30 rows or more of each.
const ADDED_UP: i64 = 1_000;
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

/// Days that `lately_usd` has, with today: those of most requests. More days would make the bounds larger than the costs of these.
const LATELY_DAYS: i32 = 30;
/// How late after midnight a day begins for the bounds, because requests of daemons whose clocks are late begin with the day before.
const ROLLED_AFTER: &str = "interval '5 minutes'";
/// Bounds that a roll computes anew.
const ROLLED: u64 = 20_000;

/// Notes that the totals of the users of some rows change, within the caller's transaction, which holds the base.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn note(client: &Client, rows: &str) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO public.tallyd_user_list_due (user_id, may_refund) \
         SELECT d.user_id, coalesce(bool_or(d.cost_usd < 0), false) FROM {rows} AS d GROUP BY d.user_id"
    );
    client.execute_typed(&sql, &[]).await.map(drop)
}

/// Computes one user's row anew, within the caller's transaction, which holds the base.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn renew(client: &Client, user: &str) -> Result<(), Error> {
    let (one, values): (_, [(&(dyn ToSql + Sync), Type); 1]) = ("t.user_id = $1", [(&user, Type::TEXT)]);
    write(client, one, "SELECT $1", &values).await?;
    leave_out(client, one, &values).await?;
    let noted = "DELETE FROM public.tallyd_user_list_due AS t WHERE t.user_id = $1";
    client.query_typed(noted, &[(&user, Type::TEXT)]).await.map(drop)
}

/// Computes all rows anew, within the caller's transaction, which holds the base.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn renew_all(client: &Client) -> Result<(), Error> {
    let refunded = "SELECT DISTINCT d.user_id FROM public.tallyd_user_days AS d WHERE d.cost_usd < 0";
    let from = write(client, "true", refunded, &[]).await?;
    leave_out(client, "true", &[]).await?;
    client.batch_execute("DELETE FROM public.tallyd_user_list_due").await?;
    begin_lately(client, from).await
}

/// The first day of the bounds that are written now: a day on which earlier ones began, or a later one.
async fn lately_from(client: &Client) -> Result<NaiveDate, Error> {
    let sql = format!(
        "SELECT least(r.lately_from, ((now() - {ROLLED_AFTER}) AT TIME ZONE s.value)::date - {LATELY_DAYS} + 1) \
         FROM public.tallyd_delta_ring AS r, public.tallyd_settings AS s WHERE s.key = 'reporting_time_zone'"
    );
    // Without the rows a bound has all days.
    Ok(client.query_typed(&sql, &[]).await?.first().map_or_else(NaiveDate::default, |row| row.get(0)))
}

/// Lets searches use the bounds once every user has one.
async fn begin_lately(client: &Client, from: NaiveDate) -> Result<(), Error> {
    let sql = "UPDATE public.tallyd_delta_ring SET lately_from = $1 WHERE lately_from = 'infinity'";
    client.execute_typed(sql, &[(&from, Type::DATE)]).await.map(drop)
}

/// A user's cost of the days from `from` on, as an expression. One index scan a user: a join would read every user's days.
fn lately(user: &str, from: NaiveDate) -> String {
    format!(
        "coalesce((SELECT round(sum(d.cost_usd), 18) FROM public.tallyd_user_days AS d \
         WHERE d.user_id = {user} AND d.day >= '{from}'), 0)"
    )
}

/// Writes the rows of the users that `which` chooses, a condition on `t.user_id`. The days of those whom `refunded` selects are looked through
/// for negative costs: it is joined, because as a condition it might be asked for each row. Returns the first day of the bounds. On Citus rows
/// do not have bounds, and ranges are added up by the nodes.
async fn write(
    client: &Client,
    which: &str,
    refunded: &str,
    values: &[(&(dyn ToSql + Sync), Type)],
) -> Result<NaiveDate, Error> {
    let from = lately_from(client).await?;
    let (lately, refunds, joined) = if is_spread(client).await? {
        ("0".to_owned(), "false", String::new())
    } else {
        let refunds = "CASE WHEN m.user_id IS NULL THEN false ELSE coalesce((SELECT min(d.cost_usd) \
            FROM public.tallyd_user_days AS d WHERE d.user_id = s.user_id) < 0, false) END";
        let joined = format!("LEFT JOIN ({refunded}) AS m (user_id) ON m.user_id = s.user_id");
        (lately("s.user_id", from), refunds, joined)
    };
    let columns = format!("{COLUMNS}, lately_usd, has_refunds");
    let each = |text: fn(&str) -> String| columns.split(", ").skip(1).map(text).collect::<Vec<_>>().join(", ");
    let rows = sums_by_user(&format!("public.tallyd_user_totals AS t WHERE t.user_id <> '' AND {which}"));
    let insert = format!(
        "INSERT INTO public.tallyd_user_list AS l ({columns}) SELECT s.*, {lately}, {refunds} FROM ({rows}) AS s {joined} \
         ON CONFLICT (user_id) DO UPDATE SET {updates} WHERE ({old}) IS DISTINCT FROM ({new})",
        updates = each(|column| format!("{column} = excluded.{column}")),
        old = each(|column| format!("l.{column}")),
        new = each(|column| format!("excluded.{column}")),
    );
    client.query_typed(&insert, values).await?;
    Ok(from)
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
    let refunded = "SELECT d.user_id FROM public.tallyd_user_list_due AS d WHERE d.may_refund \
        UNION SELECT o.user_id FROM public.tallyd_user_list AS o WHERE o.has_refunds";
    let due = "t.user_id IN (SELECT d.user_id FROM public.tallyd_user_list_due AS d)";
    let from = write(client, due, refunded, &[]).await?;
    begin_lately(client, from).await?;
    client
        .batch_execute(
            "DELETE FROM public.tallyd_user_list_due; UPDATE public.tallyd_delta_ring SET listed_to = merged_to",
        )
        .await?;
    Ok(true)
}

/// Begins the bounds of costs on a later day, once a day or `again`, and computes the largest ones anew. Returns whether to do it again:
/// if more than a tenth of them were too large, the next ones may be, too.
///
/// # Errors
/// PostgreSQL's.
pub async fn roll(client: &Client, again: bool) -> Result<bool, Error> {
    let changed = in_transaction(client, async {
        if is_spread(client).await? {
            return Ok(Some(0));
        }
        if !Lock::Merge.try_take(client).await? {
            return Ok(None);
        }
        let moved = format!(
            "UPDATE public.tallyd_delta_ring AS r SET lately_from = n.day FROM \
                 (SELECT ((now() - {ROLLED_AFTER}) AT TIME ZONE s.value)::date - {LATELY_DAYS} + 1 AS day \
                  FROM public.tallyd_settings AS s WHERE s.key = 'reporting_time_zone') AS n WHERE r.lately_from < n.day"
        );
        if client.execute_typed(&moved, &[]).await? == 0 && !again {
            return Ok(Some(0));
        }
        let from = lately_from(client).await?;
        let sql = format!(
            "UPDATE public.tallyd_user_list AS l SET lately_usd = n.lately_usd \
             FROM (SELECT t.user_id, {lately} AS lately_usd FROM (SELECT o.user_id FROM public.tallyd_user_list AS o \
                 ORDER BY o.lately_usd DESC, o.user_id COLLATE \"C\" LIMIT {ROLLED}) AS t) AS n \
             WHERE l.user_id = n.user_id AND l.lately_usd <> n.lately_usd",
            lately = lately("t.user_id", from),
        );
        client.execute_typed(&sql, &[]).await.map(Some)
    });
    Ok(changed.await?.map_or(again, |changed| changed > ROLLED / 10))
}

/// How a request reads the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// None if the request computes the rows of users with deltas or notes itself: its answer has every call that is loaded. Otherwise
    /// the list has the calls that were loaded until then, and perhaps some later ones.
    pub as_of: Option<DateTime<Utc>>,
    /// True if the list lies on Citus' nodes.
    pub is_spread: bool,
    /// The first day from which on `lately_usd` bounds costs. None while it does not bound any.
    pub lately_from: Option<NaiveDate>,
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
        let sql = format!(
            "SELECT r.listed_to, {is_small}, CASE WHEN isfinite(r.lately_from) THEN r.lately_from END FROM public.tallyd_delta_ring AS r"
        );
        let rows = client.query_typed(&sql, &[]).await?;
        // Without its row nothing is ever listed anew.
        let (listed_to, is_exact, lately_from) =
            rows.first().map_or((DateTime::UNIX_EPOCH, !is_spread, None), |row| (row.get(0), row.get(1), row.get(2)));
        Ok(Self { as_of: (!is_exact).then_some(listed_to), is_spread, lately_from })
    }

    /// Whether the rows of users who are due are computed: see [`exact`].
    pub(crate) const fn is_exact(self) -> bool {
        self.as_of.is_none()
    }
}

/// The beginning of a statement that reads the list exactly: `due`, the users whose rows may be out of date, and `fresh`, their rows.
///
/// The condition on the totals is an array, which reaches their index.
pub(crate) fn exact() -> String {
    let columns = "user_id, provider, calls, errors, unpriced_calls, cost_usd, first_call_at, last_call_at";
    let parts = format!(
        "(SELECT {columns} FROM public.tallyd_user_totals WHERE user_id = ANY (ARRAY(SELECT user_id FROM due)) \
          UNION ALL SELECT {columns} FROM public.tallyd_user_deltas_0 \
          UNION ALL SELECT {columns} FROM public.tallyd_user_deltas_1) AS p WHERE user_id <> ''"
    );
    format!("WITH due AS MATERIALIZED ({DUE}), fresh AS MATERIALIZED ({})", sums_by_user(&parts))
}
