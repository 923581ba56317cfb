//! The state of every budget, in memory, for answers to connections.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use tallyd_protocol::budgets::Left;
use tallyd_protocol::check::Defaults;
use tallyd_protocol::{Budgets, CallScope, Checker};
use utoipa::ToSchema;

use super::budget::{Budget, Limit, Period};
use tallyd_model::pricing::{Usd, normalise_provider};

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
        self.status == BudgetStanding::Exceeded && self.budget.limit == Limit::Hard
    }

    /// Books the spend of the period.
    pub(super) fn book(&mut self, spent_usd: Usd, unpriced_calls: i64) {
        let Budget { amount_usd, warning_percent, .. } = self.budget;
        self.status = if reaches(spent_usd, amount_usd, 100) {
            BudgetStanding::Exceeded
        } else if reaches(spent_usd, amount_usd, warning_percent) {
            BudgetStanding::Warning
        } else {
            BudgetStanding::Normal
        };
        self.remaining_usd = amount_usd.checked_sub(spent_usd).unwrap_or(Usd::ZERO);
        (self.spent_usd, self.unpriced_calls) = (spent_usd, unpriced_calls);
    }
}

/// Whether a spend is this percentage of the amount, or more. Nothing spent reaches nothing.
pub(super) fn reaches(spent: Usd, amount: Usd, percent: i32) -> bool {
    let (hundredfold, limit) = (spent.attos().checked_mul(100), amount.attos().checked_mul(percent.into()));
    // A spend that overflows exceeds any budget.
    spent > Usd::ZERO && hundredfold.is_none_or(|spent| limit.is_some_and(|limit| spent >= limit))
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
    used_up: Checker,
    has_hard: bool,
}

impl Board {
    /// A board of these states.
    #[must_use]
    pub fn new(states: Vec<BudgetState>) -> Self {
        let globals = states.iter().filter(|state| state.budget.scope.is_everything());
        let worst = globals.clone().map(|state| state.status).max();
        let should_throttle = globals.clone().any(BudgetState::should_throttle);
        let global = worst.map(|status| tallyd_protocol::Budget { should_throttle, status: status.name().to_owned() });
        let used_up = by_effect(&states, |state| state.should_throttle() && !state.budget.scope.is_everything());
        let used_up = Checker::new(should_throttle, used_up.map(|state| state.budget.scope.told()), []);
        let has_hard = states.iter().any(|state| state.budget.limit == Limit::Hard);
        Self { states, global, used_up, has_hard }
    }

    /// Whether there is a hard budget.
    #[must_use]
    pub fn has_hard(&self) -> bool {
        self.has_hard
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

    /// The message to clients, within its bounds. The scopes with the largest effect are omitted last.
    #[must_use]
    pub fn told(&self) -> Budgets {
        let used_up = by_effect(&self.states, |state| state.should_throttle() && !state.budget.scope.is_everything());
        let is_left =
            |state: &BudgetState| state.status == BudgetStanding::Warning && state.budget.limit == Limit::Hard;
        let left = by_effect(&self.states, is_left)
            .map(|state| Left { scope: state.budget.scope.told(), usd: state.remaining_usd.to_string() });
        Budgets::bounded(self.global.clone(), used_up.map(|state| state.budget.scope.told()), left)
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

    /// True if a call should be held back: it counts towards a hard budget that is used up.
    #[must_use]
    pub fn should_throttle(&self, call: &CallScope<'_>) -> bool {
        let call = CallScope { provider: &normalise_provider(call.provider), ..*call };
        !self.used_up.check(&call, &Defaults::default()).is_allowed()
    }

    /// Whether calls are to be checked with their tags.
    #[must_use]
    pub fn asks_for_tags(&self) -> bool {
        self.used_up.has_tags()
    }
}

/// The states that are wanted: scopes with the largest effect first, older budgets before newer ones.
fn by_effect(states: &[BudgetState], is_wanted: impl Fn(&BudgetState) -> bool) -> impl Iterator<Item = &BudgetState> {
    let mut wanted: Vec<_> = states.iter().filter(|state| is_wanted(state)).collect();
    wanted.sort_by_key(|state| (state.budget.scope.rank(), state.budget.id));
    wanted.into_iter()
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
pub(crate) fn example(parts: &[(&str, &str)], limit: Limit, spent: &str) -> BudgetState {
    let budget = Budget {
        id: 1,
        scope: super::scope::scope(parts),
        period: Period::Day,
        amount_usd: Usd::ONE,
        warning_percent: 80,
        alert_percents: vec![100],
        limit,
    };
    let mut state = untouched(budget, NaiveDate::default(), Period::Day);
    state.book(Usd::parse(spent).unwrap(), 0);
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use Limit::{Hard, Soft};

    #[test]
    fn a_call_is_held_back_by_the_hard_budgets_that_it_counts_towards() {
        let board = Board::new(vec![
            example(&[], Hard, "0.875"),
            example(&[("provider", "claude")], Hard, "0.8"),
            example(&[("tag:team", "search"), ("model", "gpt-5")], Hard, "1"),
            example(&[("model", "claude-sonnet-4")], Hard, "2"),
            example(&[("user", "u1")], Soft, "2"),
            example(&[("app", "web")], Hard, "1"),
        ]);
        let call = CallScope::default();
        let throttles = |call: CallScope<'_>| board.should_throttle(&call);
        assert!(!throttles(CallScope {
            provider: "claude",
            model: "claude-sonnet-4-5",
            user_id: "u1",
            app: "cron",
            ..call
        }));
        assert!(throttles(CallScope { model: "claude-sonnet-4", ..call }));
        assert!(throttles(CallScope { model: "claude-sonnet-4-20250514", ..call }));
        assert!(throttles(CallScope { app: "web", ..call }));
        assert!(throttles(CallScope { model: "gpt-5", tags: &[("team", "search")], ..call }));
        assert!(!throttles(CallScope { model: "gpt-5", tags: &[("team", "ads")], ..call }));
        let told = board.told();
        let names = |scope: &tallyd_protocol::budgets::Scope| scope.keys().cloned().collect::<Vec<_>>().join("+");
        assert_eq!(told.used_up.iter().map(names).collect::<Vec<_>>(), ["model", "app", "model+tag:team"]);
        let left: Vec<_> = told.left.iter().map(|left| (names(&left.scope), left.usd.as_str())).collect();
        assert_eq!(left, [(String::new(), "0.125"), ("provider".to_owned(), "0.2")]);
        assert_eq!(told.budget.as_ref(), board.global());
        let global = board.global().unwrap();
        assert_eq!((global.should_throttle, global.status.as_str()), (false, "warning"));
        assert!(Board::default().global().is_none() && !Board::default().has_hard());
        let board = Board::new(vec![example(&[], Soft, "1"), example(&[], Hard, "0")]);
        let global = board.global().unwrap();
        assert_eq!((global.should_throttle, global.status.as_str()), (false, "exceeded"));
    }

    #[test]
    fn a_provider_is_told_under_all_its_names() {
        let board = Board::new(vec![example(&[("provider", "claude")], Hard, "1")]);
        let checker = Checker::from(board.told());
        let refuses = |call: &CallScope<'_>| !checker.check(call, &Defaults::default()).is_allowed();
        for provider in ["claude", "anthropic", " Anthropic "] {
            let call = CallScope { provider, ..CallScope::default() };
            assert!(refuses(&call) && board.should_throttle(&call), "{provider}");
        }
        assert!(!refuses(&CallScope { provider: "openai", ..CallScope::default() }));
    }

    #[test]
    fn a_budget_warns_from_its_percentage_on_and_nothing_spent_reaches_nothing() {
        use BudgetStanding::{Exceeded, Normal, Warning};
        for (spent, status) in [("0.799999999999999999", Normal), ("0.8", Warning), ("1", Exceeded), ("-1", Normal)] {
            assert_eq!(example(&[], Hard, spent).status, status, "{spent}");
        }
        assert!(!reaches(Usd::ZERO, Usd::ZERO, 100) && reaches(Usd::from_attos(1), Usd::ZERO, 100));
    }
}
