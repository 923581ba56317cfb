//! `GET /api/v1/costs/change`: why spend changed between two periods.

use axum::extract::State;
use chrono::{Days, NaiveDate};
use serde::Deserialize;
use utoipa::IntoParams;

use super::costs::{filters, groups};
use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::error::ApiError;
use crate::http::parameters::{TaggedParameters, day_range, limit, today};
use tallyd_store::queries::change::{Change, ChangeError, ChangeQuery, DAYS_MAX};
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, LOG_DAYS_MAX, SortBy};

/// Days of a period by default.
const DAYS: u64 = 7;
const MOVERS: i64 = 10;
const MOVERS_MAX: i64 = 100;

/// The parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeParameters {
    /// The first day of the second period, `YYYY-MM-DD`. By default the second period is the seven days before today.
    #[param(format = Date)]
    from: Option<String>,
    /// Its last day, included.
    #[param(format = Date)]
    to: Option<String>,
    /// The first day of the first period. By default the first period ends the day before the second and is as long.
    #[param(format = Date)]
    before_from: Option<String>,
    /// Its last day, included.
    #[param(format = Date)]
    before_to: Option<String>,
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
    /// Only this application.
    #[param(max_length = 512)]
    app: Option<String>,
    /// The groups of the movers, as in `/api/v1/costs`; `provider,model` if nothing is said.
    #[param(max_length = 512)]
    group_by: Option<String>,
    /// Movers; 10 if nothing is said.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// `false` does not read service tiers from the call log: their change is in `other` then. They are read for periods of up to 31 days
    /// if the rollups do not explain the whole difference.
    tiers: Option<bool>,
}

async fn question(
    daemon: &SharedDaemon,
    parameters: ChangeParameters,
    tags: Vec<(String, String)>,
) -> Result<ChangeQuery, ApiError> {
    let mut group_by = groups(parameters.group_by.as_deref())?;
    if group_by.is_empty() {
        group_by = vec![Dimension::Provider, Dimension::Model];
    }
    let named = [
        (Dimension::Provider, parameters.provider),
        (Dimension::Model, parameters.model),
        (Dimension::Endpoint, parameters.endpoint),
        (Dimension::User, parameters.user),
        (Dimension::App, parameters.app),
    ];
    let yesterday = (today(daemon) - Days::new(1)).to_string();
    let to = parameters.to.as_deref().or_else(|| parameters.from.is_none().then_some(&yesterday));
    let (from, to) = day_range(daemon, (None, parameters.from.as_deref(), to), DAYS, DAYS_MAX)?;
    let length = (to - from).num_days().unsigned_abs() + 1;
    let before = match (parameters.before_from.as_deref(), parameters.before_to.as_deref()) {
        (None, None) => previous((from, to)),
        (Some(before_from), Some(before_to)) => {
            day_range(daemon, (None, Some(before_from), Some(before_to)), length, DAYS_MAX)?
        }
        _ => return Err(ApiError::parameter("before_from", "before_from and before_to go together", HINT)),
    };
    if before.1 >= from {
        return Err(ApiError::parameter("before_to", format!("{} is not before {from}", before.1), HINT));
    }
    let mut costs = CostQuery {
        from,
        to,
        zone: daemon.settings.zone.name().to_owned(),
        bucket: Bucket::Total,
        group_by,
        filters: filters(tags, named)?,
        dimensions: Vec::new(),
        sort: SortBy::Cost,
        descending: true,
        limit: limit(parameters.limit, MOVERS, MOVERS_MAX)?,
        offset: 0,
    };
    if costs.has_tags() {
        let reading = daemon.reading().await?;
        costs.learn(&reading).await?;
        reading.finish().await?;
    }
    let tiers = parameters.tiers.unwrap_or(true);
    let question = ChangeQuery { costs, before, zone: daemon.settings.zone, tiers };
    let longest = length.max((before.1 - before.0).num_days().unsigned_abs() + 1);
    match question.why_of_the_log() {
        Some(why) if longest > LOG_DAYS_MAX => {
            Err(ApiError::parameter("from", why, "ask for shorter periods, or filter by less"))
        }
        _ => Ok(question),
    }
}

const HINT: &str = "the first period ends before the second begins: before_from=2026-01-01&before_to=2026-01-31&from=2026-02-01&to=2026-02-28";

/// The period of the same length that ends the day before.
fn previous((from, to): (NaiveDate, NaiveDate)) -> (NaiveDate, NaiveDate) {
    (from - Days::new((to - from).num_days().unsigned_abs() + 1), from - Days::new(1))
}

/// Why spend changed: the difference of two periods, split exactly by cause.
///
/// A parameter `tag:team=search` counts the calls with that tag only; an empty value, those without it.
#[utoipa::path(get, path = "/api/v1/costs/change", tag = "costs", params(ChangeParameters),
    responses((status = 200, description = "The causes and the top movers", body = Change), Failures))]
pub(crate) async fn change(
    State(daemon): State<SharedDaemon>,
    TaggedParameters(parameters, tags): TaggedParameters<ChangeParameters>,
) -> Result<Json<Change>, ApiError> {
    let question = question(&daemon, parameters, tags).await?;
    let catalog = daemon.catalog()?;
    let reading = daemon.reading().await?;
    let change = question.ask(&reading, &catalog).await.map_err(|error| match error {
        ChangeError::Query(error) => error.into(),
        ChangeError::TooMany => ApiError::parameter("from", error, "ask for shorter periods"),
    })?;
    reading.finish().await?;
    Ok(Json(change))
}
