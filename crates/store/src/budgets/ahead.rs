//! What the current period of each budget will come to, by the forecast of what it bounds.

use std::collections::HashMap;

use chrono::{DateTime, Days};
use chrono_tz::Tz;
use tokio_postgres::Client;

use super::{Board, BudgetState, Scope};
use crate::queries::history::spending_history;
use tallyd_model::forecast::{Estimate, History, Outlook, day_left};

/// Providers whose budgets are forecast: each takes a question and a fitted model.
const PROVIDERS_MAX: usize = 16;

/// The provider whose spending counts towards a budget; empty for all of it. None for what the history does not tell.
fn provider(state: &BudgetState) -> Option<&str> {
    matches!(state.budget.scope, Scope::Global | Scope::Provider).then_some(state.budget.scope_value.as_str())
}

/// Estimates by the budgets' ids: of everything and of providers, where there is history enough.
///
/// # Errors
/// PostgreSQL's.
pub async fn estimates(
    client: &Client,
    board: &Board,
    now: &DateTime<Tz>,
) -> Result<HashMap<i32, Estimate>, tokio_postgres::Error> {
    let mut histories: HashMap<&str, History> = HashMap::new();
    for provider in board.states().iter().filter_map(provider) {
        if histories.len() < PROVIDERS_MAX && !histories.contains_key(provider) {
            histories.insert(provider, spending_history(client, now.date_naive(), provider).await?);
        }
    }
    let outlooks: HashMap<_, _> =
        histories.iter().map(|(provider, history)| (*provider, Outlook::of(history, day_left(now)))).collect();
    let estimate = |state: &BudgetState| {
        let outlook = outlooks.get(provider(state)?)?;
        let estimate = outlook.period(state.period_start, state.period_end - Days::new(1));
        estimate.expected_usd.is_some().then_some((state.budget.id, estimate))
    };
    Ok(board.states().iter().filter_map(estimate).collect())
}
