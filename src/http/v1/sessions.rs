//! `GET /api/v1/sessions`: Supabase's sessions, in three numbers with their meaning; `…/history`: their hourly samples.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, day_range};
use tallyd_store::session_samples::{KEPT_DAYS, SessionSample, samples};
use tallyd_store::sessions as counted;

/// The answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SessionsAnswer {
    /// False if there are no `auth.sessions` and `auth.users` that the daemon may read.
    pub available: bool,
    /// The numbers; null if they are not available.
    pub sessions: Option<counted::Sessions>,
}

/// In which form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionParameters {
    /// `json` (the default), or `csv`: a line a number; none where they are not available.
    format: Option<Format>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'static str,
    #[serde(flatten)]
    counted: &'a counted::Counted,
}

const COLUMNS: &[&str] = &["name", "count", "definition"];

impl SessionsAnswer {
    fn lines(&self) -> Vec<Line<'_>> {
        let Some(counted::Sessions { active, refreshed_24h, signed_in_24h, .. }) = &self.sessions else {
            return Vec::new();
        };
        let named = [("active", active), ("refreshed_24h", refreshed_24h), ("signed_in_24h", signed_in_24h)];
        named.into_iter().map(|(name, counted)| Line { name, counted }).collect()
    }
}

/// Sessions of Supabase's users.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "users", params(SessionParameters),
    responses((status = 200, description = "The numbers", content((SessionsAnswer = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn sessions(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<SessionParameters>,
) -> Result<Response, ApiError> {
    let reading = daemon.reading().await?;
    let sessions = counted::sessions(&*reading, (&daemon.settings.users).into()).await?;
    reading.finish().await?;
    let answer = SessionsAnswer { available: sessions.is_some(), sessions };
    match parameters.format.unwrap_or_default() {
        Format::Json => Ok(Json(answer).into_response()),
        Format::Csv => csv::whole("sessions", COLUMNS, &answer.lines()),
    }
}

/// Days of a history by default.
const DAYS: u64 = 7;
const SAMPLE_COLUMNS: &[&str] = &["hour", "active", "active_users", "refreshed_24h", "signed_in_24h"];

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionHistoryParameters {
    /// Number of days up to today; 7 by default.
    #[param(minimum = 1, maximum = 90)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included.
    #[param(format = Date)]
    to: Option<String>,
    /// `json` (the default), or `csv`: a line a sample.
    format: Option<Format>,
}

/// Samples of the sessions' numbers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SessionHistory {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The zone of the days.
    pub time_zone: String,
    /// By hour. An hour in which no daemon looked, or in which there were no sessions to read, is missing.
    pub samples: Vec<SessionSample>,
}

/// Sessions over time: a sample an hour, of the last 90 days.
#[utoipa::path(get, path = "/api/v1/sessions/history", tag = "users", params(SessionHistoryParameters),
    responses((status = 200, description = "The samples", content((SessionHistory = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn history(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<SessionHistoryParameters>,
) -> Result<Response, ApiError> {
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    let (from, to) = day_range(&daemon, range, DAYS, u64::from(KEPT_DAYS.unsigned_abs()))?;
    let zone = daemon.settings.zone;
    let reading = daemon.reading().await?;
    let samples = samples(&*reading, (from, to), zone).await?;
    reading.finish().await?;
    match parameters.format.unwrap_or_default() {
        Format::Json => {
            Ok(Json(SessionHistory { from, to, time_zone: zone.name().to_owned(), samples }).into_response())
        }
        Format::Csv => csv::whole("session-history", SAMPLE_COLUMNS, &samples),
    }
}
