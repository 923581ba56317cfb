//! `/api/v1/report`: the report of a day, week or month.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, date, local_now};
use tallyd_model::report::Report;
use tallyd_store::budgets::Period;
use tallyd_store::report::{last_ended, read};

/// Which report.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportParameters {
    /// `day`, `week` (the default) or `month`.
    period: Option<Period>,
    /// A day of the period; the last period that has ended if nothing is said.
    #[param(format = Date)]
    of: Option<String>,
}

/// The report of a period: its spend against the period before, top movers, budgets, unpriced calls.
#[utoipa::path(get, path = "/api/v1/report", tag = "costs", params(ReportParameters),
    responses((status = 200, description = "The report", body = Report), Failures))]
pub(crate) async fn report(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Json<Report>, ApiError> {
    let now = local_now(&daemon);
    let period = parameters.period.unwrap_or(Period::Week);
    let of = parameters.of.map(|day| date("of", &day)).transpose()?;
    let day = of.unwrap_or_else(|| last_ended(period, now.date_naive()));
    let reading = daemon.reading().await?;
    let report = read(&reading, period, day, &now).await?;
    reading.finish().await?;
    Ok(Json(report))
}
