//! Proves that the rollups equal the sums over the call log, or says where they do not.
//!
//! What was dropped from the call log on purpose is in the sums of `tallyd_dropped_*`: a rollup is the call log and those together.
//!
//! Everything is read in one repeatable-read transaction: the daemon goes on loading meanwhile, and what is compared is
//! one committed state. Each rollup takes one scan of the call log. The call log is locked against being dropped from (and nothing
//! else) before the state is chosen: a partition that goes afterwards would be missing from the call log, and its sums would be
//! too new to be seen.
//!
//! On Citus a repeatable-read transaction has a state of its own on each connection to a node, and Citus chooses it before a LOCK has been waited
//! for. So there all writers wait until the comparison is over ([`fence`]), and each statement sees all that was committed before it.
//!
//! [`reconcile_changed`] reads only days whose rollups have changed since their last proof.

mod changed;

use chrono::NaiveDate;
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::rollups::{Period, ROLLUPS, Rollup};
pub use changed::{ChangedDays, reconcile_changed};

/// Differences that a [`Reconciliation`] lists; more are only counted.
pub const MAX_DIFFERENCES: usize = 1000;

/// The outcome of comparing the rollups with the call log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// Whether all rollups equal the call log in every column.
    pub equal: bool,
    /// Calls in the call log.
    pub log_rows: i64,
    /// The sum of their costs in USD, as exact decimal text.
    pub log_cost_usd: String,
    /// Calls in the call log that have no price.
    pub unpriced_rows: i64,
    /// Calls that were dropped from the call log, and are in the rollups.
    pub dropped_rows: i64,
    /// The sum of their costs in USD, as exact decimal text.
    pub dropped_cost_usd: String,
    /// How many values differ.
    pub difference_count: i64,
    /// The first [`MAX_DIFFERENCES`] of them.
    pub differences: Vec<Difference>,
}

/// One value that differs. A row that only one side has is one difference, in `calls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The rollup's table.
    pub table: &'static str,
    /// The row: `day=2026-11-23, provider=claude, …`.
    pub key: String,
    /// The column.
    pub column: String,
    /// What the rollup says; none where it has no such row.
    pub rollup: Option<String>,
    /// What the call log and the dropped sums add up to; none where they have no such call.
    pub log: Option<String>,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// PostgreSQL failed.
    #[error("the rollups cannot be compared with the call log: {}", super::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The schema is not there, or somebody has removed the setting.
    #[error("tallyd_settings has no reporting_time_zone. hint: run `tallyd migrate`")]
    NoTimeZone,
}

/// Compares the rollups with the call log.
///
/// The client is borrowed mutably because it is in a transaction meanwhile, which must end however this does.
///
/// # Errors
/// [`ReconcileError`]; never because of a difference.
pub async fn reconcile(client: &mut Client) -> Result<Reconciliation, ReconcileError> {
    let (transaction, zone) = one_state(client, true).await?;
    let zone = zone.as_str();

    let log = "SELECT count(*), coalesce(sum(cost_usd), 0)::text, count(*) FILTER (WHERE cost_usd IS NULL) \
        FROM public.api_usage_log";
    let log = transaction.query_typed(log, &[]).await?;
    // An aggregate without GROUP BY returns one row, whatever the table holds.
    let log = log.first().expect("an aggregate returns a row");
    let (log_rows, log_cost_usd, unpriced_rows) = (log.get(0), log.get(1), log.get(2));
    let dropped =
        "SELECT coalesce(sum(calls), 0)::int8, coalesce(sum(cost_usd), 0)::text FROM public.tallyd_dropped_costs";
    let dropped = transaction.query_typed(dropped, &[]).await?;
    let dropped = dropped.first().expect("an aggregate returns a row");
    let (dropped_rows, dropped_cost_usd) = (dropped.get(0), dropped.get(1));

    let (mut differences, mut difference_count) = (Vec::new(), 0);
    for rollup in &ROLLUPS {
        difference_count += compare(&transaction, rollup, zone, None, &mut differences).await?;
    }
    transaction.rollback().await?;
    let equal = difference_count == 0;
    Ok(Reconciliation {
        equal,
        log_rows,
        log_cost_usd,
        unpriced_rows,
        dropped_rows,
        dropped_cost_usd,
        difference_count,
        differences,
    })
}

/// A transaction in which every statement sees one committed state, and the reporting time zone. `is_reader`: nothing will be written.
async fn one_state(client: &mut Client, is_reader: bool) -> Result<(Transaction<'_>, String), ReconcileError> {
    let is_spread = super::citus::is_spread(client).await?;
    let isolation = if is_spread { IsolationLevel::ReadCommitted } else { IsolationLevel::RepeatableRead };
    // The fence is a lock that a transaction which only reads is refused.
    let builder = client.build_transaction().isolation_level(isolation).read_only(is_reader && !is_spread);
    let transaction = builder.start().await?;
    if is_spread {
        fence(&transaction).await?;
    }
    transaction.batch_execute("LOCK TABLE public.api_usage_log IN ACCESS SHARE MODE").await?;
    // Typed queries need no prepared statement with a name, which a pooler could give to somebody else.
    let zone = "SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'";
    let zone = transaction.query_typed(zone, &[]).await?.first().ok_or(ReconcileError::NoTimeZone)?.get(0);
    // That has chosen the state. A partition may have been made just before it, whose maker has committed and not told it yet:
    // its maker holds its lock until it has, so whoever has locked every partition that is listed knows all that the state has.
    transaction.batch_execute("LOCK TABLE public.api_usage_log IN ACCESS SHARE MODE").await?;
    Ok((transaction, zone))
}

/// Waits for every transaction that writes calls or merges deltas, and holds back all others until the end. In the loader's order: it moves
/// its watermark first.
async fn fence(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    for table in ["ingest_watermark", "api_usage_log", "tallyd_user_deltas_0", "tallyd_user_deltas_1"] {
        transaction.batch_execute(&format!("LOCK TABLE public.{table} IN SHARE MODE")).await?;
    }
    // Where a node was killed, a worker may still have a part of a committed transaction that it does not show. Citus completes it within a
    // minute, and here at once where the role may ask for it.
    let finish = "pg_catalog.recover_prepared_transactions()";
    let may = format!("SELECT has_function_privilege('{finish}', 'EXECUTE')");
    if transaction.query_typed(&may, &[]).await?.first().is_some_and(|row| row.get(0)) {
        transaction.query_typed(&format!("SELECT {finish}"), &[]).await?;
    }
    Ok(())
}

/// Days of the reporting zone that follow one another, the last one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Days {
    first: NaiveDate,
    last: NaiveDate,
}

/// The condition that a row of the call log, or of a rollup, is of the days `$3` to `$4`.
fn of_days(column: &str) -> String {
    match column {
        "day" => "day >= $3 AND day <= $4".to_owned(),
        instant => format!(
            "{instant} >= $3::date::timestamp AT TIME ZONE $1 AND {instant} < ($4::date + 1)::timestamp AT TIME ZONE $1"
        ),
    }
}

/// Appends a rollup's differences within the bound, and returns how many there are.
async fn compare(
    transaction: &Transaction<'_>,
    rollup: &Rollup,
    zone: &str,
    days: Option<&Days>,
    differences: &mut Vec<Difference>,
) -> Result<i64, tokio_postgres::Error> {
    let room = i64::try_from(MAX_DIFFERENCES.saturating_sub(differences.len())).unwrap_or(0);
    // One row more than there is room for nothing: the count comes with the rows, so at least one is fetched.
    let within = days.and(rollup.period());
    let room_or_one = room.max(1);
    let mut values: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&zone, Type::TEXT), (&room_or_one, Type::INT8)];
    if let (Some(days), Some(_)) = (days, within) {
        values.extend([(&days.first as &(dyn ToSql + Sync), Type::DATE), (&days.last, Type::DATE)]);
    }
    let rows = transaction.query_typed(&comparison(rollup, within), &values).await?;
    let listed = rows.iter().take(usize::try_from(room).unwrap_or(0)).map(|row| Difference {
        table: rollup.name,
        key: row.get(1),
        column: row.get(2),
        rollup: row.get(3),
        log: row.get(4),
    });
    differences.extend(listed);
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// The comparison in SQL: both sides joined by key, the rows that differ, and of those each column that differs as a row of its own.
///
/// Rows that differ are found first, apart: where the tables are distributed each node compares its own, and what makes rows of
/// columns would not run there.
/// `within`: only the days `$3` to `$4`.
fn comparison(rollup: &Rollup, within: Option<Period>) -> String {
    let keys: Vec<&str> = rollup.keys.iter().map(|(name, _)| *name).collect();
    let key_text: Vec<String> = keys.iter().map(|key| format!("'{key}=' || d.{key}")).collect();
    let table = |name: &str| match within {
        None => format!("public.{name}"),
        Some(period) => format!("(SELECT * FROM public.{name} WHERE {})", of_days(period.name())),
    };
    let log = match within {
        None => "public.api_usage_log".to_owned(),
        Some(_) => format!("(SELECT * FROM public.api_usage_log WHERE {})", of_days("occurred_at")),
    };
    let each = |text: fn(&str) -> String| rollup.columns().map(|(name, _)| text(name)).collect::<Vec<_>>();
    format!(
        "WITH differing AS MATERIALIZED (SELECT {key_list}, {sides} FROM {stored} AS r FULL JOIN ({sums}) AS s USING ({key_list}) \
             WHERE {unequal}) \
         SELECT count(*) OVER (), concat_ws(', ', {key_text}), v.name, v.rollup, v.log \
         FROM differing AS d CROSS JOIN LATERAL (VALUES {columns}) AS v(name, rollup, log, differs) \
         WHERE v.differs AND (v.name = 'calls' OR (d.r_calls IS NOT NULL AND d.s_calls IS NOT NULL)) \
         ORDER BY {key_list}, v.name LIMIT $2",
        sides = each(|name| format!("r.{name} AS r_{name}, s.{name} AS s_{name}")).join(", "),
        unequal = each(|name| format!("r.{name} IS DISTINCT FROM s.{name}")).join(" OR "),
        key_text = key_text.join(", "),
        stored = table(rollup.name),
        sums = rollup.select_accounted_of(&log, &table(rollup.dropped)),
        key_list = keys.join(", "),
        columns = each(|name| format!(
            "('{name}', d.r_{name}::text, d.s_{name}::text, d.r_{name} IS DISTINCT FROM d.s_{name})"
        ))
        .join(", "),
    )
}
