//! `/api/v1/alert-rules`: lists alert rules with their standing, sets and removes them.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::{Amount, JsonBody};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::PathNumber;
use tallyd_config::DEFAULT_ROUTE;
use tallyd_model::quiet::QuietHours;
use tallyd_store::alert_rules::{AlertRule, Metric, NewRule, RuleError, Window, store};

/// Every rule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertRules {
    /// The rules, by name.
    pub rules: Vec<AlertRule>,
}

/// Every alert rule, and where it stands.
#[utoipa::path(get, path = "/api/v1/alert-rules", tag = "budgets",
    responses((status = 200, description = "The rules", body = AlertRules), Failures))]
pub(crate) async fn rules(State(daemon): State<SharedDaemon>) -> Result<Json<AlertRules>, ApiError> {
    let reading = daemon.reading().await?;
    let rules = store::list(&reading).await?;
    reading.finish().await?;
    Ok(Json(AlertRules { rules }))
}

/// A rule to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetAlertRule {
    /// Its name.
    #[schema(max_length = 100)]
    name: String,
    /// The sum or quotient that is compared.
    metric: Metric,
    /// The calls that count: `provider`, `model`, `user`, `app`, or a tag that is a dimension (`tag:team`), each with its value. All by default.
    #[serde(default)]
    filter: BTreeMap<String, String>,
    /// The running hour or day and those before it: `1h` to `2160h`, `1d` to `90d`.
    #[schema(value_type = Option<String>, pattern = "^[1-9][0-9]{0,3}[hd]$", example = "24h")]
    window: Option<Window>,
    /// The second window of a burn rate, in the unit of the first.
    #[schema(value_type = Option<String>, pattern = "^[1-9][0-9]{0,3}[hd]$", example = "1h")]
    short_window: Option<Window>,
    /// A warning from this value on.
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,9}(\\.[0-9]{1,18})?$", example = "80")]
    warning: Option<Amount>,
    /// An alert from this value on.
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,9}(\\.[0-9]{1,18})?$", example = "100")]
    alert: Option<Amount>,
    /// Whether a window without calls is an alert.
    #[serde(default)]
    no_data: bool,
    /// The budget of `burn_rate` and `forecast_percent`.
    budget_id: Option<i32>,
    /// The person or team that looks after it.
    #[serde(default)]
    #[schema(max_length = 100)]
    owner: String,
    /// The route of its messages; `default` if nothing is said.
    #[serde(default = "default_route")]
    #[schema(max_length = 40, default = "default")]
    route: String,
    /// When all of its messages wait.
    #[schema(value_type = Option<String>, pattern = "^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$", example = "22:00-07:00")]
    quiet: Option<QuietHours>,
    /// Whether it is paused: it is not evaluated and sends no message. An alert of it that has not ended gets its end.
    #[serde(default)]
    paused: bool,
}

fn default_route() -> String {
    DEFAULT_ROUTE.to_owned()
}

impl From<SetAlertRule> for NewRule {
    fn from(set: SetAlertRule) -> Self {
        Self {
            name: set.name,
            metric: set.metric,
            filter: set.filter,
            window: set.window,
            short_window: set.short_window,
            warning: set.warning.map(|amount| amount.0),
            alert: set.alert.map(|amount| amount.0),
            no_data: set.no_data,
            budget_id: set.budget_id,
            owner: set.owner,
            route: set.route,
            quiet: set.quiet,
            paused: set.paused,
        }
    }
}

impl From<RuleError> for ApiError {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Database(error) => error.into(),
            RuleError::Invalid { message, hint } => Self::body(message, hint),
        }
    }
}

/// The rule that was set.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetAlertRuleAnswer {
    /// Its number.
    pub id: i32,
    /// The rule of the same name that was there before, and is replaced; null if there was none.
    pub replaced: Option<NewRule>,
}

/// Sets the alert rule of a name: makes it, or replaces the one that is there.
#[utoipa::path(put, path = "/api/v1/alert-rules", tag = "budgets", request_body = SetAlertRule,
    responses((status = 200, description = "It is set", body = SetAlertRuleAnswer), Failures))]
pub(crate) async fn set(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(new): JsonBody<SetAlertRule>,
) -> Result<Json<SetAlertRuleAnswer>, ApiError> {
    let routes = daemon.config.alerts.all_routes();
    if new.route != DEFAULT_ROUTE && !routes.iter().any(|route| route.name == new.route) {
        let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        let message = format!("route: none of this name is configured; there are [{}]", names.join(", "));
        return Err(ApiError::body(message, "alerts.routes of the configuration has them"));
    }
    let mut client = daemon.pool()?.get().await?;
    let new = NewRule::from(new);
    let name = new.name.clone();
    let (id, replaced) = store::set(&mut client, new, &who.actor()).await?;
    tracing::info!(actor = who.actor, id, name, "an alert rule was set");
    Ok(Json(SetAlertRuleAnswer { id, replaced }))
}

/// Removes an alert rule. An alert of it that has not ended gets its end.
#[utoipa::path(delete, path = "/api/v1/alert-rules/{id}", tag = "budgets",
    params(("id" = i32, Path, description = "The rule's number", minimum = 1)),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is none of this number", body = ErrorBody), Failures))]
pub(crate) async fn remove(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    PathNumber(id): PathNumber<i32>,
) -> Result<StatusCode, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    if !store::remove(&mut client, id, &who.actor()).await? {
        return Err(ApiError::not_found("there is no alert rule of this number", "GET /api/v1/alert-rules lists them"));
    }
    tracing::info!(actor = who.actor, id, "an alert rule was removed");
    Ok(StatusCode::NO_CONTENT)
}
