//! Reports of finished days, weeks and months: read from the rollups in one snapshot, and queued for their routes.
//!
//! *Once.* A report's key is its period and its route, and `api_alerts` has each key once: no restart and no other daemon
//! sends it again. Two daemons may compute the same report at the same time; one of them stores it.
//!
//! *Exact.* The sums are those of the rollups. Calls that arrive after a report was written are in the next one's period
//! before, which is read anew.

use chrono::{DateTime, Days, NaiveDate};
use tallyd_model::zone::Tz;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, IsolationLevel};

use crate::budgets::board::{basis_points, percent};
use crate::budgets::estimates::estimates;
use crate::budgets::inbox::{NewAlert, raise};
use crate::budgets::{Budget, Period, store};
use crate::dimensions;
use crate::queries::sums::{OF_ROLLUP, Sums};
use tallyd_model::report::{
    Report, ReportBudget, ReportClosings, ReportMover, ReportMovers, ReportSums, ReportUnpriced, headline, percent_of,
};

/// Movers of a dimension, and unpriced models, of a report.
const TOP_MAX: i64 = 5;
/// Budgets of a report.
const BUDGETS_MAX: usize = 30;

/// Three days: the first of the period before, the first of the period, the day after its last.
#[derive(Debug, Clone, Copy)]
struct Span {
    before: NaiveDate,
    first: NaiveDate,
    end: NaiveDate,
}

/// The last period that has ended by `today`.
#[must_use]
pub fn last_ended(period: Period, today: NaiveDate) -> NaiveDate {
    let (first, _) = period.around(today);
    period.around(first - Days::new(1)).0
}

/// The report of the period around `day`, read in one snapshot.
///
/// # Errors
/// PostgreSQL's.
pub async fn snapshot(
    client: &mut Client,
    period: Period,
    day: NaiveDate,
    now: &DateTime<Tz>,
) -> Result<Report, Error> {
    let reading = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = reading.start().await?;
    let report = read(transaction.client(), period, day, now).await?;
    transaction.commit().await?;
    Ok(report)
}

/// The same in the caller's snapshot.
///
/// # Errors
/// PostgreSQL's.
pub async fn read(client: &Client, period: Period, day: NaiveDate, now: &DateTime<Tz>) -> Result<Report, Error> {
    let (first, end) = period.around(day);
    let (before, _) = period.around(first - Days::new(1));
    let span = Span { before, first, end };
    let total = sums(client, first, end).await?;
    let earlier = sums(client, before, first).await?;
    let change = total.cost_usd.checked_sub(earlier.cost_usd).unwrap_or_default();
    Ok(Report {
        period: period.name().to_owned(),
        first,
        last: end - Days::new(1),
        before_first: before,
        time_zone: now.timezone().name().to_owned(),
        total,
        before: earlier,
        change_usd: change,
        change_percent: percent_of(change, earlier.cost_usd),
        movers: movers(client, span).await?,
        budgets: budgets(client, now).await?,
        unpriced: unpriced(client, span).await?,
        closings: closings(client, span).await?,
    })
}

/// The vendors' days. They are UTC days of the period's dates.
async fn closings(client: &Client, span: Span) -> Result<Vec<ReportClosings>, Error> {
    let sql = "SELECT v.vendor, count(*) FILTER (WHERE c.state = 'matched'), count(*) FILTER (WHERE c.state = 'differs'), \
             round(coalesce(sum(c.recorded_usd - c.billed_usd) FILTER (WHERE c.state = 'differs'), 0), 18) \
         FROM (SELECT DISTINCT vendor FROM public.tallyd_vendor_closings) AS v \
         LEFT JOIN (SELECT DISTINCT ON (vendor, day) vendor, state, recorded_usd, billed_usd \
             FROM public.tallyd_vendor_closings WHERE day >= $1 AND day < $2 ORDER BY vendor, day, number DESC) AS c \
             USING (vendor) GROUP BY 1 ORDER BY 1";
    let rows = client.query_typed(sql, &[(&span.first, Type::DATE), (&span.end, Type::DATE)]).await?;
    let days = (span.end - span.first).num_days().unsigned_abs();
    let vendor = |row: &tokio_postgres::Row| {
        let [matched, differs] = [1, 2].map(|at| row.get::<_, i64>(at).unsigned_abs());
        let open = days.saturating_sub(matched + differs);
        let (vendor, difference_usd) = (row.try_get(0)?, row.try_get(3)?);
        Ok(ReportClosings { vendor, matched, differs, open, difference_usd, parts: Vec::new() })
    };
    let mut found: Vec<ReportClosings> = rows.iter().map(vendor).collect::<Result<_, Error>>()?;
    let sql = "SELECT vendor, r ->> 'kind' FROM (SELECT DISTINCT ON (vendor, day) vendor, state, residues \
             FROM public.tallyd_vendor_closings WHERE day >= $1 AND day < $2 ORDER BY vendor, day, number DESC) AS c, \
             jsonb_array_elements(c.residues) AS r \
         WHERE c.state = 'differs' GROUP BY 1, 2 ORDER BY 1, sum(abs((r ->> 'difference_usd')::numeric)) DESC, 2";
    for row in client.query_typed(sql, &[(&span.first, Type::DATE), (&span.end, Type::DATE)]).await? {
        // A kind of a newer version is left out.
        let kind = serde_json::from_value(row.get::<_, String>(1).into()).ok();
        let of = found.iter_mut().find(|one| one.vendor == row.get::<_, &str>(0));
        if let (Some(of), Some(kind)) = (of, kind) {
            of.parts.push(kind);
        }
    }
    Ok(found)
}

async fn sums(client: &Client, first: NaiveDate, end: NaiveDate) -> Result<ReportSums, Error> {
    let sql = format!("SELECT {OF_ROLLUP} FROM public.daily_api_costs WHERE day >= $1 AND day < $2");
    let rows = client.query_typed(&sql, &[(&first, Type::DATE), (&end, Type::DATE)]).await?;
    // An aggregate always returns one row.
    let sums = rows.first().map_or_else(|| Ok(Sums::default()), |row| Sums::read(row, 0))?;
    let tokens = [
        sums.input_tokens,
        sums.output_tokens,
        sums.cache_read_tokens,
        sums.cache_write_5m_tokens,
        sums.cache_write_1h_tokens,
    ];
    Ok(ReportSums {
        cost_usd: sums.cost_usd,
        calls: sums.calls.to_u64(),
        errors: sums.errors.to_u64(),
        tokens: tokens.iter().fold(0u64, |sum, tokens| sum.saturating_add(tokens.to_u64())),
        unpriced_calls: sums.unpriced_calls.to_u64(),
    })
}

async fn movers(client: &Client, span: Span) -> Result<Vec<ReportMovers>, Error> {
    let model = "CASE model WHEN '' THEN provider ELSE model END";
    let mut found = Vec::new();
    for (by, table, name) in [("model", "daily_api_costs", model), ("user", "tallyd_user_day_parts", "user_id")] {
        let movers = largest(client, table, name, "$4 = ''", "", span).await?;
        found.push(ReportMovers { by: by.to_owned(), whole_from: None, movers });
    }
    for dimension in dimensions::list(client).await? {
        let movers = largest(client, "daily_dimension_costs", "value", "dimension = $4", &dimension.name, span).await?;
        let whole_from = dimension.told_from().filter(|day| *day > span.before);
        found.push(ReportMovers { by: dimension.name, whole_from, movers });
    }
    Ok(found)
}

/// The parts of a rollup whose cost changed most. `table`, `name` and `filter` come from this module.
async fn largest(
    client: &Client,
    table: &str,
    name: &str,
    filter: &str,
    dimension: &str,
    span: Span,
) -> Result<Vec<ReportMover>, Error> {
    let sql = format!(
        "SELECT name, recent, earlier FROM (SELECT {name} AS name, \
            round(coalesce(sum(cost_usd) FILTER (WHERE day >= $2), 0), 18) AS recent, \
            round(coalesce(sum(cost_usd) FILTER (WHERE day < $2), 0), 18) AS earlier \
            FROM public.{table} WHERE day >= $1 AND day < $3 AND {filter} GROUP BY 1) AS m \
         WHERE recent <> earlier ORDER BY abs(recent - earlier) DESC, name LIMIT {TOP_MAX}"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&span.before, Type::DATE), (&span.first, Type::DATE), (&span.end, Type::DATE), (&dimension, Type::TEXT)];
    let rows = client.query_typed(&sql, &parameters).await?;
    let mover = |row: &tokio_postgres::Row| {
        Ok(ReportMover { name: row.try_get(0)?, cost_usd: row.try_get(1)?, before_usd: row.try_get(2)? })
    };
    rows.iter().map(mover).collect()
}

async fn budgets(client: &Client, now: &DateTime<Tz>) -> Result<Vec<ReportBudget>, Error> {
    let board = store::board(client, now.date_naive()).await?;
    let estimates = estimates(client, &board, now).await?;
    let mut states: Vec<_> = board.states().iter().collect();
    let used = |spent, amount| basis_points(spent, amount);
    // The fullest first.
    states.sort_by_key(|state| (-used(state.spent_usd, state.budget.amount_usd), state.budget.id));
    let line = |state: &&crate::budgets::BudgetState| ReportBudget {
        name: name_of(&state.budget),
        spent_usd: state.spent_usd,
        amount_usd: state.budget.amount_usd,
        used_percent: percent(used(state.spent_usd, state.budget.amount_usd)),
        forecast_usd: estimates.get(&state.budget.id).and_then(|estimate| estimate.expected_usd),
    };
    Ok(states.iter().take(BUDGETS_MAX).map(line).collect())
}

fn name_of(budget: &Budget) -> String {
    format!("{}, {}", budget.period.adjective(), budget.scope.words())
}

async fn unpriced(client: &Client, span: Span) -> Result<Vec<ReportUnpriced>, Error> {
    let sql = format!(
        "SELECT provider, model, sum(unpriced_calls)::int8 FROM public.daily_api_costs \
         WHERE day >= $1 AND day < $2 AND unpriced_calls > 0 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {TOP_MAX}"
    );
    let rows = client.query_typed(&sql, &[(&span.first, Type::DATE), (&span.end, Type::DATE)]).await?;
    let model = |row: &tokio_postgres::Row| ReportUnpriced {
        provider: row.get(0),
        model: row.get(1),
        calls: row.get::<_, i64>(2).unsigned_abs(),
    };
    Ok(rows.iter().map(model).collect())
}

/// Queues the report of the last period that has ended, for each route that has none of it yet. Returns the number of
/// queued reports.
///
/// # Errors
/// PostgreSQL's.
pub async fn queue(client: &mut Client, period: Period, routes: &[String], now: &DateTime<Tz>) -> Result<u64, Error> {
    let first = last_ended(period, now.date_naive());
    let key = |route: &String| format!("{}/{first}/{route}", period.name());
    let mut keys: Vec<String> = routes.iter().map(key).collect();
    let sql = "SELECT key FROM public.api_alerts WHERE kind = 'report' AND key = ANY ($1)";
    let rows = client.query_typed(sql, &[(&keys, Type::TEXT_ARRAY)]).await?;
    let known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    keys.retain(|key| !known.contains(key));
    if keys.is_empty() {
        return Ok(0);
    }
    let report = snapshot(client, period, first, now).await?;
    // A report is a struct of texts and numbers, which JSON has.
    let details = serde_json::to_value(&report).unwrap_or_default();
    let mut queued = 0;
    for (key, route) in routes.iter().map(|route| (key(route), route)).filter(|(key, _)| keys.contains(key)) {
        let alert = NewAlert {
            kind: "report",
            key,
            message: headline(&report),
            details: details.clone(),
            route: route.clone(),
            // A report asks nobody to look.
            seen_by: Some("tallyd"),
            ..NewAlert::default()
        };
        queued += raise(client, &[alert]).await?;
    }
    Ok(queued)
}
