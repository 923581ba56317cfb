//! The metrics of budgets and of unpriced calls. A label lasts until the process ends, so the number of labels is
//! bounded. A budget or model that is gone goes to 0 rather than out of sight, so that an alert on it resolves.

use std::collections::{HashMap, HashSet};

use metrics::gauge;

use tallyd_base::registry;
use tallyd_model::forecast::Estimate;
use tallyd_model::pricing::Usd;
use tallyd_store::budgets::{Board, Budget};
use tallyd_store::queries::grouped::Dimension;
use tallyd_store::unpriced::UnpricedModel;

/// The most budgets, and the most unpriced models, with a metric of their own.
const MAX_SHOWN: usize = 50;

/// Budgets and models that have had a metric since the start.
#[derive(Default)]
pub(super) struct Shown {
    budgets: HashSet<String>,
    models: HashSet<(String, String)>,
}

impl Shown {
    /// Shows the used share of each budget, and with `estimates` the expected one.
    pub(super) fn budgets(&mut self, board: &Board, estimates: Option<&HashMap<i32, Estimate>>) {
        let mut now = HashSet::new();
        for state in board.states() {
            let name = label(&state.budget);
            if !self.budgets.contains(&name) && self.budgets.len() >= MAX_SHOWN {
                continue;
            }
            show(registry::BUDGET_SPENT_RATIO, &name, share(state.spent_usd, state.budget.amount_usd));
            if let Some(estimates) = estimates {
                let expected = estimates.get(&state.budget.id).and_then(|estimate| estimate.expected_usd);
                show(
                    registry::BUDGET_FORECAST_RATIO,
                    &name,
                    share(expected.unwrap_or_default(), state.budget.amount_usd),
                );
            }
            self.budgets.insert(name.clone());
            now.insert(name);
        }
        for gone in self.budgets.difference(&now) {
            show(registry::BUDGET_SPENT_RATIO, gone, 0.0);
            show(registry::BUDGET_FORECAST_RATIO, gone, 0.0);
        }
    }

    /// Shows the models with the most unpriced calls.
    pub(super) fn models(&mut self, models: &[UnpricedModel]) {
        let (mut now, mut rest) = (HashSet::new(), 0);
        for model in models {
            let name = (model.provider.clone(), model.model.clone());
            if self.models.contains(&name) || self.models.len() < MAX_SHOWN {
                show_model(&name, model.calls);
                self.models.insert(name.clone());
                now.insert(name);
            } else {
                rest += model.calls;
            }
        }
        self.models.difference(&now).for_each(|name| show_model(name, 0));
        show_model(&("(other)".into(), "(other)".into()), rest);
    }
}

fn show(metric: &'static str, budget: &str, ratio: f64) {
    gauge!(metric, "budget" => budget.to_owned()).set(ratio);
}

fn show_model((provider, model): &(String, String), calls: i64) {
    gauge!(registry::UNPRICED_CALLS, "provider" => provider.clone(), "model" => model.clone()).set(calls as f64);
}

/// A rounded ratio, for metrics only; exact amounts are in the database.
fn share(amount: Usd, of: Usd) -> f64 {
    if of == Usd::ZERO { 0.0 } else { amount.attos() as f64 / of.attos() as f64 }
}

/// A budget's name for the metrics, which need no token. A user's id, which may be an e-mail address, is left out.
fn label(budget: &Budget) -> String {
    let period = budget.period.adjective();
    if budget.scope.is_everything() {
        return format!("all spend, {period}");
    }
    let words = |(dimension, name): &(Dimension, String)| match dimension {
        Dimension::User => format!("user of budget {}", budget.id),
        Dimension::Tag(tag) => format!("tag {tag} {name}"),
        dimension => format!("{} {name}", dimension.name()),
    };
    let parts: Vec<String> = budget.scope.parts().iter().map(words).collect();
    format!("{}, {period}", parts.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyd_store::budgets::{BudgetScope, Limit, Period};

    #[test]
    fn budgets_have_names_and_users_stay_unnamed() {
        let name = |parts: &[(&str, &str)], period| {
            let names = parts.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect();
            label(&Budget {
                id: 7,
                scope: BudgetScope::parse(&names).unwrap(),
                period,
                amount_usd: Usd::ONE,
                warning_percent: 80,
                alert_percents: Vec::new(),
                limit: Limit::Hard,
            })
        };
        assert_eq!(name(&[], Period::Day), "all spend, daily");
        assert_eq!(name(&[("provider", "claude")], Period::Month), "provider claude, monthly");
        assert_eq!(name(&[("app", "web")], Period::Week), "app web, weekly");
        let pair = [("tag:team", "search"), ("model", "gpt-5")];
        assert_eq!(name(&pair, Period::Day), "model gpt-5 and tag team search, daily");
        let user = [("user", "ann@example.com"), ("provider", "claude")];
        assert_eq!(name(&user, Period::Day), "provider claude and user of budget 7, daily");
    }
}
