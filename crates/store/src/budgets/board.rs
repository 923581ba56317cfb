//! The state of every budget, in memory, for answers to connections.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use tallyd_protocol::budgets::{self, UsedUp};
use tallyd_protocol::{Budgets, CallScope};
use utoipa::ToSchema;

use super::budget::{Budget, BudgetScope, Period};
use tallyd_model::pricing::{Usd, normalise_provider, provider_names};

/// How a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BudgetStanding {
    /// Below the warning.
    Normal,
    /// At the warning, or above.
    Warning,
    /// Used up.
    Exceeded,
}

impl BudgetStanding {
    /// The name in the protocol and in `api_budget_states`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Exceeded => "exceeded",
        }
    }

    /// The status by its name; [`BudgetStanding::Normal`] for any other name.
    #[must_use]
    pub fn by_name(name: &str) -> Self {
        [Self::Warning, Self::Exceeded].into_iter().find(|status| status.name() == name).unwrap_or(Self::Normal)
    }
}

/// One budget in its current period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BudgetState {
    /// The budget.
    #[serde(flatten)]
    pub budget: Budget,
    /// The period's first day, in the reporting time zone.
    pub period_start: NaiveDate,
    /// The day after its last.
    pub period_end: NaiveDate,
    /// Its spend.
    #[schema(value_type = String, example = "12.345")]
    pub spent_usd: Usd,
    /// The rest; below zero past the amount.
    #[schema(value_type = String, example = "12.655")]
    pub remaining_usd: Usd,
    /// Calls of the period without a known price.
    pub unpriced_calls: i64,
    /// How it stands.
    pub status: BudgetStanding,
}

impl BudgetState {
    /// True if calls that count towards it should be held back.
    #[must_use]
    pub fn should_throttle(&self) -> bool {
        self.status == BudgetStanding::Exceeded && self.budget.throttle
    }
}

/// Hundredths of a percent, rounded down. A budget of 0 is used up.
#[must_use]
pub fn basis_points(spent: Usd, budget: Usd) -> i128 {
    match budget.attos() {
        0 => 10_000,
        budget => spent.attos().checked_mul(10_000).map_or(i128::MAX / Usd::ONE.attos(), |points| points / budget),
    }
}

/// Converts hundredths of a percent to percent, in the decimal type of money.
#[must_use]
pub fn percent(basis_points: i128) -> Usd {
    Usd::from_attos(basis_points.saturating_mul(Usd::ONE.attos() / 100))
}

/// The state of every budget.
#[derive(Debug, Clone, Default)]
pub struct Board {
    states: Vec<BudgetState>,
    /// The state in acknowledgements. Made once, not for each answer.
    global: Option<tallyd_protocol::Budget>,
    /// Every scope that is used up, for lookups.
    used_up: UsedUp,
}

impl Board {
    /// A board of these states.
    #[must_use]
    pub fn new(states: Vec<BudgetState>) -> Self {
        let globals = states.iter().filter(|state| state.budget.scope == BudgetScope::Global);
        let worst = globals.clone().map(|state| state.status).max();
        let should_throttle = globals.clone().any(BudgetState::should_throttle);
        let global = worst.map(|status| tallyd_protocol::Budget { should_throttle, status: status.name().to_owned() });
        let used_up = UsedUp::new(should_throttle, used_up(&states));
        Self { states, global, used_up }
    }

    /// The same board, with budgets whose period has ended by `today` reset. None if no period has ended.
    #[must_use]
    pub fn after(&self, today: NaiveDate) -> Option<Self> {
        let has_ended = |state: &BudgetState| state.period_end <= today;
        let now = |state: &BudgetState| match has_ended(state) {
            true => untouched(state.budget.clone(), today, state.budget.period),
            false => state.clone(),
        };
        self.states.iter().any(has_ended).then(|| Self::new(self.states.iter().map(now).collect()))
    }

    /// The message to clients, within its bounds. Providers come first and users last: the scopes with the largest
    /// effect are omitted last.
    #[must_use]
    pub fn told(&self) -> Budgets {
        Budgets::bounded(self.global.clone(), used_up(&self.states))
    }

    /// All budgets.
    #[must_use]
    pub fn states(&self) -> &[BudgetState] {
        &self.states
    }

    /// The state in acknowledgements: the worst of the global budgets. None without any.
    #[must_use]
    pub fn global(&self) -> Option<&tallyd_protocol::Budget> {
        self.global.as_ref()
    }

    /// True if a call should be held back: it counts towards a budget that is used up and that throttles.
    #[must_use]
    pub fn should_throttle(&self, call: &CallScope<'_>) -> bool {
        self.used_up.holds_back(&CallScope { provider: &normalise_provider(call.provider), ..*call })
    }
}

/// The scopes that are used up, except the global one. A provider is listed under all its names, so that clients need
/// not know them.
fn used_up(states: &[BudgetState]) -> impl Iterator<Item = budgets::Scope> {
    let scope = |state: &BudgetState| {
        let value = &state.budget.scope_value;
        let names = match state.budget.scope {
            BudgetScope::Provider => provider_names(value).map(ToOwned::to_owned).collect(),
            _ => vec![value.clone()],
        };
        budgets::Scope::from([(state.budget.scope.name().to_owned(), names)])
    };
    let of = move |kind: BudgetScope| {
        states.iter().filter(move |state| state.budget.scope == kind && state.should_throttle())
    };
    [BudgetScope::Provider, BudgetScope::Model, BudgetScope::App, BudgetScope::User].into_iter().flat_map(of).map(scope)
}

/// The state of a budget before its first cost.
pub(crate) fn untouched(budget: Budget, today: NaiveDate, period: Period) -> BudgetState {
    let (period_start, period_end) = period.around(today);
    let remaining_usd = budget.amount_usd;
    BudgetState {
        budget,
        period_start,
        period_end,
        spent_usd: Usd::ZERO,
        remaining_usd,
        unpriced_calls: 0,
        status: BudgetStanding::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(scope: BudgetScope, value: &str, throttle: bool, status: BudgetStanding) -> BudgetState {
        let budget = Budget {
            id: 1,
            scope,
            scope_value: value.into(),
            period: Period::Day,
            amount_usd: Usd::ONE,
            warning_percent: 80,
            alert_percents: vec![100],
            throttle,
        };
        BudgetState { status, ..untouched(budget, NaiveDate::default(), Period::Day) }
    }

    #[test]
    fn a_call_is_held_back_by_the_budgets_that_it_counts_towards() {
        let board = Board::new(vec![
            state(BudgetScope::Global, "", true, BudgetStanding::Warning),
            state(BudgetScope::Provider, "claude", true, BudgetStanding::Warning),
            state(BudgetScope::Model, "claude-sonnet-4", true, BudgetStanding::Exceeded),
            state(BudgetScope::User, "u1", false, BudgetStanding::Exceeded),
            state(BudgetScope::App, "web", true, BudgetStanding::Exceeded),
        ]);
        let throttles =
            |provider, model, user_id, app| board.should_throttle(&CallScope { provider, model, user_id, app });
        assert!(!throttles("claude", "claude-sonnet-4-5", "u2", "cron"));
        assert!(throttles("claude", "claude-sonnet-4", "", ""));
        assert!(throttles("claude", "claude-sonnet-4-20250514", "", ""));
        assert!(!throttles("", "", "u1", ""), "that budget only tells");
        assert!(throttles("", "", "", "web"));
        let told = board.told();
        let name = |scope: &budgets::Scope| scope.keys().next().unwrap().clone();
        assert_eq!(told.used_up.iter().map(name).collect::<Vec<_>>(), ["model", "app"]);
        assert_eq!(told.budget.as_ref(), board.global());
        let global = board.global().unwrap();
        assert_eq!((global.should_throttle, global.status.as_str()), (false, "warning"));
        assert!(Board::default().global().is_none());
        let board = Board::new(vec![
            state(BudgetScope::Global, "", false, BudgetStanding::Exceeded),
            state(BudgetScope::Global, "", true, BudgetStanding::Normal),
        ]);
        let global = board.global().unwrap();
        assert_eq!((global.should_throttle, global.status.as_str()), (false, "exceeded"));
    }

    #[test]
    fn a_provider_is_told_under_all_its_names() {
        let board = Board::new(vec![state(BudgetScope::Provider, "claude", true, BudgetStanding::Exceeded)]);
        let used_up = UsedUp::from(board.told());
        for provider in ["claude", "anthropic", " Anthropic "] {
            let call = CallScope { provider, ..CallScope::default() };
            assert!(used_up.holds_back(&call) && board.should_throttle(&call), "{provider}");
        }
        assert!(!used_up.holds_back(&CallScope { provider: "openai", ..CallScope::default() }));
    }
}
