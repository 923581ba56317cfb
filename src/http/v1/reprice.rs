//! `POST /api/v1/reprice/plan` and `POST /api/v1/reprice`: computes stored costs anew, as `tallyd reprice` does.
//!
//! A request works for about [`WORK`] and answers how far the job is. The job's row has its position, so that the same
//! request, sent again until `done`, continues it: from this page, another one, another daemon, or the command line.

use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{instant, text};
use tallyd_model::pricing::{Catalog, Usd, normalise_provider};
use tallyd_store::Connection;
use tallyd_store::prices::read_added;
use tallyd_store::reprice::{
    DroppedCalls, Preview, RepriceError, RepriceOptions, dropped_calls, preview, reprice as run,
};

/// How long one request works, beside the step that is under way then.
const WORK: Duration = Duration::from_secs(2);
/// About how many calls a step reads.
const STEP_CALLS: u32 = 20_000;
/// The most rows of a plan.
const PLAN_ROWS: usize = 1_000;

/// The calls to price anew.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepriceScope {
    /// Calls from here on: RFC 3339, or a day of the reporting time zone.
    #[schema(example = "2026-11-01")]
    from: String,
    /// Calls before this: RFC 3339, or a day of the reporting time zone.
    #[schema(example = "2026-12-01T00:00:00Z")]
    to: String,
    /// Only this provider's calls; all if it is empty.
    #[serde(default)]
    #[schema(max_length = 512)]
    provider: String,
    /// Only this model's calls, as the call log names it; all if it is empty.
    #[serde(default)]
    #[schema(max_length = 512)]
    model: String,
    /// Also calls whose cost the caller stated.
    #[serde(default)]
    include_client: bool,
    /// Leave calls that were dropped from the call log at their cost, and price the others.
    #[serde(default)]
    skip_dropped: bool,
}

impl RepriceScope {
    fn options(&self, daemon: &SharedDaemon) -> Result<RepriceOptions, ApiError> {
        for (name, value) in [("provider", &self.provider), ("model", &self.model)] {
            text(name, Some(value.clone()))?;
        }
        let (from, to) = (instant(daemon, "from", &self.from)?, instant(daemon, "to", &self.to)?);
        if from >= to {
            return Err(ApiError::body("from must be before to", "to is the first instant that is left out"));
        }
        Ok(RepriceOptions {
            from_us: from.timestamp_micros(),
            to_us: to.timestamp_micros(),
            provider: normalise_provider(&self.provider).into_owned(),
            model: self.model.clone(),
            include_client: self.include_client,
            batch_rows: STEP_CALLS,
        })
    }
}

/// The changes that repricing would make.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepricePlan {
    /// The calls, and their sums by day and model; at most 1,000 of these.
    pub calls: Preview,
    /// Sums by day and model that are left off.
    pub days_left_off: usize,
    /// Calls of the period that were dropped from the call log, and cannot be priced anew; null if there are none.
    pub dropped: Option<DroppedCalls>,
}

/// The changes that repricing would make. Changes nothing.
#[utoipa::path(post, path = "/api/v1/reprice/plan", tag = "prices", request_body = RepriceScope,
    responses((status = 200, description = "The plan", body = RepricePlan), Failures))]
pub(crate) async fn plan(
    State(daemon): State<SharedDaemon>,
    JsonBody(scope): JsonBody<RepriceScope>,
) -> Result<Json<RepricePlan>, ApiError> {
    let options = scope.options(&daemon)?;
    let reading = daemon.reading().await?;
    let dropped = dropped_calls(&reading, options.from_us, options.to_us).await?;
    let catalog = catalog(&daemon, &reading).await?;
    let mut calls = preview(&reading, &catalog, &options).await.map_err(failed)?;
    reading.finish().await?;
    let days_left_off = calls.days.len().saturating_sub(PLAN_ROWS);
    calls.days.truncate(PLAN_ROWS);
    Ok(Json(RepricePlan { calls, days_left_off, dropped }))
}

/// How far a repricing is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepriceProgress {
    /// The job's number.
    pub job: i64,
    /// Whether the whole period is priced anew. Otherwise send the same request again.
    pub done: bool,
    /// Whether an earlier request or command had begun the job.
    pub resumed: bool,
    /// Every call before this instant is done.
    pub position: DateTime<Utc>,
    /// Calls that this request has read.
    pub read: u64,
    /// Calls that it has changed.
    pub changed: u64,
    /// Of those, the ones that were unpriced.
    pub priced: u64,
    /// By how much it has changed the sum of all costs.
    #[schema(value_type = String, example = "1.5")]
    pub difference_usd: Usd,
}

/// Computes stored costs anew with the prices in force, call log and rollups together. Works for some seconds; send the same
/// request again until `done`.
#[utoipa::path(post, path = "/api/v1/reprice", tag = "prices", request_body = RepriceScope,
    responses((status = 200, description = "How far it is", body = RepriceProgress),
        (status = 409, description = "Calls of the period were dropped from the call log, or another process works on the same job", body = ErrorBody),
        Failures))]
pub(crate) async fn reprice(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(scope): JsonBody<RepriceScope>,
) -> Result<Json<RepriceProgress>, ApiError> {
    let options = scope.options(&daemon)?;
    let connection: Connection = daemon.connect("tallyd reprice").await?;
    if let Some(dropped) = dropped_calls(&connection, options.from_us, options.to_us).await?
        && !scope.skip_dropped
    {
        let message = format!(
            "calls of this period were dropped from the call log: {}, {} USD. Such costs cannot be computed anew",
            dropped.calls, dropped.cost_usd
        );
        let hint = "begin later, or leave them as they are with {\"skip_dropped\": true}";
        return Err(ApiError::new(StatusCode::CONFLICT, "dropped_calls", message, hint));
    }
    let catalog = catalog(&daemon, &connection).await?;
    let began = Instant::now();
    let done = run(&connection, &catalog, &options, &who.actor(), |_| began.elapsed() < WORK).await.map_err(failed)?;
    let is_done = done.position_us >= options.to_us;
    if is_done {
        tracing::info!(actor = who.actor, job = done.job, changed = done.changed, "calls were priced anew");
    }
    Ok(Json(RepriceProgress {
        job: done.job,
        done: is_done,
        resumed: done.resumed,
        position: DateTime::from_timestamp_micros(done.position_us).unwrap_or_default(),
        read: done.read,
        changed: done.changed,
        priced: done.priced,
        difference_usd: done.difference_usd,
    }))
}

/// The prices in force, read now: the daemon's copy may be a moment old, and a job belongs to one set of prices.
async fn catalog(daemon: &SharedDaemon, client: &tokio_postgres::Client) -> Result<Catalog, ApiError> {
    let added = read_added(client).await?;
    let layered = Catalog::layered(&daemon.config.pricing, &added);
    layered.map(|(catalog, _)| catalog).map_err(|error| {
        tracing::warn!(%error, "the prices could not be read for a repricing");
        ApiError::unavailable("the prices could not be read")
    })
}

fn failed(error: RepriceError) -> ApiError {
    match error {
        RepriceError::Database(error) => error.into(),
        RepriceError::Overtaken(job) => {
            let hint = "send the same request again once that process has ended";
            let message = format!("another process is working on job {job}");
            ApiError::new(StatusCode::CONFLICT, "conflict", message, hint)
        }
        error => {
            tracing::warn!(%error, "a repricing stopped");
            ApiError::unavailable(
                "the calls kept changing, or the reporting time zone did; send the same request again",
            )
        }
    }
}
