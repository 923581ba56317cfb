//! `GET /api/v1/latency`: how long calls took.

use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::costs::filters;
use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::error::ApiError;
use crate::http::parameters::{ROLLUP_DAYS_MAX, TaggedParameters, day_range};
use tallyd_store::queries::grouped::{Dimension, LOG_DAYS_MAX};
use tallyd_store::queries::latency::{LatencyGroups, LatencyQuery, LatencyRow};

/// Days of an answer by default.
const DAYS: u64 = 1;

/// The parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LatencyParameters {
    /// Number of days up to today; 1 by default.
    #[param(minimum = 1, maximum = 31)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included.
    #[param(format = Date)]
    to: Option<String>,
    /// The groups; `provider,model` if nothing is said.
    #[param(inline)]
    group_by: Option<LatencyGroups>,
    /// Only this provider.
    #[param(max_length = 512)]
    provider: Option<String>,
    /// Only this model.
    #[param(max_length = 512)]
    model: Option<String>,
    /// Only this endpoint.
    #[param(max_length = 512)]
    endpoint: Option<String>,
    /// Only this user.
    #[param(max_length = 512)]
    user: Option<String>,
    /// Only this application.
    #[param(max_length = 512)]
    app: Option<String>,
}

/// Latencies by group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Latencies {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The groups with the most calls, at most 1,000.
    pub rows: Vec<LatencyRow>,
}

/// Latencies of calls: the median and the 95th percentile, exact, from the call log over at most 31 days.
///
/// A parameter `tag:team=search` reads the calls with that tag only; an empty value, those without it.
#[utoipa::path(get, path = "/api/v1/latency", tag = "costs", params(LatencyParameters),
    responses((status = 200, description = "The groups", body = Latencies), Failures))]
pub(crate) async fn latency(
    State(daemon): State<SharedDaemon>,
    TaggedParameters(parameters, tags): TaggedParameters<LatencyParameters>,
) -> Result<Json<Latencies>, ApiError> {
    let named = [
        (Dimension::Provider, parameters.provider),
        (Dimension::Model, parameters.model),
        (Dimension::Endpoint, parameters.endpoint),
        (Dimension::User, parameters.user),
        (Dimension::App, parameters.app),
    ];
    let filters = filters(tags, named)?;
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    let asked = day_range(&daemon, range, DAYS, LOG_DAYS_MAX);
    let (from, to) = match asked {
        Err(_) if day_range(&daemon, range, DAYS, ROLLUP_DAYS_MAX).is_ok() => {
            let why = format!("latencies are read from single calls: at most {LOG_DAYS_MAX} days");
            return Err(ApiError::parameter("from", why, "ask for a shorter range: days=31"));
        }
        asked => asked?,
    };
    let group_by = parameters.group_by.unwrap_or_default();
    let question = LatencyQuery { from, to, zone: daemon.settings.zone.name().to_owned(), group_by, filters };
    let reading = daemon.reading().await?;
    let rows = question.ask(&reading).await?;
    reading.finish().await?;
    Ok(Json(Latencies { from, to, rows }))
}
