//! The takeover: one span of time per transaction.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::rows::{COLUMNS, calls};
use super::source::{OldTable, Sources};
use super::{AdoptError, AdoptOptions, daily, literal};
use crate::locks::Lock;
use crate::queries::audit::{self, Actor, Change};
use crate::retry::{may_pass, persistently};
use crate::rollups::ROLLUPS;
use crate::user_deltas;

/// A temporary table: the calls that the call log has of a span.
const THERE: &str = "pg_temp.tallyd_there";

/// Totals of a takeover.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// Calls of the old log.
    pub calls: i64,
    /// Their cost, in USD, as exact decimal text.
    pub cost_usd: String,
    /// Days, by provider and model, of which there were only sums.
    pub days: i64,
    /// The calls of these days.
    pub days_calls: i64,
    /// Their cost, in USD, as exact decimal text.
    pub days_cost_usd: String,
}

/// A span of time, from the first instant to just before the second.
type Span = (DateTime<Utc>, DateTime<Utc>);

/// Takes over the remaining calls and sums. The schema must exist. After each commit, `report` gets the number of calls
/// of the old log that were examined.
///
/// # Errors
/// [`AdoptError`]. Committed steps stay, and the next run continues.
pub async fn adopt(
    client: &Client,
    sources: &Sources,
    options: &AdoptOptions,
    by: &Actor<'_>,
    mut report: impl FnMut(i64),
) -> Result<Adopted, AdoptError> {
    note(client, sources, options, by).await?;
    let mut done = Adopted { cost_usd: "0".into(), ..Adopted::default() };
    if let Some(log) = &sources.log {
        let mut looked_at = 0;
        for (span, count) in spans(client, log, options).await? {
            let taken = step(client, || take(client, (log, options, by), span, &done.cost_usd)).await?;
            done.calls += taken.0;
            done.cost_usd = taken.1;
            looked_at += count;
            report(looked_at);
        }
    }
    let days = step(client, || async {
        let zone = enter(client).await?;
        daily::take(client, sources, options, &zone).await
    });
    (done.days, done.days_calls, done.days_cost_usd) = days.await?;
    Ok(done)
}

/// Adds an audit entry.
async fn note(client: &Client, sources: &Sources, options: &AdoptOptions, by: &Actor<'_>) -> Result<(), AdoptError> {
    let names: Vec<&str> = [&sources.log, &sources.daily].into_iter().flatten().map(|table| &*table.name).collect();
    let object = names.join(", ");
    let new = Some(serde_json::json!({ "columns": options.columns, "time_zone": options.source_time_zone }));
    Ok(audit::write(client, &Change { new, ..by.change("history.adopt", &object) }).await?)
}

/// Runs a step in a transaction of its own, with retries while others block it.
async fn step<T, W: Future<Output = Result<T, AdoptError>>>(
    client: &Client,
    work: impl Fn() -> W,
) -> Result<T, AdoptError> {
    let passes = |error: &AdoptError| matches!(error, AdoptError::Database(error) if may_pass(error));
    persistently(client, passes, work).await?.ok_or(AdoptError::Busy)
}

/// Takes the locks that every step needs, the call log first as every writer does, and returns the zone of the rollups'
/// days. The lock keeps out rebuilds, which change the zone.
async fn enter(client: &Client) -> Result<String, AdoptError> {
    client.batch_execute("LOCK TABLE ONLY public.api_usage_log IN ROW EXCLUSIVE MODE").await?;
    // Two runs that look for missing calls at once would both add them.
    Lock::Adopt.wait(client).await?;
    user_deltas::hold_base(client).await?;
    let zone = "SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'";
    let rows = client.query_typed(zone, &[]).await?;
    rows.first().map(|row| row.get(0)).ok_or(AdoptError::Setting("reporting_time_zone"))
}

/// Spans that cover all calls of the old log, about `batch_calls` each, in order of time, each with its number of
/// calls.
async fn spans(client: &Client, log: &OldTable, options: &AdoptOptions) -> Result<Vec<(Span, i64)>, AdoptError> {
    let sql = format!(
        "SELECT date_trunc('hour', c.occurred_at), count(*) FROM ({}) AS c WHERE c.fault IS NULL GROUP BY 1 ORDER BY 1",
        calls(log, options)
    );
    let batch = i64::from(options.batch_calls.max(1));
    let hour = TimeDelta::hours(1);
    let mut spans: Vec<(Span, i64)> = Vec::new();
    for row in client.query_typed(&sql, &[]).await? {
        let (from, count): (DateTime<Utc>, i64) = (row.get(0), row.get(1));
        match spans.last_mut() {
            Some((span, known)) if *known + count <= batch => {
                span.1 = from + hour;
                *known += count;
            }
            _ => {
                // Spans of less than a second are not needed.
                let parts = (count / batch).clamp(1, 3_600) as i32;
                let bound = |part: i32| if part == parts { from + hour } else { from + (hour / parts) * part };
                // Assumes an even distribution: the number is only displayed.
                let each = count / i64::from(parts);
                let rest = count - each * i64::from(parts - 1);
                let count = |part: i32| if part + 1 == parts { rest } else { each };
                spans.extend((0..parts).map(|part| ((bound(part), bound(part + 1)), count(part))));
            }
        }
    }
    Ok(spans)
}

/// Takes the calls of a span that the call log does not have yet. Returns their number, and `cost` plus theirs.
async fn take(
    client: &Client,
    (log, options, by): (&OldTable, &AdoptOptions, &Actor<'_>),
    (from, to): Span,
    cost: &str,
) -> Result<(i64, String), AdoptError> {
    let zone = enter(client).await?;
    note_there(client, (from, to)).await?;
    let create =
        format!("CREATE TEMP TABLE tallyd_adopting ON COMMIT DROP AS {}", untaken(log, options, Some((from, to))));
    client.batch_execute(&create).await?;
    let partitions = format!(
        "SELECT count(public.tallyd_ensure_partition(d.day AT TIME ZONE 'UTC', {})) FROM (SELECT DISTINCT \
         date_trunc('day', occurred_at AT TIME ZONE 'UTC') AS day FROM pg_temp.tallyd_adopting) AS d",
        literal(options.granularity)
    );
    client.query_typed(&partitions, &[]).await?;
    let insert = format!(
        "INSERT INTO public.api_usage_log ({COLUMNS}) SELECT {COLUMNS} FROM pg_temp.tallyd_adopting ORDER BY occurred_at, id"
    );
    client.batch_execute(&insert).await?;
    for rollup in &ROLLUPS {
        let sums = rollup.select_from("pg_temp.tallyd_adopting");
        client.query_typed(&rollup.add_to(rollup.table, &sums), &[(&zone, Type::TEXT)]).await?;
    }
    let mark = "WITH taken AS (SELECT count(*) AS calls, coalesce(sum(cost_usd), 0) AS cost_usd FROM pg_temp.tallyd_adopting), \
        marked AS (INSERT INTO public.tallyd_adoptions AS a (source, source_oid, adopted_to, calls, cost_usd, actor) \
            SELECT $1, $2, $3, t.calls, t.cost_usd, $4 FROM taken AS t \
            ON CONFLICT (source) DO UPDATE SET adopted_to = greatest(a.adopted_to, excluded.adopted_to), \
            calls = a.calls + excluded.calls, cost_usd = a.cost_usd + excluded.cost_usd, updated_at = excluded.updated_at) \
        SELECT t.calls, (t.cost_usd + $5::text::numeric)::text FROM taken AS t";
    let values: [(&(dyn ToSql + Sync), Type); 5] = [
        (&log.name, Type::TEXT),
        (&log.oid, Type::OID),
        (&to, Type::TIMESTAMPTZ),
        (&by.name, Type::TEXT),
        (&cost, Type::TEXT),
    ];
    let rows = client.query_typed(mark, &values).await?;
    // An aggregate without GROUP BY returns one row.
    let row = rows.first().expect("an aggregate returns a row");
    Ok((row.get(0), row.get(1)))
}

/// Copies the times and ids of the call log's calls of a span into a temporary table, [`THERE`], which ends with the
/// transaction. Old calls are compared with that table, because Citus cannot compare them with a distributed call log.
pub(super) async fn note_there(client: &Client, span: Span) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "CREATE TEMP TABLE tallyd_there ON COMMIT DROP AS SELECT l.occurred_at, l.id FROM public.api_usage_log AS l WHERE {}; \
         ANALYZE {THERE}",
        within("l.occurred_at", span)
    );
    client.batch_execute(&sql).await
}

/// A condition: the call log has the call `c`.
pub(super) fn is_there() -> String {
    format!("EXISTS (SELECT 1 FROM {THERE} AS l WHERE l.occurred_at = c.occurred_at AND l.id = c.id)")
}

fn within(column: &str, (from, to): Span) -> String {
    format!("{column} >= {} AND {column} < {}", literal(&from.to_rfc3339()), literal(&to.to_rfc3339()))
}

/// A query of the old calls that the call log does not have ([`note_there`]) and that were not dropped after an earlier
/// takeover.
pub(super) fn untaken(log: &OldTable, options: &AdoptOptions, span: Option<Span>) -> String {
    format!(
        "SELECT c.* FROM ({calls}) AS c WHERE c.fault IS NULL {span} AND NOT {there} AND NOT {dropped}",
        calls = calls(log, options),
        span = span.map_or_else(String::new, |span| format!("AND {}", within("c.occurred_at", span))),
        there = is_there(),
        dropped = dropped_since(log),
    )
}

/// A condition: the call `c` was taken over, and has since been dropped from the call log.
pub(super) fn dropped_since(log: &OldTable) -> String {
    format!(
        "EXISTS (SELECT FROM public.tallyd_adoptions AS a JOIN public.tallyd_dropped_partitions AS p \
         ON p.dropped_at > a.started_at WHERE (a.source = {name} OR a.source_oid = {oid}) AND c.occurred_at < a.adopted_to \
         AND c.occurred_at >= p.from_at AND c.occurred_at < p.to_at)",
        name = literal(&log.name),
        oid = log.oid,
    )
}
