//! `GET /api/v1/overview`: the figures of the page's overview, in one round trip and one snapshot.

use std::sync::atomic::Ordering;

use axum::extract::State;
use chrono::{Datelike, Days, Months, NaiveDate};
use serde::Serialize;
use utoipa::ToSchema;

use super::budgets::Budgets;
use crate::http::answer::{Failures, Json};
use crate::http::error::ApiError;
use crate::http::parameters::local_now;
use crate::http::status::status;
use crate::http::{Daemon, Health, HealthReport, SharedDaemon, Status};
use tallyd_model::forecast::{Forecast, Outlook, day_left};
use tallyd_store::queries::costs::total;
use tallyd_store::queries::costs::{Mover, movers};
use tallyd_store::queries::history::spending_history;
use tallyd_store::queries::sums::Sums;
use tallyd_store::unpriced::{UnpricedModel, unpriced};

const MOVERS: i64 = 8;

/// A range of days and its cost.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RangeSums {
    /// The first day, in the reporting time zone.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The sums of the range.
    #[serde(flatten)]
    pub sums: Sums,
}

/// How the daemon is doing, in a few numbers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PipelineGlance {
    /// The worst of its parts.
    pub status: Health,
    /// Records that are acknowledged, so durable, and not in PostgreSQL yet.
    pub unflushed_records: u64,
    /// Records that this daemon has committed to PostgreSQL since it started.
    pub committed_since_start: u64,
    /// The age of the oldest acknowledged record that is not in PostgreSQL yet.
    pub oldest_unflushed_seconds: f64,
    /// The problem and the remedy, if there is a problem.
    pub message: Option<String>,
}

/// The overview.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Overview {
    /// The zone of the days.
    pub time_zone: String,
    /// Today so far.
    pub today: RangeSums,
    /// This month so far.
    pub month_to_date: RangeSums,
    /// As many days of the month before, or all of it if it is shorter.
    pub previous_month_to_date: RangeSums,
    /// The month before, whole.
    pub previous_month: RangeSums,
    /// The estimates for the day and the month.
    pub forecast: Forecast,
    /// The budgets, and the state that acknowledgements carry.
    #[serde(flatten)]
    pub budgets: Budgets,
    /// The largest changes: the seven days before today against the seven before those.
    pub movers: Vec<Mover>,
    /// Models with calls that no price is known for.
    pub unpriced: Vec<UnpricedModel>,
    /// How the daemon is doing.
    pub pipeline: PipelineGlance,
}

/// The first day of a day's month.
fn month(day: NaiveDate) -> NaiveDate {
    // Every month has a first day.
    day.with_day(1).unwrap_or(day)
}

/// The month before: up to its day of the same number or its last, and whole.
fn previous(today: NaiveDate) -> [(NaiveDate, NaiveDate); 2] {
    let first = month(today) - Months::new(1);
    let last = month(today) - Days::new(1);
    [(first, last.min(first + Days::new(u64::from(today.day0())))), (first, last)]
}

/// The figures of the page's overview.
#[utoipa::path(get, path = "/api/v1/overview", tag = "costs",
    responses((status = 200, description = "The overview", body = Overview), Failures))]
pub(crate) async fn overview(State(daemon): State<SharedDaemon>) -> Result<Json<Overview>, ApiError> {
    let now = local_now(&daemon);
    let today = now.date_naive();
    let catalog = daemon.catalog()?;
    let reading = daemon.reading().await?;
    let [to_date, whole] = previous(today);
    let mut ranges = Vec::with_capacity(4);
    for (from, to) in [(today, today), (month(today), today), to_date, whole] {
        ranges.push(RangeSums { from, to, sums: total(&reading, from, to).await? });
    }
    // One range for each variable.
    let [today_sums, month_to_date, previous_month_to_date, previous_month] =
        <[RangeSums; 4]>::try_from(ranges).expect("four ranges");
    let history = spending_history(&reading, today, "").await?;
    let overview = Overview {
        time_zone: daemon.settings.zone.name().to_owned(),
        today: today_sums,
        month_to_date,
        previous_month_to_date,
        previous_month,
        forecast: Outlook::of(&history, day_left(&now)).forecast(),
        budgets: Budgets::read(&daemon, &reading).await?,
        movers: movers(&reading, today, MOVERS).await?,
        unpriced: unpriced(&reading, &catalog).await?,
        pipeline: glance(&daemon),
    };
    reading.finish().await?;
    Ok(Json(overview))
}

fn glance(daemon: &Daemon) -> PipelineGlance {
    let flusher = daemon.loading.get().map(|loading| &loading.flusher);
    let health = HealthReport::of(daemon);
    let message = [&health.ingest, &health.wal, &health.flusher].into_iter().max_by_key(|part| part.status);
    PipelineGlance {
        status: health.status,
        unflushed_records: daemon.wal.unflushed_records(),
        committed_since_start: flusher.map_or(0, |flusher| flusher.committed_records.load(Ordering::Relaxed)),
        oldest_unflushed_seconds: daemon.oldest_unflushed().as_secs_f64(),
        message: message.and_then(|part| part.message.clone()),
    }
}

/// How the daemon is doing: health, the WAL, the database.
#[utoipa::path(get, path = "/api/v1/pipeline", tag = "pipeline",
    responses((status = 200, description = "The status", body = Status), Failures))]
pub(crate) async fn pipeline(State(daemon): State<SharedDaemon>) -> Json<Status> {
    status(State(daemon)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_month_before_has_as_many_days_and_no_more_than_it_has() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        for (today, to_date, last) in [
            ("2026-11-01", "2026-10-01", "2026-10-31"),
            ("2026-11-23", "2026-10-23", "2026-10-31"),
            ("2026-03-31", "2026-02-28", "2026-02-28"),
            ("2026-01-15", "2025-12-15", "2025-12-31"),
        ] {
            let [(first, end), (same, whole)] = previous(day(today));
            assert_eq!((first, end, whole), (same, day(to_date), day(last)), "{today}");
            assert_eq!(first.day(), 1);
        }
    }
}
