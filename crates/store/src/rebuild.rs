//! A rebuild computes all rollups anew, with days in any zone.

use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::daemons::{self, Daemon};
use super::migrate::{MigrateError, check_zone, set_zone, setting};
use super::rollups::{MEASURES, Period, ROLLUPS, Rollup, TOTALS};
use super::user_deltas;
use crate::queries::audit::{self, Actor, Change};

/// Why the rollups were not rebuilt. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// PostgreSQL failed, or the zone is unknown.
    #[error(transparent)]
    Database(#[from] MigrateError),
    /// Running daemons would count days in the old zone.
    #[error(
        "{} on this database:\n{}\nhint: stop every daemon first; one that was killed counts as running for a minute",
        if daemons.len() == 1 { "a daemon runs" } else { "daemons run" },
        daemons.iter().map(|daemon| format!("  {daemon}")).collect::<Vec<_>>().join("\n")
    )]
    Running {
        /// The daemons.
        daemons: Vec<Daemon>,
    },
}

impl From<tokio_postgres::Error> for RebuildError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Result of a rebuild, or of its preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuild {
    /// The zone of days before.
    pub from_zone: String,
    /// The zone of days afterwards.
    pub to_zone: String,
    /// Calls of the call log that are counted anew.
    pub calls: i64,
    /// Days of `daily_api_costs` that are computed anew.
    pub days: i64,
    /// Rows of the rollups by period that are written.
    pub rows: i64,
    /// Rows of the rollups by period that are kept unchanged: their calls are no longer in the call log.
    pub kept_rows: i64,
    /// The daemons that run.
    pub daemons: Vec<Daemon>,
}

/// Computes all rollups anew from the call log and the sums of dropped calls, with days in `zone`, and stores that
/// zone.
///
/// Watermarks, the call log and the rollups are locked against writers from the first statement to the last; readers
/// see the old state until the end. A daemon that was started with the old zone holds afterwards: stop all daemons
/// before.
///
/// Days before the call log's first are kept unchanged, because only the rollups still have them. Dropped sums of later
/// days (if the call log goes back further than the dropped partitions) are added to the call log's; their days stay in
/// the zone in which they were dropped. Lifetime totals are the sums of a user's kept and new days.
///
/// # Errors
/// [`RebuildError`]; nothing has changed then.
pub async fn rebuild_rollups(client: &mut Client, zone: &str, by: &Actor<'_>) -> Result<Rebuild, RebuildError> {
    check_zone(zone)?;
    // READ COMMITTED: each statement sees the commits of the transactions for which the locks waited.
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    // In the writers' order. The first two locks wait for transactions whose rows are in the call log and whose rollups
    // are still to come, and keep every lane from reading the old zone.
    let lock = "LOCK TABLE public.ingest_watermark, public.api_usage_log IN SHARE ROW EXCLUSIVE MODE";
    transaction.batch_execute(lock).await?;
    user_deltas::absorb_all(transaction.client()).await?;
    let rollups = ROLLUPS.iter().map(|rollup| rollup.table).chain(ROLLUPS.iter().map(|rollup| rollup.dropped));
    let tables = rollups.collect::<Vec<_>>().join(", public.");
    transaction.batch_execute(&format!("LOCK TABLE public.{tables} IN SHARE ROW EXCLUSIVE MODE")).await?;
    let daemons = daemons::running(&transaction).await?;
    if !daemons.is_empty() {
        return Err(RebuildError::Running { daemons });
    }
    let from_zone = setting(&transaction, "reporting_time_zone").await?;
    check_zone(&from_zone)?;
    let (first, calls) = First::find(&transaction, &from_zone, zone).await?;
    let kept_rows = forget_days(&transaction, &first).await?;
    let mut rows = 0;
    for (rollup, period) in periods() {
        let insert = format!(
            "INSERT INTO public.{table} ({columns}) SELECT {columns} FROM ({accounted}) AS a WHERE {new}",
            table = rollup.table,
            columns = rollup.column_list(),
            accounted = rollup.select_accounted(),
            new = period.since("$2"),
        );
        let values = [(&zone as &(dyn ToSql + Sync), Type::TEXT), (first.of(period), Type::TEXT)];
        rows += transaction.execute_typed(&insert, &values).await?.cast_signed();
    }
    write_totals(&transaction, &first.day).await?;
    let days = "SELECT count(DISTINCT day) FROM public.daily_api_costs WHERE day >= $1::text::date";
    let days = transaction.query_typed(days, &[(&first.day, Type::TEXT)]).await?.first().map_or(0, |row| row.get(0));
    let done = Rebuild { from_zone, to_zone: zone.to_owned(), calls, days, rows, kept_rows, daemons };
    set_zone(&transaction, zone).await?;
    let (old, new) =
        (json!({ "time_zone": done.from_zone }), json!({ "time_zone": zone, "calls": calls, "days": days }));
    let change = Change { old: Some(old), new: Some(new), ..by.change("rollups.rebuild", "rollups") };
    audit::write(transaction.client(), &change).await?;
    transaction.commit().await?;
    Ok(done)
}

/// Reports the changes of a rebuild. Takes no locks: daemons may run and go on.
///
/// # Errors
/// [`RebuildError`].
pub async fn preview_rebuild(client: &mut Client, zone: &str) -> Result<Rebuild, RebuildError> {
    check_zone(zone)?;
    let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = builder.start().await?;
    let from_zone = setting(&transaction, "reporting_time_zone").await?;
    check_zone(&from_zone)?;
    let (first, calls) = First::find(&transaction, &from_zone, zone).await?;
    let (mut days, mut rows, mut kept_rows) = (0, 0, 0);
    for (rollup, period) in periods() {
        let sql = format!(
            "SELECT count(DISTINCT {name}), count(*) FROM ({accounted}) AS a WHERE {new}",
            name = period.name(),
            accounted = rollup.select_accounted(),
            new = period.since("$2"),
        );
        let values = [(&zone as &(dyn ToSql + Sync), Type::TEXT), (first.of(period), Type::TEXT)];
        for row in &transaction.query_typed(&sql, &values).await? {
            if period == Period::Day {
                days = row.get(0);
            }
            rows += row.get::<_, i64>(1);
        }
        let kept = format!("SELECT count(*) FROM public.{} WHERE NOT {}", rollup.name, period.since("$1"));
        let kept = transaction.query_typed(&kept, &[(first.of(period), Type::TEXT)]).await?;
        kept_rows += kept.first().map_or(0, |row| row.get::<_, i64>(0));
    }
    let daemons = daemons::running(&transaction).await?;
    Ok(Rebuild { from_zone, to_zone: zone.to_owned(), calls, days, rows, kept_rows, daemons })
}

/// The rollups that are computed from the call log: all but the lifetime totals.
fn periods() -> impl Iterator<Item = (&'static Rollup, Period)> {
    ROLLUPS.iter().filter_map(|rollup| Some((rollup, rollup.period()?)))
}

/// The first day and hour that are computed anew; `infinity` without a call.
struct First {
    day: String,
    hour: String,
}

impl First {
    /// Finds them, and the number of calls. The zones are known names, without quotes.
    async fn find(transaction: &Transaction<'_>, old: &str, new: &str) -> Result<(Self, i64), tokio_postgres::Error> {
        // The hour of the first call begins less than an hour before it, in any zone.
        let sql = format!(
            "SELECT coalesce(least((first_at AT TIME ZONE '{old}')::date, (first_at AT TIME ZONE '{new}')::date), 'infinity')::text, \
                 coalesce(first_at - interval '1 hour' + interval '1 microsecond', 'infinity')::text, calls \
             FROM (SELECT min(occurred_at) AS first_at, count(*) AS calls FROM public.api_usage_log) AS l"
        );
        let rows = transaction.query_typed(&sql, &[]).await?;
        // An aggregate without GROUP BY returns one row.
        let row = rows.first().expect("an aggregate returns a row");
        Ok((Self { day: row.get(0), hour: row.get(1) }, row.get(2)))
    }

    fn of(&self, period: Period) -> &String {
        match period {
            Period::Day => &self.day,
            Period::Hour => &self.hour,
        }
    }
}

/// Deletes the rows that are computed anew. Returns the number of kept rows.
async fn forget_days(transaction: &Transaction<'_>, first: &First) -> Result<i64, tokio_postgres::Error> {
    let mut kept = 0;
    for (rollup, period) in periods() {
        let table = rollup.table;
        let delete = format!("DELETE FROM public.{table} WHERE {}", period.since("$1"));
        transaction.execute_typed(&delete, &[(first.of(period), Type::TEXT)]).await?;
        let left = transaction.query_typed(&format!("SELECT count(*) FROM public.{table}"), &[]).await?;
        kept += left.first().map_or(0, |row| row.get::<_, i64>(0));
    }
    Ok(kept)
}

/// Writes the lifetime totals from the daily sums by user, kept and new. An existing row keeps its first and last call;
/// a row without a day is deleted.
async fn write_totals(transaction: &Transaction<'_>, first: &str) -> Result<(), tokio_postgres::Error> {
    let sums: Vec<String> = MEASURES.iter().map(|(name, _)| format!("sum(d.{name})")).collect();
    let updates: Vec<String> = TOTALS.columns().map(|(name, _)| format!("{name} = excluded.{name}")).collect();
    let sql = format!(
        "INSERT INTO public.tallyd_user_totals AS t ({columns}, updated_at) \
         SELECT d.user_id, d.provider, {sums}, \
             CASE WHEN min(d.day) < $1::text::date \
                  THEN coalesce(least(min(o.first_call_at), min(x.first_call_at)), min(l.first_at), min(d.day)) \
                  ELSE least(min(l.first_at), min(x.first_call_at)) END, \
             coalesce(greatest(min(l.last_at), min(x.last_call_at)), min(o.last_call_at), max(d.day)), now() \
         FROM public.tallyd_user_days AS d \
         LEFT JOIN (SELECT user_id, provider, min(occurred_at) AS first_at, max(occurred_at) AS last_at \
                    FROM public.api_usage_log GROUP BY 1, 2) AS l USING (user_id, provider) \
         LEFT JOIN public.tallyd_dropped_totals AS x USING (user_id, provider) \
         LEFT JOIN public.tallyd_user_totals AS o USING (user_id, provider) \
         GROUP BY d.user_id, d.provider \
         ON CONFLICT (user_id, provider) DO UPDATE SET {updates}, updated_at = excluded.updated_at",
        columns = TOTALS.column_list(),
        sums = sums.join(", "),
        updates = updates.join(", "),
    );
    transaction.execute_typed(&sql, &[(&first, Type::TEXT)]).await?;
    let gone = "DELETE FROM public.tallyd_user_totals AS t WHERE NOT EXISTS \
        (SELECT 1 FROM public.tallyd_user_days AS d WHERE d.user_id = t.user_id AND d.provider = t.provider)";
    transaction.execute_typed(gone, &[]).await.map(drop)
}
