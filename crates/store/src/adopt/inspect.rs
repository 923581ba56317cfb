//! Inspection of the old tables: the result that a takeover would have, and sums that do not match.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::rows::calls;
use super::source::{OldTable, Sources};
use super::{AdoptError, AdoptOptions, aside, daily, is_migrated, literal, run};
use tallyd_model::pricing::Catalog;

/// Listed days, models and reasons; further ones are only counted.
const MAX_LISTED: usize = 1000;

/// The findings.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Tables that stand where tallyd's have to be made.
    pub occupied: Vec<String>,
    /// The old log.
    pub log: Option<LogInspection>,
    /// The old daily sums.
    pub daily: Option<DailyInspection>,
}

/// Rows that cannot be taken over, by reason.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The reason.
    pub reason: String,
    /// The number of rows.
    pub rows: i64,
    /// One of them: its id, or its day.
    pub example: String,
}

/// The calls of one model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSums {
    /// The provider.
    pub provider: String,
    /// The model; empty where the calls name none.
    pub model: String,
    /// Number of calls.
    pub calls: i64,
    /// Their cost, in USD, as exact decimal text.
    pub cost_usd: String,
    /// True if the catalog has a price for it.
    pub is_known: bool,
}

/// The old log.
#[derive(Debug, Clone, Serialize)]
pub struct LogInspection {
    /// `schema.table`.
    pub table: String,
    /// The columns that are read, by field.
    pub columns: BTreeMap<&'static str, String>,
    /// Columns that are not read.
    pub unread: Vec<String>,
    /// All rows.
    pub rows: i64,
    /// Rows that can become calls.
    pub calls: i64,
    /// Their cost, in USD, as exact decimal text.
    pub cost_usd: String,
    /// The time of the first call.
    pub first_at: Option<DateTime<Utc>>,
    /// The time of the last call.
    pub last_at: Option<DateTime<Utc>>,
    /// Calls without a user.
    pub without_user: i64,
    /// Calls without a model.
    pub without_model: i64,
    /// Calls without a cost. They become unpriced calls.
    pub without_cost: i64,
    /// Calls whose `date` differs from the day on which they will count: that of their time in the reporting time zone.
    pub other_date: i64,
    /// A zone in which every date is its time's day, if one is known.
    pub date_zone: Option<String>,
    /// The most distinct endpoints on one day.
    pub endpoints_a_day: i64,
    /// Calls that were taken over before.
    pub taken: i64,
    /// Calls that were taken over before, and have since been dropped from the call log.
    pub dropped_since: i64,
    /// Rows that cannot become calls.
    pub problems: Vec<Problem>,
    /// Calls by model, the most expensive first.
    pub models: Vec<ModelSums>,
}

/// The old daily sums.
#[derive(Debug, Clone, Serialize)]
pub struct DailyInspection {
    /// `schema.table`.
    pub table: String,
    /// The columns that are read, by field.
    pub columns: BTreeMap<&'static str, String>,
    /// Columns that are not read.
    pub unread: Vec<String>,
    /// Days by provider that equal the old log.
    pub equal: i64,
    /// Those with equal calls whose cost differs only by the old column's rounding: the old log counts.
    pub rounded: i64,
    /// Their total difference, in USD, as exact decimal text.
    pub rounded_usd: String,
    /// Other differences. Where the sums have fewer calls, the old log counts; where they have more, the rest is in
    /// `missing`.
    pub differing: Vec<DailyDay>,
    /// Sums of days and providers without calls in the old log.
    pub missing: MissingDays,
    /// Rows that cannot be taken over exactly.
    pub problems: Vec<Problem>,
}

/// A day and provider whose log and sums differ. Amounts are in USD, as exact decimal text.
#[derive(Debug, Clone, Serialize)]
pub struct DailyDay {
    /// The day, as the old tables have it.
    pub day: NaiveDate,
    /// The provider.
    pub provider: String,
    /// Calls in the old log.
    pub log_calls: i64,
    /// Calls in the sums; none if there is no such row.
    pub daily_calls: Option<i64>,
    /// Cost in the old log.
    pub log_cost_usd: String,
    /// Cost in the sums; none if there is no such row.
    pub daily_cost_usd: Option<String>,
}

/// Calls that only the sums have, by day, provider, model and endpoint.
#[derive(Debug, Clone, Serialize)]
pub struct MissingDays {
    /// How many.
    pub days: i64,
    /// Their calls.
    pub calls: i64,
    /// Their cost in USD, as exact decimal text.
    pub cost_usd: String,
    /// The first.
    pub first: Option<NaiveDate>,
    /// The last.
    pub last: Option<NaiveDate>,
    /// Those beside a part of the day in the old log, as where calls were deleted with their users.
    pub beside_log: i64,
    /// Their calls.
    pub beside_log_calls: i64,
    /// Their cost in USD, as exact decimal text.
    pub beside_log_cost_usd: String,
    /// Those that were taken over before.
    pub taken: i64,
}

impl Inspection {
    /// Rows of either table that a takeover would leave where they are.
    #[must_use]
    pub fn left_rows(&self) -> i64 {
        let log = self.log.iter().flat_map(|log| &log.problems);
        log.chain(self.daily.iter().flat_map(|daily| &daily.problems)).map(|problem| problem.rows).sum()
    }
}

/// Inspects the old tables; changes nothing.
///
/// # Errors
/// [`AdoptError`]: also if days were taken from the sums, and the old log has calls of them by now.
pub async fn inspect(
    client: &Client,
    sources: &Sources,
    options: &AdoptOptions,
    catalog: &Catalog,
) -> Result<Inspection, AdoptError> {
    let is_migrated = is_migrated(client).await?;
    let mut log = None;
    if let Some(table) = &sources.log {
        log = Some(inspect_log(client, table, options, catalog, is_migrated).await?);
    }
    let mut daily = None;
    if let Some(table) = &sources.daily {
        daily = Some(inspect_daily(client, table, sources, options, is_migrated).await?);
    }
    if is_migrated {
        check_once(client, sources, options).await?;
    }
    Ok(Inspection { occupied: aside::occupied(client).await?, log, daily })
}

async fn one(client: &Client, sql: &str) -> Result<Row, tokio_postgres::Error> {
    let mut rows = client.query_typed(sql, &[]).await?;
    // All queries are aggregates without GROUP BY, which return one row.
    Ok(rows.pop().expect("an aggregate returns a row"))
}

async fn inspect_log(
    client: &Client,
    table: &OldTable,
    options: &AdoptOptions,
    catalog: &Catalog,
    is_migrated: bool,
) -> Result<LogInspection, AdoptError> {
    let calls = calls(table, options);
    let zone = literal(&options.reporting_time_zone);
    let is_call = "FILTER (WHERE c.fault IS NULL";
    let sums = format!(
        "SELECT count(*), count(*) {is_call}), coalesce(sum(c.cost_usd) {is_call}), 0)::text, min(c.occurred_at) {is_call}), \
         max(c.occurred_at) {is_call}), count(*) {is_call} AND c.no_user), count(*) {is_call} AND c.model = ''), \
         count(*) {is_call} AND c.cost_usd IS NULL), \
         count(*) {is_call} AND c.old_date <> (c.occurred_at AT TIME ZONE {zone})::date) FROM ({calls}) AS c"
    );
    let row = one(client, &sums).await?;
    let endpoints = format!(
        "SELECT coalesce(max(e.n), 0)::int8 FROM (SELECT count(DISTINCT c.endpoint) AS n FROM ({calls}) AS c \
         WHERE c.fault IS NULL GROUP BY (c.occurred_at AT TIME ZONE {zone})::date) AS e"
    );
    let (mut taken, mut dropped_since) = (0, 0);
    if is_migrated {
        client.batch_execute("BEGIN").await?;
        let (first, last): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = (row.get(3), row.get(4));
        // Without a call both are the same instant, and the old log has no call at it.
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        run::note_there(client, (first, last + TimeDelta::microseconds(1))).await?;
        let left = format!("SELECT count(*) FROM ({}) AS u", run::untaken(table, options, None));
        taken = row.get::<_, i64>(1) - one(client, &left).await?.get::<_, i64>(0);
        let dropped = run::dropped_since(table);
        let dropped = format!(
            "SELECT count(*) FROM ({calls}) AS c WHERE c.fault IS NULL AND {dropped} AND NOT {there}",
            there = run::is_there(),
        );
        dropped_since = one(client, &dropped).await?.get(0);
        client.batch_execute("ROLLBACK").await?;
    }
    let other_date: i64 = row.get(8);
    Ok(LogInspection {
        table: table.name.clone(),
        columns: names(table),
        unread: table.unread.clone(),
        rows: row.get(0),
        calls: row.get(1),
        cost_usd: row.get(2),
        first_at: row.get(3),
        last_at: row.get(4),
        without_user: row.get(5),
        without_model: row.get(6),
        without_cost: row.get(7),
        other_date,
        date_zone: if other_date == 0 { None } else { date_zone(client, &calls).await? },
        endpoints_a_day: one(client, &endpoints).await?.get(0),
        taken,
        dropped_since,
        problems: problems(client, &calls, "coalesce(min(f.old_id), '')").await?,
        models: models(client, &calls, catalog).await?,
    })
}

fn names(table: &OldTable) -> BTreeMap<&'static str, String> {
    table.fields.iter().map(|(field, column)| (*field, column.name.clone())).collect()
}

/// A zone that explains the dates: the server's, or one of those in which applications usually run.
async fn date_zone(client: &Client, calls: &str) -> Result<Option<String>, AdoptError> {
    let usual = "current_setting('TimeZone'), 'UTC', 'America/New_York', 'America/Chicago', 'America/Denver', \
        'America/Los_Angeles', 'Europe/London', 'Europe/Berlin', 'Asia/Kolkata', 'Asia/Tokyo', 'Australia/Sydney'";
    let sql = format!(
        "SELECT z.zone FROM unnest(ARRAY[{usual}]) WITH ORDINALITY AS z(zone, place) WHERE NOT EXISTS (SELECT FROM ({calls}) AS c \
         WHERE c.fault IS NULL AND c.old_date <> (c.occurred_at AT TIME ZONE z.zone)::date) ORDER BY z.place LIMIT 1"
    );
    Ok(client.query_typed(&sql, &[]).await?.first().map(|row| row.get(0)))
}

async fn problems(client: &Client, rows: &str, example: &str) -> Result<Vec<Problem>, AdoptError> {
    let sql = format!(
        "SELECT f.fault, count(*), {example} FROM ({rows}) AS f WHERE f.fault IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    );
    let rows = client.query_typed(&sql, &[]).await?;
    Ok(rows.iter().map(|row| Problem { reason: row.get(0), rows: row.get(1), example: row.get(2) }).collect())
}

async fn models(client: &Client, calls: &str, catalog: &Catalog) -> Result<Vec<ModelSums>, AdoptError> {
    let sql = format!(
        "SELECT c.provider, c.model, count(*), coalesce(sum(c.cost_usd), 0)::text FROM ({calls}) AS c WHERE c.fault IS NULL \
         GROUP BY 1, 2 ORDER BY coalesce(sum(c.cost_usd), 0) DESC, 3 DESC, 1, 2 LIMIT {MAX_LISTED}"
    );
    let rows = client.query_typed(&sql, &[]).await?;
    let model = |row: &Row| {
        let (provider, model): (String, String) = (row.get(0), row.get(1));
        let is_known = catalog.price_at(&provider, &model, "standard", i64::MAX).is_some();
        ModelSums { provider, model, calls: row.get(2), cost_usd: row.get(3), is_known }
    };
    Ok(rows.iter().map(model).collect())
}

async fn inspect_daily(
    client: &Client,
    table: &OldTable,
    sources: &Sources,
    options: &AdoptOptions,
    is_migrated: bool,
) -> Result<DailyInspection, AdoptError> {
    let log = sources.log.as_ref();
    let compared = format!(
        "SELECT day, provider, log_calls, daily_calls, log_cost::text, daily_cost::text, CASE \
             WHEN log_calls = daily_calls AND log_cost = daily_cost THEN 'equal' \
             WHEN log_calls = daily_calls AND abs(log_cost - daily_cost) <= rounding THEN 'rounded' ELSE '' END, \
             coalesce(sum(abs(log_cost - daily_cost)) FILTER (WHERE log_calls = daily_calls AND abs(log_cost - daily_cost) <= rounding) \
                 OVER (), 0)::text FROM ({}) AS c ORDER BY 1, 2",
        daily::compared(table, log, options),
    );
    let (mut equal, mut rounded, mut rounded_usd, mut differing) = (0, 0, "0".to_owned(), Vec::new());
    for row in client.query_typed(&compared, &[]).await? {
        rounded_usd = row.get(7);
        match row.get(6) {
            "equal" => equal += 1,
            "rounded" => rounded += 1,
            _ => {
                differing.push(DailyDay {
                    day: row.get(0),
                    provider: row.get(1),
                    log_calls: row.get(2),
                    daily_calls: row.get(3),
                    log_cost_usd: row.get(4),
                    daily_cost_usd: row.get(5),
                });
            }
        }
    }
    let missing = daily::missing(table, log, options);
    let sums = format!(
        "SELECT count(*), coalesce(sum(m.calls), 0)::int8, coalesce(sum(m.cost_usd), 0)::text, min(m.day), max(m.day), \
         count(*) FILTER (WHERE m.log_calls > 0), coalesce(sum(m.calls) FILTER (WHERE m.log_calls > 0), 0)::int8, \
         coalesce(sum(m.cost_usd) FILTER (WHERE m.log_calls > 0), 0)::text FROM ({missing}) AS m"
    );
    let row = one(client, &sums).await?;
    let mut taken = 0;
    if is_migrated {
        let sql = format!(
            "SELECT count(*) FROM ({missing}) AS m JOIN public.tallyd_adopted_days USING (day, provider, model, endpoint)"
        );
        taken = one(client, &sql).await?.get(0);
    }
    let missing = MissingDays {
        days: row.get(0),
        calls: row.get(1),
        cost_usd: row.get(2),
        first: row.get(3),
        last: row.get(4),
        beside_log: row.get(5),
        beside_log_calls: row.get(6),
        beside_log_cost_usd: row.get(7),
        taken,
    };
    let problems = problems(client, &daily::rows(table), "coalesce(min(f.day)::text, '')").await?;
    let mut columns = names(table);
    if !table.wide.is_empty() {
        let providers: Vec<&str> = table.wide.iter().map(|wide| &*wide.provider).collect();
        columns.insert("provider", format!("a column each: {}", providers.join(", ")));
    }
    Ok(DailyInspection {
        table: table.name.clone(),
        columns,
        unread: table.unread.clone(),
        equal,
        rounded,
        rounded_usd,
        differing,
        missing,
        problems,
    })
}

/// Checks that no day counts twice: once from the sums, and once from the old log.
async fn check_once(client: &Client, sources: &Sources, options: &AdoptOptions) -> Result<(), AdoptError> {
    if sources.log.is_none() {
        let adopted = "SELECT source FROM public.tallyd_adoptions ORDER BY source LIMIT 1";
        let adopted = client.query_typed(adopted, &[]).await?;
        return adopted.first().map_or(Ok(()), |row| Err(AdoptError::LogNeeded(row.get(0))));
    }
    let sql = format!(
        "SELECT count(*), min(day) FROM public.tallyd_adopted_days AS a JOIN ({}) AS g USING (day, provider) WHERE g.calls > a.log_calls",
        daily::log_days(sources.log.as_ref(), options)
    );
    let rows = client.query_typed(&sql, &[] as &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)]).await?;
    match rows.first().map(|row| (row.get(0), row.get(1))) {
        Some((days, Some(first))) => Err(AdoptError::Regained { days, first }),
        _ => Ok(()),
    }
}
