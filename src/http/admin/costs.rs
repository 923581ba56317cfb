//! `GET /api/admin/costs` and `POST /api/admin/budget`: today against the daily budget.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cost_history::{DayCosts, days};
use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json, Number};
use crate::http::auth::Identity;
use crate::http::body::{Amount, JsonBody};
use crate::http::error::ApiError;
use crate::http::parameters::{today, within};
use tallyd_model::pricing::Usd;
use tallyd_store::budgets::Limit;
use tallyd_store::budgets::board::{basis_points, percent};
use tallyd_store::queries::budgets::{self, Budget, DailyBudget};
use tallyd_store::queries::costs::history;

/// How the day stands against its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BudgetStatus {
    /// Below the warning threshold, or no budget is set.
    Normal,
    /// Above it.
    Warning,
    /// Used up.
    Exceeded,
}

/// Today's costs.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TodayCosts {
    /// The day so far.
    pub today: DayCosts,
    /// The daily budget; 0 if none is set.
    #[schema(value_type = f64)]
    pub daily_budget: Number,
    /// How much of it is used, in percent with two decimals; 0 without a budget.
    #[schema(value_type = f64)]
    pub budget_percent: Number,
    /// The unused rest, not below 0; 0 without a budget.
    #[schema(value_type = f64)]
    pub remaining: Number,
    /// Whether applications should hold back: from the warning threshold on, as in the system that tallyd replaces. The field
    /// `should_throttle` of acknowledgements is stricter: it begins where the budget is used up.
    pub should_throttle: bool,
    /// In a word.
    pub status: BudgetStatus,
}

impl TodayCosts {
    /// Compares a day with its budget.
    #[must_use]
    pub(crate) fn of(today: DayCosts, budget: Option<Budget>) -> Self {
        let Some(budget) = budget else {
            // The replaced system's page formats each of them, and does not expect null.
            let (daily_budget, budget_percent, remaining) = (Number::default(), Number::default(), Number::default());
            let status = BudgetStatus::Normal;
            return Self { today, daily_budget, budget_percent, remaining, should_throttle: false, status };
        };
        let spent = today.total_cost.0;
        let basis_points = basis_points(spent, budget.amount);
        let status = if spent >= budget.amount {
            BudgetStatus::Exceeded
        } else if basis_points >= i128::from(budget.warning_basis_points) {
            BudgetStatus::Warning
        } else {
            BudgetStatus::Normal
        };
        // Both are amounts of one day or one row, so their difference cannot overflow.
        let left = budget.amount.checked_sub(spent).unwrap_or_default().max(Usd::ZERO);
        Self {
            today,
            daily_budget: Number(budget.amount),
            budget_percent: Number(percent(basis_points)),
            remaining: Number(left),
            should_throttle: status != BudgetStatus::Normal && budget.limit == Limit::Hard,
            status,
        }
    }
}

/// Today against the daily budget.
#[utoipa::path(get, path = "/api/admin/costs", tag = "admin",
    responses((status = 200, description = "Today", body = TodayCosts), Failures))]
pub(crate) async fn costs(State(daemon): State<SharedDaemon>) -> Result<Json<TodayCosts>, ApiError> {
    let day = today(&daemon);
    let reading = daemon.reading().await?;
    let rows = history(&reading, day, day).await?;
    let budget = budgets::daily(&reading).await?;
    reading.finish().await?;
    let today = days(&rows)?.pop().unwrap_or_else(|| DayCosts::empty(day));
    Ok(Json(TodayCosts::of(today, budget)))
}

/// A budget to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewBudget {
    /// USD a day, as a number or as decimal text; not negative.
    #[schema(value_type = f64, minimum = 0, maximum = 1_000_000_000, example = 25.5)]
    budget: Amount,
    /// From this share of the budget on, in whole percent, applications should hold back. If it is left out, the present value
    /// stays; 80 at first.
    #[schema(minimum = 0, maximum = 100)]
    alert_threshold_percent: Option<i64>,
    /// Sets the budget only where none is set yet.
    #[serde(default)]
    only_if_none: bool,
}

/// The budget that was set.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BudgetSet {
    /// True.
    pub success: bool,
    /// Whether the budget was set; false where `onlyIfNone` was asked for and one was there.
    pub changed: bool,
    /// The budget from now on.
    #[schema(value_type = f64)]
    pub daily_budget: Number,
    /// The one before; null if there was none.
    #[schema(value_type = Option<f64>)]
    pub previous: Option<Number>,
}

/// Sets the daily budget.
#[utoipa::path(post, path = "/api/admin/budget", tag = "admin", request_body = NewBudget,
    responses((status = 200, description = "It is set", body = BudgetSet), Failures))]
pub(crate) async fn set_budget(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(new): JsonBody<NewBudget>,
) -> Result<Json<BudgetSet>, ApiError> {
    let amount = new.budget.not_negative("budget")?;
    let mut client = daemon.pool()?.get().await?;
    let threshold = new.alert_threshold_percent.map(|percent| within("alertThresholdPercent", percent, 0, 100));
    let wanted = DailyBudget { amount, warning_percent: threshold.transpose()?, only_if_none: new.only_if_none };
    let previous = budgets::set_daily(&mut client, &wanted, &who.actor()).await?;
    let kept = previous.filter(|_| new.only_if_none);
    if kept.is_none() {
        tracing::info!(actor = who.actor, %amount, "the daily budget was set");
    }
    let daily_budget = Number(kept.unwrap_or(amount));
    Ok(Json(BudgetSet { success: true, changed: kept.is_none(), daily_budget, previous: previous.map(Number) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(spent: &str, budget: &str) -> (String, BudgetStatus, bool, String) {
        let mut day = DayCosts::empty(chrono::NaiveDate::default());
        day.total_cost = Number(Usd::parse(spent).unwrap());
        let budget = Budget { amount: Usd::parse(budget).unwrap(), warning_basis_points: 8_000, limit: Limit::Hard };
        let today = TodayCosts::of(day, Some(budget));
        let text = |number: Number| number.0.to_string();
        (text(today.budget_percent), today.status, today.should_throttle, text(today.remaining))
    }

    #[test]
    fn a_day_stands_against_its_budget() {
        use BudgetStatus::{Exceeded, Normal, Warning};
        let cases = [
            (("0", "10"), ("0", Normal, false, "10")),
            (("7.9999", "10"), ("79.99", Normal, false, "2.0001")),
            (("8", "10"), ("80", Warning, true, "2")),
            (("9.999999999999999999", "10"), ("99.99", Warning, true, "0.000000000000000001")),
            (("10", "10"), ("100", Exceeded, true, "0")),
            (("1", "3"), ("33.33", Normal, false, "2")),
            (("25", "10"), ("250", Exceeded, true, "0")),
            (("0", "0"), ("100", Exceeded, true, "0")),
        ];
        for ((spent, budget), (percent, status, throttle, left)) in cases {
            assert_eq!(state(spent, budget), (percent.into(), status, throttle, left.into()), "{spent} of {budget}");
        }
    }
}
