//! `GET /api/v1/forecast`: what spending will come to.

use axum::Json;
use axum::extract::State;
use chrono::Timelike;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::forecast::{Forecast, forecast as estimate, history};
use crate::http::answer::Failures;
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, now, text};
use crate::http::router::Handle;
use crate::pricing::normalise_provider;

const DAY_SECONDS: f64 = 86_400.0;

/// Of what.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ForecastParameters {
    /// Only this provider's spending.
    #[param(max_length = 512)]
    provider: Option<String>,
}

/// What spending comes to by the end of the day, of the month, and in the next 30 days, with its interval.
#[utoipa::path(get, path = "/api/v1/forecast", tag = "costs", params(ForecastParameters),
    responses((status = 200, description = "The estimates", body = Forecast), Failures))]
pub async fn forecast(
    State(view): State<Handle>,
    Parameters(parameters): Parameters<ForecastParameters>,
) -> Result<Json<Forecast>, ApiError> {
    let provider = text("provider", parameters.provider)?.unwrap_or_default();
    let now = now(&view).with_timezone(&view.settings.zone);
    let reading = view.reading().await?;
    let history = history(&reading, now.date_naive(), &normalise_provider(&provider)).await?;
    reading.finish().await?;
    let left = 1.0 - f64::from(now.num_seconds_from_midnight()) / DAY_SECONDS;
    Ok(Json(estimate(&history, left)))
}
