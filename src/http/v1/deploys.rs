//! `/api/v1/deploys`: deploys of applications, told by CI jobs, marked in charts of costs.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Parameters, PathNumber, ROLLUP_DAYS_MAX, day_range, instant, limit, now, text};
use tallyd_store::deploys::{self as store, Deploy, DeployError, NewDeploy};

const DAYS: u64 = 30;
const DEPLOYS: i64 = 1_000;

/// Which deploys.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeployParameters {
    /// Number of days up to today; 30 by default.
    #[param(minimum = 1, maximum = 3660)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included.
    #[param(format = Date)]
    to: Option<String>,
    /// Only this application's.
    #[param(max_length = 512)]
    app: Option<String>,
    /// Deploys of the answer; 1,000 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// Deploys of some days.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deploys {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The zone of the days.
    pub time_zone: String,
    /// The deploys, newest first.
    pub deploys: Vec<Deploy>,
}

/// Deploys of applications, newest first. The last 1,000 of each sender are kept.
#[utoipa::path(get, path = "/api/v1/deploys", tag = "deploys", params(DeployParameters),
    responses((status = 200, description = "The deploys", body = Deploys), Failures))]
pub(crate) async fn deploys(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<DeployParameters>,
) -> Result<Json<Deploys>, ApiError> {
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    let (from, to) = day_range(&daemon, range, DAYS, ROLLUP_DAYS_MAX)?;
    let limit = limit(parameters.limit, DEPLOYS, DEPLOYS)?;
    let app = text("app", parameters.app)?;
    let zone = daemon.settings.zone;
    let reading = daemon.reading().await?;
    let deploys = store::list(&reading, (from, to), zone, app.as_deref(), limit).await?;
    reading.finish().await?;
    Ok(Json(Deploys { from, to, time_zone: zone.name().to_owned(), deploys }))
}

/// A deploy to note.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToldDeploy {
    /// The application, as its records name it.
    #[schema(min_length = 1, max_length = 512, example = "web")]
    app: String,
    /// The version.
    #[schema(min_length = 1, max_length = 200, example = "1.4.2")]
    version: String,
    /// When: RFC 3339. Now if nothing is said. With it, a repeated request notes one deploy.
    #[serde(default)]
    at: Option<String>,
    /// The author.
    #[serde(default)]
    #[schema(max_length = 200)]
    by: String,
}

/// Notes a deploy, for the role `ingest` as well: a CI job tells it with a token of its own. A deploy of the same application,
/// version and time is noted once.
#[utoipa::path(post, path = "/api/v1/deploys", tag = "deploys", request_body = ToldDeploy,
    responses((status = 200, description = "It is noted", body = Deploy), Failures))]
pub(crate) async fn add(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(told): JsonBody<ToldDeploy>,
) -> Result<Json<Deploy>, ApiError> {
    let ToldDeploy { app, version, at, by } = told;
    let at = at.map(|at| instant(&daemon, "at", &at)).transpose()?.unwrap_or_else(|| now(&daemon));
    let mut client = daemon.pool()?.get().await?;
    let noted = store::add(&mut client, &NewDeploy { app, version, at, by }, &who.actor()).await;
    let deploy = noted.map_err(|error| match error {
        DeployError::Database(error) => error.into(),
        DeployError::Invalid(fault) => {
            ApiError::body(fault, "{\"app\": \"web\", \"version\": \"1.4.2\", \"by\": \"ann\"}")
        }
    })?;
    tracing::info!(actor = who.actor, app = deploy.app, version = deploy.version, "a deploy was told");
    Ok(Json(deploy))
}

/// Removes a deploy.
#[utoipa::path(delete, path = "/api/v1/deploys/{id}", tag = "deploys",
    params(("id" = i64, Path, description = "The deploy's number", minimum = 1)),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is none of this number", body = ErrorBody), Failures))]
pub(crate) async fn remove(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    PathNumber(id): PathNumber<i64>,
) -> Result<StatusCode, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    if !store::remove(&mut client, id, &who.actor()).await? {
        return Err(ApiError::not_found("there is no deploy of this number", "GET /api/v1/deploys lists them"));
    }
    tracing::info!(actor = who.actor, id, "a deploy was removed");
    Ok(StatusCode::NO_CONTENT)
}
