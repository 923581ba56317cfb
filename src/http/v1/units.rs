//! `/api/v1/units`: units and revenue by day, with costs beside.

use axum::Extension;
use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::costs::groups;
use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::{Amount, JsonBody};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, ROLLUP_DAYS_MAX, day_range, limit, text};
use tallyd_model::pricing::{Quantity, Usd};
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, LOG_DAYS_MAX, SortBy};
use tallyd_store::units::{
    self as store, GROUPS_MAX, STATEMENTS_MAX, Stated, Statement, UnitQuery, UnitRow, UnitsError,
};

const DAYS: u64 = 30;
const ROWS: i64 = 1_000;

/// The parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UnitParameters {
    /// The dimension: `app` or a tag, such as `tag:customer`; units of all calls if nothing is said. A tag that is not a dimension is read from
    /// the call log: at most 31 days.
    #[param(max_length = 512)]
    group_by: Option<String>,
    /// Number of days up to today; 30 by default.
    #[param(minimum = 1, maximum = 3660)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included.
    #[param(format = Date)]
    to: Option<String>,
    /// The stretches of time: `total` (the default), `day`, `week` or `month`.
    #[param(inline)]
    bucket: Option<Bucket>,
    /// Only this unit.
    #[param(max_length = 64)]
    unit: Option<String>,
    /// Rows; 1,000 if nothing is said.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<i64>,
}

/// Units with their costs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Units {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The zone of the days.
    pub time_zone: String,
    /// By bucket, and the largest cost first.
    pub rows: Vec<UnitRow>,
    /// Whether there are more than `limit`.
    pub more: bool,
}

/// Units with cost per unit and margin.
#[utoipa::path(get, path = "/api/v1/units", tag = "costs", params(UnitParameters),
    responses((status = 200, description = "The units", body = Units), Failures))]
pub(crate) async fn units(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<UnitParameters>,
) -> Result<Json<Units>, ApiError> {
    let hint = "group_by=tag:customer or group_by=app";
    let group_by = groups(parameters.group_by.as_deref())?;
    if group_by.len() > 1 || !group_by.iter().all(|dimension| matches!(dimension, Dimension::App | Dimension::Tag(_))) {
        return Err(ApiError::parameter("group_by", "units have one dimension, app or a tag", hint));
    }
    let bucket = parameters.bucket.unwrap_or(Bucket::Total);
    if bucket == Bucket::Hour {
        return Err(ApiError::parameter("bucket", "units are stated by day", "bucket=day"));
    }
    let rows = limit(parameters.limit, ROWS, GROUPS_MAX)?;
    let reading = daemon.reading().await?;
    let mut costs = CostQuery {
        from: NaiveDate::default(),
        to: NaiveDate::default(),
        zone: daemon.settings.zone.name().to_owned(),
        bucket,
        group_by,
        filters: Vec::new(),
        dimensions: Vec::new(),
        sort: SortBy::Cost,
        descending: true,
        limit: GROUPS_MAX,
        offset: 0,
    };
    costs.learn(&reading).await?;
    let max = if costs.why_of_the_log().is_some() { LOG_DAYS_MAX } else { ROLLUP_DAYS_MAX };
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    (costs.from, costs.to) = day_range(&daemon, range, DAYS, max)?;
    let question = UnitQuery { costs, unit: text("unit", parameters.unit)? };
    let mut found = question.ask(&reading).await?;
    reading.finish().await?;
    let most = usize::try_from(rows).unwrap_or(usize::MAX);
    let more = found.len() > most;
    found.truncate(most);
    let CostQuery { from, to, zone, .. } = question.costs;
    Ok(Json(Units { from, to, time_zone: zone, rows: found, more }))
}

/// Units of a day to state.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnitStatement {
    /// The day, in the reporting time zone.
    day: NaiveDate,
    /// `app` or a tag, such as `tag:customer`; empty for the units of all calls.
    #[serde(default)]
    dimension: String,
    /// The value of the dimension; empty for calls without it.
    #[serde(default)]
    value: String,
    /// The unit's name, such as `order`.
    unit: String,
    /// How many: a number or decimal text with up to 9 decimals.
    #[schema(value_type = String, example = "1200")]
    quantity: Amount,
    /// Their revenue in USD; null or left out if it is not stated.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "480")]
    revenue_usd: Option<Amount>,
}

/// Units to state.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateUnits {
    /// The statements, at most 1,000: all are taken, or none.
    #[schema(max_items = 1000)]
    units: Vec<UnitStatement>,
}

impl TryFrom<UnitStatement> for Statement {
    type Error = String;

    fn try_from(stated: UnitStatement) -> Result<Self, String> {
        let UnitStatement { day, dimension, value, unit, quantity, revenue_usd } = stated;
        let quantity = Quantity::parse(&quantity.0.to_string()).map_err(|error| format!("quantity: {error}"))?;
        let revenue_usd: Option<Usd> = revenue_usd.map(|amount| amount.0);
        Ok(Self { day, dimension, value, unit, quantity, revenue_usd })
    }
}

const HINT: &str = "{\"units\": [{\"day\": \"2026-01-31\", \"dimension\": \"tag:customer\", \"value\": \"acme\", \"unit\": \"order\", \
    \"quantity\": \"1200\", \"revenue_usd\": \"480\"}]}";

/// States units and revenue of days: each replaces the earlier statement of its day, dimension, value and unit.
#[utoipa::path(put, path = "/api/v1/units", tag = "costs", request_body = StateUnits,
    responses((status = 200, description = "They are stated", body = Stated), Failures))]
pub(crate) async fn state(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(StateUnits { units }): JsonBody<StateUnits>,
) -> Result<Json<Stated>, ApiError> {
    if units.len() > STATEMENTS_MAX {
        return Err(ApiError::body(
            format!("units: {}, at most {STATEMENTS_MAX} are accepted", units.len()),
            "send them in parts",
        ));
    }
    let mut statements = Vec::with_capacity(units.len());
    for (at, stated) in units.into_iter().enumerate() {
        let statement = stated
            .try_into()
            .map_err(|fault: String| ApiError::body(format!("statement {}: {fault}", at + 1), HINT))?;
        statements.push(statement);
    }
    let mut client = daemon.pool()?.get().await?;
    let stated = store::state(&mut client, &statements, &who.actor()).await.map_err(|error| match error {
        UnitsError::Database(error) => error.into(),
        invalid => ApiError::body(invalid.to_string(), HINT),
    })?;
    tracing::info!(actor = who.actor, added = stated.added, replaced = stated.replaced, "units were stated");
    Ok(Json(stated))
}
