//! Proves that the rollups equal the sums over the call log, or lists the differences.
//!
//! Calls that were dropped from the call log on purpose are in the sums of `tallyd_dropped_*`: a rollup is the call log
//! and those together.
//!
//! Everything is read in one repeatable-read transaction, so one committed state is compared while the daemon goes on
//! loading. Each rollup takes one scan of the call log. Before the state is chosen, the call log is locked against
//! dropping partitions (and nothing else). A partition dropped afterwards would be missing from the call log, and its
//! dropped sums would be too new to be seen.
//!
//! On Citus a transaction has a state of its own on each node, and these are not chosen at one moment. So there all
//! loading waits until the comparison is over ([`fence`]).

use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::rollups::{ROLLUPS, Rollup};

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
    /// Unpriced calls in the call log.
    pub unpriced_rows: i64,
    /// Calls that were dropped from the call log; they are still in the rollups.
    pub dropped_rows: i64,
    /// The sum of their costs in USD, as exact decimal text.
    pub dropped_cost_usd: String,
    /// The number of values that differ.
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
    /// The rollup's value; none if it does not have the row.
    pub rollup: Option<String>,
    /// The sum over the call log and the dropped sums; none if they do not have such a call.
    pub log: Option<String>,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// PostgreSQL failed.
    #[error("the rollups cannot be compared with the call log: {}", super::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The schema is missing, or somebody has removed the setting.
    #[error("tallyd_settings has no reporting_time_zone. hint: run `tallyd migrate`")]
    NoTimeZone,
}

/// Compares the rollups with the call log.
///
/// The client is borrowed mutably for its transaction, which must end in every case.
///
/// # Errors
/// [`ReconcileError`]; a difference is not an error.
pub async fn reconcile(client: &mut Client) -> Result<Reconciliation, ReconcileError> {
    let is_spread = super::citus::is_spread(client).await?;
    // A read-only transaction could not take the fence's locks.
    let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(!is_spread);
    let transaction = builder.start().await?;
    if is_spread {
        fence(&transaction).await?;
    }
    transaction.batch_execute("LOCK TABLE public.api_usage_log IN ACCESS SHARE MODE").await?;
    // Typed queries do not prepare a named statement, which a pooler could hand to another client.
    let zone = "SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'";
    let zone = transaction.query_typed(zone, &[]).await?;
    let zone: &str = zone.first().ok_or(ReconcileError::NoTimeZone)?.get(0);
    // The query above has chosen the state. A partition may have been committed just before, and this session's cache
    // may not have it yet. The maker holds the partition's lock until other sessions are notified, so locking every
    // listed partition brings the cache up to that state.
    transaction.batch_execute("LOCK TABLE public.api_usage_log IN ACCESS SHARE MODE").await?;

    let log = "SELECT count(*), coalesce(sum(cost_usd), 0)::text, count(*) FILTER (WHERE cost_usd IS NULL) \
        FROM public.api_usage_log";
    let log = transaction.query_typed(log, &[]).await?;
    // An aggregate without GROUP BY returns one row, even over an empty table.
    let log = log.first().expect("an aggregate returns a row");
    let (log_rows, log_cost_usd, unpriced_rows) = (log.get(0), log.get(1), log.get(2));
    let dropped =
        "SELECT coalesce(sum(calls), 0)::int8, coalesce(sum(cost_usd), 0)::text FROM public.tallyd_dropped_costs";
    let dropped = transaction.query_typed(dropped, &[]).await?;
    let dropped = dropped.first().expect("an aggregate returns a row");
    let (dropped_rows, dropped_cost_usd) = (dropped.get(0), dropped.get(1));

    let (mut differences, mut difference_count) = (Vec::new(), 0);
    for rollup in &ROLLUPS {
        difference_count += compare(&transaction, rollup, zone, &mut differences).await?;
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

/// Waits for every transaction that writes calls or merges deltas, and holds back others until the end. The tables are
/// in the loader's order: it moves its watermark first.
async fn fence(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    for table in ["ingest_watermark", "api_usage_log", "tallyd_user_deltas_0", "tallyd_user_deltas_1"] {
        transaction.batch_execute(&format!("LOCK TABLE public.{table} IN SHARE MODE")).await?;
    }
    Ok(())
}

/// Appends a rollup's differences up to the bound, and returns their number.
async fn compare(
    transaction: &Transaction<'_>,
    rollup: &Rollup,
    zone: &str,
    differences: &mut Vec<Difference>,
) -> Result<i64, tokio_postgres::Error> {
    let room = i64::try_from(MAX_DIFFERENCES.saturating_sub(differences.len())).unwrap_or(0);
    // At least one row is fetched even if there is no room for it, because the number of differences comes with the
    // rows.
    let rows = transaction.query_typed(&comparison(rollup), &[(&zone, Type::TEXT), (&room.max(1), Type::INT8)]).await?;
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

/// The comparison in SQL: both sides joined by key, and each differing column of a row as a row of its own.
///
/// Differing rows are found in a first step: on Citus each node compares its own rows, and the step that makes rows of
/// columns cannot run there.
fn comparison(rollup: &Rollup) -> String {
    let keys: Vec<&str> = rollup.keys.iter().map(|(name, _)| *name).collect();
    let key_text: Vec<String> = keys.iter().map(|key| format!("'{key}=' || d.{key}")).collect();
    let each = |text: fn(&str) -> String| rollup.columns().map(|(name, _)| text(name)).collect::<Vec<_>>();
    format!(
        "WITH differing AS MATERIALIZED (SELECT {key_list}, {sides} FROM public.{table} AS r FULL JOIN ({sums}) AS s USING ({key_list}) \
             WHERE {unequal}) \
         SELECT count(*) OVER (), concat_ws(', ', {key_text}), v.name, v.rollup, v.log \
         FROM differing AS d CROSS JOIN LATERAL (VALUES {columns}) AS v(name, rollup, log, differs) \
         WHERE v.differs AND (v.name = 'calls' OR (d.r_calls IS NOT NULL AND d.s_calls IS NOT NULL)) \
         ORDER BY {key_list}, v.name LIMIT $2",
        sides = each(|name| format!("r.{name} AS r_{name}, s.{name} AS s_{name}")).join(", "),
        unequal = each(|name| format!("r.{name} IS DISTINCT FROM s.{name}")).join(" OR "),
        key_text = key_text.join(", "),
        table = rollup.name,
        sums = rollup.select_accounted(),
        key_list = keys.join(", "),
        columns = each(|name| format!(
            "('{name}', d.r_{name}::text, d.s_{name}::text, d.r_{name} IS DISTINCT FROM d.s_{name})"
        ))
        .join(", "),
    )
}
