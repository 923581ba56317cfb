//! `GET /api/v1/closings`: which vendor-days are closed, and how the looks at the vendors' reports go.

use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, day_range};
use crate::vendors::Vendor;
use tallyd_model::closing::Closing;
use tallyd_store::closings::{self, ClosingsError, FetchState};

const DAYS: u64 = 35;
const DAYS_MAX: u64 = 366;

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClosingParameters {
    /// Only `anthropic` or `openai`.
    #[param(max_length = 16)]
    vendor: Option<String>,
    /// Number of days up to today; 35 by default.
    #[param(minimum = 1, maximum = 366)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`, in UTC.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included.
    #[param(format = Date)]
    to: Option<String>,
}

/// Closed vendor-days.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Closings {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The last entry of each day that was ever closed, by vendor and day. An entry's state is `open` if the day has changed since.
    pub closings: Vec<Closing>,
    /// The looks at the vendors' reports.
    pub fetches: Vec<FetchState>,
}

fn failed(error: ClosingsError) -> ApiError {
    match error {
        ClosingsError::Database(error) => error.into(),
        error @ ClosingsError::Stored { .. } => {
            tracing::warn!(%error, "the record of closings cannot be read");
            ApiError::unavailable("the record of closings cannot be read; `tallyd close verify` says where")
        }
    }
}

/// The state of vendor-days: matched to the cent, differing with the parts of the difference, or open again.
#[utoipa::path(get, path = "/api/v1/closings", tag = "costs", params(ClosingParameters),
    responses((status = 200, description = "The days", body = Closings), Failures))]
pub(crate) async fn closings(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<ClosingParameters>,
) -> Result<Json<Closings>, ApiError> {
    let vendors = match parameters.vendor.as_deref().map(Vendor::parse) {
        None => Vendor::ALL.to_vec(),
        Some(Ok(vendor)) => vec![vendor],
        Some(Err(message)) => return Err(ApiError::parameter("vendor", message, "leave it out for all")),
    };
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    let (from, to) = day_range(&daemon, range, DAYS, DAYS_MAX)?;
    let reading = daemon.reading().await?;
    let mut found = Vec::new();
    for vendor in vendors {
        found.extend(closings::latest(&reading, vendor.name(), (from, to)).await.map_err(failed)?.into_values());
    }
    let fetches = closings::fetches(&reading).await?;
    reading.finish().await?;
    Ok(Json(Closings { from, to, closings: found, fetches }))
}
