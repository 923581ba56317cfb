//! `/api/v1/alerts`: alerts of budgets and of unusual spend; acknowledged.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, limit, local_now, within};
use tallyd_store::budgets::inbox::{self, Alert, AlertFilter, WhichAlerts};

const ALERTS: i64 = 50;
const ALERTS_MAX: i64 = 1_000;

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertParameters {
    /// Only those that nobody has acknowledged.
    #[serde(default)]
    only_new: bool,
    /// Only alerts with a lower number: `next` of the page before.
    #[param(minimum = 1, maximum = 9223372036854775807_i64)]
    before: Option<i64>,
    /// Alerts of a page; 50 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// A page of alerts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Alerts {
    /// The alerts, newest first.
    pub alerts: Vec<Alert>,
    /// How many alerts nobody has acknowledged, on all pages.
    pub new: i64,
    /// `before` of the next page; null after the last.
    pub next: Option<i64>,
}

/// Alerts of budgets and of unusual spend, newest first.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "budgets", params(AlertParameters),
    responses((status = 200, description = "A page", body = Alerts), Failures))]
pub(crate) async fn alerts(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<AlertParameters>,
) -> Result<Json<Alerts>, ApiError> {
    let before = parameters.before.map(|before| within("before", before, 1, i64::MAX)).transpose()?;
    let limit = limit(parameters.limit, ALERTS, ALERTS_MAX)?;
    let wanted = AlertFilter { only_new: parameters.only_new, before, limit };
    let reading = daemon.reading().await?;
    let alerts = inbox::list(&reading, &wanted, local_now(&daemon).date_naive()).await?;
    let new = inbox::count_new(&*reading).await?;
    reading.finish().await?;
    let is_full = i64::try_from(alerts.len()).unwrap_or(i64::MAX) >= limit;
    let next = alerts.last().filter(|_| is_full).map(|alert| alert.id);
    Ok(Json(Alerts { alerts, new, next }))
}

/// Which alerts were seen: `ids`, or all with a number `up_to`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acknowledge {
    /// The alerts' numbers.
    #[serde(default)]
    #[schema(max_items = 1000)]
    ids: Vec<i64>,
    /// Every alert up to this number.
    up_to: Option<i64>,
}

/// How many were.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Acknowledged {
    /// Alerts that were new and are not any more.
    pub acknowledged: u64,
}

/// Says that you have seen alerts. They stay, with your name.
#[utoipa::path(post, path = "/api/v1/alerts/acknowledge", tag = "budgets", request_body = Acknowledge,
    responses((status = 200, description = "They are acknowledged", body = Acknowledged), Failures))]
pub(crate) async fn acknowledge(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(seen): JsonBody<Acknowledge>,
) -> Result<Json<Acknowledged>, ApiError> {
    let which = match (seen.ids, seen.up_to) {
        (ids, None) if !ids.is_empty() && ids.len() <= ALERTS_MAX as usize => WhichAlerts::These(ids),
        (ids, Some(id)) if ids.is_empty() => WhichAlerts::UpTo(id),
        _ => {
            let hint = "send {\"ids\": [3, 4]} or {\"up_to\": 4}";
            return Err(ApiError::body(format!("either ids, 1 to {ALERTS_MAX} of them, or up_to"), hint));
        }
    };
    let mut client = daemon.pool()?.get().await?;
    let acknowledged = inbox::acknowledge(&mut client, &which, &who.actor()).await?;
    Ok(Json(Acknowledged { acknowledged }))
}
