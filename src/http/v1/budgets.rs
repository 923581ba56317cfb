//! `/api/v1/budgets`: lists budgets with their standing, sets and removes them.
//!
//! The standing is the one that acknowledgements carry: the daemons evaluated it a few seconds ago.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::{Amount, JsonBody};
use crate::http::csv::{self, Format};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Parameters, PathNumber, local_now};
use tallyd_model::forecast::Estimate;
use tallyd_model::pricing::Usd;
use tallyd_store::alert_rules;
use tallyd_store::budgets::board::{basis_points, percent};
use tallyd_store::budgets::store::{SetBudgetError, SetOutcome};
use tallyd_store::budgets::{Budget, BudgetScope, BudgetState, Limit, NewBudget, Period, estimates, store};
use tallyd_store::queries::Reading;
use tallyd_store::queries::names::unseen_budget;

/// A budget, and where it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct BudgetRow {
    /// The budget in its current period.
    #[serde(flatten)]
    pub state: BudgetState,
    /// How much of it is used, in percent with two decimals, rounded down.
    #[schema(value_type = String, example = "33.33")]
    pub used_percent: Usd,
    /// Whether clients refuse calls that count towards it: it is hard and used up.
    pub should_throttle: bool,
    /// The estimate for the whole period. Null unless it is a budget of everything or of a provider, and without history.
    pub forecast: Option<Estimate>,
}

/// Every budget.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Budgets {
    /// The budgets.
    pub budgets: Vec<BudgetRow>,
    /// Whether clients refuse all calls, as acknowledgements state it.
    pub should_throttle: bool,
}

impl Budgets {
    /// Reads the budgets' standing, and estimates the total of each period.
    ///
    /// # Errors
    /// If the database does not answer.
    pub(crate) async fn read(daemon: &SharedDaemon, reading: &Reading) -> Result<Self, ApiError> {
        let now = local_now(daemon);
        let board = store::board(reading, now.date_naive()).await?;
        let estimates = estimates::estimates(reading, &board, &now).await?;
        let row = |state: &BudgetState| BudgetRow {
            used_percent: percent(basis_points(state.spent_usd, state.budget.amount_usd)),
            should_throttle: state.should_throttle(),
            forecast: estimates.get(&state.budget.id).cloned(),
            state: state.clone(),
        };
        let should_throttle = board.global().is_some_and(|global| global.should_throttle);
        Ok(Self { budgets: board.states().iter().map(row).collect(), should_throttle })
    }
}

/// In which form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BudgetParameters {
    /// `json` (the default) or `csv`.
    format: Option<Format>,
}

const COLUMNS: &[&str] = &[
    "id",
    "scope",
    "period",
    "period_start",
    "period_end",
    "amount_usd",
    "spent_usd",
    "remaining_usd",
    "used_percent",
    "status",
    "unpriced_calls",
    "warning_percent",
    "alert_percents",
    "limit",
    "should_throttle",
    csv::ZONE,
];

/// Every budget, and where it stands.
#[utoipa::path(get, path = "/api/v1/budgets", tag = "budgets", params(BudgetParameters),
    responses((status = 200, description = "The budgets", content((Budgets = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn budgets(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<BudgetParameters>,
) -> Result<Response, ApiError> {
    let reading = daemon.reading().await?;
    let found = Budgets::read(&daemon, &reading).await?;
    reading.finish().await?;
    match parameters.format.unwrap_or_default() {
        Format::Json => Ok(Json(found).into_response()),
        Format::Csv => csv::zoned("budgets", COLUMNS, &found.budgets, daemon.settings.zone),
    }
}

/// A budget to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// Up to two dimensions, each with a name: `{"tag:team": "search", "model": "gpt-5"}`. Dimensions are `provider`, `model`, `user`, `app`
    /// and `tag:NAME`. All spend by default.
    #[serde(default)]
    #[schema(example = json!({"tag:team": "search"}))]
    scope: BTreeMap<String, String>,
    /// For how long the amount is.
    period: Period,
    /// USD as decimal text or as a number; not negative.
    #[schema(value_type = String, pattern = "^[0-9]{1,9}(\\.[0-9]{1,18})?$", example = "25.50")]
    amount_usd: Amount,
    /// From this percentage on the status is a warning.
    #[serde(default = "warning_percent")]
    #[schema(minimum = 0, maximum = 100, default = 80)]
    warning_percent: i32,
    /// At these percentages an alert is due, each once a period.
    #[serde(default = "alert_percents")]
    #[schema(max_items = 16)]
    alert_percents: Vec<i32>,
    /// `hard`: clients refuse calls once it is used up. `soft`: it only alerts.
    #[serde(default)]
    #[schema(default = "hard")]
    limit: Limit,
}

const fn warning_percent() -> i32 {
    store::WARNING_PERCENT
}

fn alert_percents() -> Vec<i32> {
    store::ALERT_PERCENTS.to_vec()
}

impl TryFrom<SetBudget> for NewBudget {
    type Error = SetBudgetError;

    fn try_from(set: SetBudget) -> Result<Self, SetBudgetError> {
        Ok(Self {
            scope: BudgetScope::parse(&set.scope)?,
            period: set.period,
            amount_usd: set.amount_usd.0,
            warning_percent: set.warning_percent,
            alert_percents: set.alert_percents,
            limit: set.limit,
        })
    }
}

impl From<SetBudgetError> for ApiError {
    fn from(error: SetBudgetError) -> Self {
        match error {
            SetBudgetError::Database(error) => error.into(),
            SetBudgetError::Invalid { message, hint } => Self::body(message, hint),
        }
    }
}

/// The budget that was set.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetBudgetAnswer {
    /// Its number.
    pub id: i32,
    /// The budget of the same scope and period that was there before, and is replaced; null if there was none.
    pub replaced: Option<Budget>,
    /// Says that no call counts towards it so far, with the names that are near; null if one does. A hint: it is
    /// computed after the budget is set, and left out if that fails.
    pub note: Option<String>,
}

/// Sets the budget of a scope and period: makes it, or replaces the one that is there.
#[utoipa::path(put, path = "/api/v1/budgets", tag = "budgets", request_body = SetBudget,
    responses((status = 200, description = "It is set", body = SetBudgetAnswer), Failures))]
pub(crate) async fn set(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(new): JsonBody<SetBudget>,
) -> Result<Json<SetBudgetAnswer>, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    let SetOutcome { id, old: replaced, new } = store::set(&mut client, new.try_into()?, &who.actor()).await?;
    tracing::info!(actor = who.actor, id, amount = %new.amount_usd, "a budget was set");
    drop(client);
    let note = note(&daemon, &new).await.unwrap_or_else(|error| {
        tracing::debug!(?error, "names that calls have could not be read");
        None
    });
    Ok(Json(SetBudgetAnswer { id, replaced, note }))
}

async fn note(daemon: &SharedDaemon, new: &NewBudget) -> Result<Option<String>, ApiError> {
    let reading = daemon.reading().await?;
    let today = local_now(daemon).date_naive();
    let note = unseen_budget(&reading, &new.scope, today, daemon.settings.zone).await?;
    reading.finish().await?;
    Ok(note)
}

/// Removes a budget.
#[utoipa::path(delete, path = "/api/v1/budgets/{id}", tag = "budgets",
    params(("id" = i32, Path, description = "The budget's number", minimum = 1)),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is none of this number", body = ErrorBody), Failures))]
pub(crate) async fn remove(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    PathNumber(id): PathNumber<i32>,
) -> Result<StatusCode, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    if !alert_rules::store::remove_budget(&mut client, id, &who.actor()).await? {
        return Err(ApiError::not_found("there is no budget of this number", "GET /api/v1/budgets lists them"));
    }
    tracing::info!(actor = who.actor, id, "a budget was removed");
    Ok(StatusCode::NO_CONTENT)
}
