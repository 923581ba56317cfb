//! Forecasts of budgets: the whole period's spend, of budgets of everything and of a provider.

use std::collections::HashMap;

use chrono::{DateTime, Days};
use tallyd_model::zone::Tz;
use tokio_postgres::Client;

use super::{Board, Budget, BudgetState};
use crate::queries::grouped::Dimension;
use crate::queries::history::spending_history;
use tallyd_model::forecast::{Estimate, History, Outlook, day_left};

/// Bound on providers whose budgets have a forecast: each takes a query and a fitted model.
const PROVIDERS_MAX: usize = 16;

/// The provider whose costs count towards a budget; empty for all costs. None for scopes without a forecast.
pub(crate) fn provider(budget: &Budget) -> Option<&str> {
    match budget.scope.parts() {
        [] => Some(""),
        [(Dimension::Provider, name)] => Some(name),
        _ => None,
    }
}

/// Estimates by budget id, for global budgets and those of providers, if the history is long enough.
///
/// # Errors
/// PostgreSQL's.
pub async fn estimates(
    client: &Client,
    board: &Board,
    now: &DateTime<Tz>,
) -> Result<HashMap<i32, Estimate>, tokio_postgres::Error> {
    let mut histories: HashMap<&str, History> = HashMap::new();
    for provider in board.states().iter().filter_map(|state| provider(&state.budget)) {
        if histories.len() < PROVIDERS_MAX && !histories.contains_key(provider) {
            histories.insert(provider, spending_history(client, now.date_naive(), provider).await?);
        }
    }
    let outlooks: HashMap<_, _> =
        histories.iter().map(|(provider, history)| (*provider, Outlook::of(history, day_left(now)))).collect();
    let estimate = |state: &BudgetState| {
        let outlook = outlooks.get(provider(&state.budget)?)?;
        let estimate = outlook.period(state.period_start, state.period_end - Days::new(1));
        estimate.expected_usd.is_some().then_some((state.budget.id, estimate))
    };
    Ok(board.states().iter().filter_map(estimate).collect())
}
