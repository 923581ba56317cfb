//! `GET /api/v1/costs/bounds`: the lacks of a sum of costs.

use axum::extract::State;
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa::IntoParams;

use super::costs::filters;
use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::error::ApiError;
use crate::http::parameters::{ROLLUP_DAYS_MAX, TaggedParameters, day_range};
use tallyd_store::queries::bounds::{BoundsQuery, CostBounds};
use tallyd_store::queries::change::ChangeError;
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, LOG_DAYS_MAX, SortBy};

/// Days of an answer by default.
const DAYS: u64 = 30;

/// The parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BoundsParameters {
    /// Number of days up to today; 30 by default.
    #[param(minimum = 1, maximum = 3660)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included.
    #[param(format = Date)]
    to: Option<String>,
    /// Only this provider.
    #[param(max_length = 512)]
    provider: Option<String>,
    /// Only this model.
    #[param(max_length = 512)]
    model: Option<String>,
    /// Only this endpoint.
    #[param(max_length = 512)]
    endpoint: Option<String>,
    /// Only this user, read from the call log: at most 31 days.
    #[param(max_length = 512)]
    user: Option<String>,
    /// Only this application. With an endpoint or a user, it is read from the call log: at most 31 days.
    #[param(max_length = 512)]
    app: Option<String>,
    /// `false` does not read the call log for incomplete streams and for the tokens of unpriced calls, which takes longer. It is
    /// read for ranges of up to 31 days.
    log: Option<bool>,
}

/// The lacks of a sum of costs: a range for its unpriced calls, and the number of streams that ended early.
///
/// An unpriced call is priced at the cheapest and the dearest price, on its day, of its model, or without one of its provider's
/// models. A parameter `tag:team=search` counts the calls with that tag only; an empty value, those without it.
#[utoipa::path(get, path = "/api/v1/costs/bounds", tag = "costs", params(BoundsParameters),
    responses((status = 200, description = "The bounds and their reasons", body = CostBounds), Failures))]
pub(crate) async fn bounds(
    State(daemon): State<SharedDaemon>,
    TaggedParameters(parameters, tags): TaggedParameters<BoundsParameters>,
) -> Result<Json<CostBounds>, ApiError> {
    let named = [
        (Dimension::Provider, parameters.provider),
        (Dimension::Model, parameters.model),
        (Dimension::Endpoint, parameters.endpoint),
        (Dimension::User, parameters.user),
        (Dimension::App, parameters.app),
    ];
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    let (from, to) = day_range(&daemon, range, DAYS, ROLLUP_DAYS_MAX)?;
    let mut costs = CostQuery {
        from,
        to,
        zone: daemon.settings.zone.name().to_owned(),
        bucket: Bucket::Day,
        group_by: Vec::new(),
        filters: filters(tags, named)?,
        dimensions: Vec::new(),
        sort: SortBy::Bucket,
        descending: false,
        limit: 0,
        offset: 0,
    };
    if costs.has_tags() {
        let reading = daemon.reading().await?;
        costs.learn(&reading).await?;
        reading.finish().await?;
    }
    let question = BoundsQuery { costs, zone: daemon.settings.zone, log: parameters.log.unwrap_or(true) };
    if let Some(why) = question.why_of_the_log().filter(|_| is_long(from, to)) {
        return Err(ApiError::parameter("from", why, "ask for a shorter range, or filter by less"));
    }
    let catalog = daemon.catalog()?;
    let reading = daemon.reading().await?;
    let bounds = question.ask(&reading, &catalog).await.map_err(|error| match error {
        ChangeError::Query(error) => error.into(),
        ChangeError::TooMany => ApiError::parameter("from", error, "ask for a shorter range"),
    })?;
    reading.finish().await?;
    Ok(Json(bounds))
}

/// True if the call log is not read for a range of this length.
fn is_long(from: NaiveDate, to: NaiveDate) -> bool {
    (to - from).num_days().unsigned_abs() >= LOG_DAYS_MAX
}
