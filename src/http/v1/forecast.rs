//! `GET /api/v1/forecast`: forecast of costs, with the days before and after for a chart.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, local_now, text};
use tallyd_model::forecast::{Estimate, Forecast, Outlook, day_left};
use tallyd_model::pricing::{Usd, normalise_provider};
use tallyd_store::queries::history::spending_history;

/// Of what.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForecastParameters {
    /// Only this provider.
    #[param(max_length = 512)]
    provider: Option<String>,
    /// `json` (the default), or `csv`: a line a day, those that were and the 30 that come.
    format: Option<Format>,
}

/// A day that was, today as far as it went.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PastDay {
    /// The day, in the reporting time zone.
    pub day: NaiveDate,
    /// Its cost.
    #[schema(value_type = String, example = "12.345")]
    pub cost_usd: Usd,
}

/// The forecast and its days.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ForecastAnswer {
    /// The estimates.
    #[serde(flatten)]
    pub forecast: Forecast,
    /// The zone of the days.
    pub time_zone: String,
    /// The days that it was made from, oldest first; the last one is today.
    pub past: Vec<PastDay>,
    /// The 30 days after today, one by one.
    pub ahead: Vec<Estimate>,
}

/// A day as a line of CSV.
#[derive(Serialize)]
struct Line {
    day: NaiveDate,
    spent_usd: Usd,
    expected_usd: Option<Usd>,
    low_usd: Option<Usd>,
    high_usd: Option<Usd>,
}

const COLUMNS: &[&str] = &["day", "spent_usd", "expected_usd", "low_usd", "high_usd", csv::ZONE];

impl ForecastAnswer {
    fn lines(self) -> Vec<Line> {
        let none = (None, None, None);
        let past = self.past.into_iter().map(|past| (past.day, past.cost_usd, none));
        let ahead = self.ahead.into_iter();
        let ahead = ahead.map(|day| (day.until, day.spent_usd, (day.expected_usd, day.low_usd, day.high_usd)));
        let line = |(day, spent_usd, (expected_usd, low_usd, high_usd))| Line {
            day,
            spent_usd,
            expected_usd,
            low_usd,
            high_usd,
        };
        past.chain(ahead).map(line).collect()
    }
}

/// Forecast of spend: today, this month, the next 30 days.
#[utoipa::path(get, path = "/api/v1/forecast", tag = "costs", params(ForecastParameters),
    responses((status = 200, description = "The forecast", content((ForecastAnswer = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn forecast(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<ForecastParameters>,
) -> Result<Response, ApiError> {
    let provider = text("provider", parameters.provider)?.unwrap_or_default();
    let now = local_now(&daemon);
    let reading = daemon.reading().await?;
    let history = spending_history(&reading, now.date_naive(), &normalise_provider(&provider)).await?;
    reading.finish().await?;
    let outlook = Outlook::of(&history, day_left(&now));
    // Today is the last of them.
    let days = history.days();
    let first = history.today - Days::new(days.len().saturating_sub(1) as u64);
    let past = first.iter_days().zip(days).map(|(day, cost_usd)| PastDay { day, cost_usd });
    let answer = ForecastAnswer {
        forecast: outlook.forecast(),
        time_zone: daemon.settings.zone.name().to_owned(),
        past: past.collect(),
        ahead: outlook.days(),
    };
    match parameters.format.unwrap_or_default() {
        Format::Json => Ok(Json(answer).into_response()),
        Format::Csv => csv::zoned("forecast", COLUMNS, &answer.lines(), daemon.settings.zone),
    }
}
