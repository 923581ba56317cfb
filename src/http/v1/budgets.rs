//! `GET`, `PUT` and `DELETE /api/v1/budgets`: what may be spent, and where that stands.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::budget::store::{self, board, list};
use crate::budget::{Budget, BudgetState, NewBudget, Period, Scope};
use crate::database::queries::audit::{self, Change};
use crate::http::answer::Failures;
use crate::http::auth::Identity;
use crate::http::body::{Amount, JsonBody};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{text, today};
use crate::http::router::Handle;
use crate::pricing::normalise_provider;

/// Thresholds of a budget.
const ALERTS_MAX: usize = 10;
/// The highest percentage that an alert may have.
const ALERT_PERCENT_MAX: i32 = 100_000;

/// Every budget.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Budgets {
    /// Each in its current period, as it was last evaluated: a few seconds ago.
    pub budgets: Vec<BudgetState>,
}

/// Every budget, and where it stands.
#[utoipa::path(get, path = "/api/v1/budgets", tag = "budgets",
    responses((status = 200, description = "The budgets", body = Budgets), Failures))]
pub async fn budgets(State(view): State<Handle>) -> Result<Json<Budgets>, ApiError> {
    let day = today(&view);
    let reading = view.reading().await?;
    let board = board(&reading, day).await?;
    reading.finish().await?;
    Ok(Json(Budgets { budgets: board.states().to_vec() }))
}

/// A budget to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetToSet {
    /// What is bounded.
    #[schema(inline)]
    scope: Scope,
    /// Which provider, model, user or application; empty for `global`.
    #[serde(default)]
    #[schema(max_length = 512)]
    scope_value: String,
    /// For how long the amount is.
    #[schema(inline)]
    period: Period,
    /// USD, decimal text or a number; not negative.
    #[schema(value_type = String, example = "25")]
    amount_usd: Amount,
    /// From this percentage on the status is a warning; 80 if nothing is said.
    #[serde(default = "warning")]
    #[schema(minimum = 0, maximum = 100)]
    warning_percent: i32,
    /// At these percentages an alert is due; 50, 80 and 100 if nothing is said.
    #[serde(default = "alerts")]
    #[schema(max_items = 10)]
    alert_percents: Vec<i32>,
    /// Whether applications are asked to hold back once it is used up; true if nothing is said.
    #[serde(default = "throttle")]
    throttle: bool,
}

const fn warning() -> i32 {
    80
}

fn alerts() -> Vec<i32> {
    vec![50, 80, 100]
}

const fn throttle() -> bool {
    true
}

impl BudgetToSet {
    fn checked(self) -> Result<NewBudget, ApiError> {
        let amount_usd = self.amount_usd.not_negative("amount_usd")?;
        let value = text("scope_value", Some(self.scope_value))?.unwrap_or_default();
        if (self.scope == Scope::Global) != value.is_empty() {
            let message = "scope_value: it names the provider, model, user or app, and is empty for global";
            return Err(ApiError::body(message, r#"send {"scope": "model", "scope_value": "claude-opus-4-5", …}"#));
        }
        let percents = self.alert_percents.iter().all(|percent| (1..=ALERT_PERCENT_MAX).contains(percent));
        if !(0..=100).contains(&self.warning_percent) || !percents || self.alert_percents.len() > ALERTS_MAX {
            let message = "a percentage is out of its bounds";
            let hint = format!(
                "warning_percent: 0 to 100; alert_percents: at most {ALERTS_MAX}, each 1 to {ALERT_PERCENT_MAX}"
            );
            return Err(ApiError::body(message, hint));
        }
        let value = if self.scope == Scope::Provider { normalise_provider(&value).into_owned() } else { value };
        Ok(NewBudget {
            scope: self.scope,
            scope_value: value,
            period: self.period,
            amount_usd,
            warning_percent: self.warning_percent,
            alert_percents: self.alert_percents,
            throttle: self.throttle,
        })
    }
}

/// The budget that was set.
#[derive(Debug, Serialize, ToSchema)]
pub struct BudgetId {
    /// Its number.
    id: i32,
}

/// What the audit log calls a budget.
fn object(scope: Scope, value: &str, period: Period) -> String {
    let colon = if value.is_empty() { "" } else { ":" };
    format!("{}{colon}{value}/{}", scope.name(), period.name())
}

fn described(budget: &Budget) -> serde_json::Value {
    json!({
        "amount_usd": budget.amount_usd,
        "warning_percent": budget.warning_percent,
        "alert_percents": budget.alert_percents,
        "throttle": budget.throttle,
    })
}

/// Sets the budget of a scope and period: makes it, or changes the one that is there.
#[utoipa::path(put, path = "/api/v1/budgets", tag = "budgets", request_body = BudgetToSet,
    responses((status = 200, description = "It is set", body = BudgetId), Failures))]
pub async fn set(
    State(view): State<Handle>,
    Extension(who): Extension<Identity>,
    JsonBody(budget): JsonBody<BudgetToSet>,
) -> Result<Json<BudgetId>, ApiError> {
    let new = budget.checked()?;
    let mut client = view.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let same = |b: &&Budget| (b.scope, &b.scope_value, b.period) == (new.scope, &new.scope_value, new.period);
    let old = list(&*transaction).await?.iter().find(same).map(described);
    let id = store::set(&*transaction, &new).await?;
    let now = json!({
        "amount_usd": new.amount_usd,
        "warning_percent": new.warning_percent,
        "alert_percents": new.alert_percents,
        "throttle": new.throttle,
    });
    let object = object(new.scope, &new.scope_value, new.period);
    let (actor, address) = (who.actor.as_str(), who.address.as_str());
    let change = Change { actor, address, action: "budget.set", object: &object, old, new: Some(now) };
    audit::write(&transaction, &change).await?;
    transaction.commit().await?;
    Ok(Json(BudgetId { id }))
}

/// Removes a budget.
#[utoipa::path(delete, path = "/api/v1/budgets/{id}", tag = "budgets",
    params(("id" = i32, Path, description = "The budget's number")),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is none of this number", body = ErrorBody), Failures))]
pub async fn remove(
    State(view): State<Handle>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let none = || ApiError::not_found("there is no budget of this number", "GET /api/v1/budgets lists them");
    let id: i32 = id.parse().map_err(|_| none())?;
    let mut client = view.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let budgets = list(&*transaction).await?;
    let old = budgets.iter().find(|budget| budget.id == id).ok_or_else(none)?;
    if !store::remove(&*transaction, id).await? {
        return Err(none());
    }
    let object = object(old.scope, &old.scope_value, old.period);
    let (actor, address) = (who.actor.as_str(), who.address.as_str());
    let change =
        Change { actor, address, action: "budget.remove", object: &object, old: Some(described(old)), new: None };
    audit::write(&transaction, &change).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
