//! A metric's value from the sums of its window, and the level that a rule is at.

use serde::Serialize;
use utoipa::ToSchema;

use super::rule::{Metric, NewRule, Window};
use crate::whole::Whole;
use tallyd_model::pricing::Usd;

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Below its thresholds.
    Normal,
    /// At the warning, or above.
    Warning,
    /// At the alert's value, or above.
    Alert,
    /// The window has no calls.
    NoData,
}

impl Level {
    /// The name in the table and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Alert => "alert",
            Self::NoData => "no_data",
        }
    }

    pub(super) fn by_name(name: &str) -> Self {
        [Self::Warning, Self::Alert, Self::NoData]
            .into_iter()
            .find(|level| level.name() == name)
            .unwrap_or(Self::Normal)
    }
}

/// The sums of a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WindowSums {
    pub calls: Whole,
    pub errors: Whole,
    pub tokens: Whole,
    pub unpriced: Whole,
    pub cost: Usd,
}

/// The sums of a window, and of the one that begins an hour or a day earlier.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    pub now: WindowSums,
    pub wider: WindowSums,
}

/// A metric's value; none if it has nothing to divide by, or is out of range.
pub(super) fn of(metric: Metric, sums: &WindowSums) -> Option<Usd> {
    let whole = |count: Whole| count.0.checked_mul(Usd::ONE.attos()).map(Usd::from_attos);
    match metric {
        Metric::Cost => Some(sums.cost),
        Metric::Calls => whole(sums.calls),
        Metric::Tokens => whole(sums.tokens),
        Metric::UnpricedCalls => whole(sums.unpriced),
        Metric::ErrorPercent => {
            let errors = whole(sums.errors)?.attos().checked_mul(100)?;
            (sums.calls.0 > 0).then(|| Usd::from_attos(errors / sums.calls.0))
        }
        Metric::CostPerCall => {
            let priced = sums.calls.0 - sums.unpriced.0;
            (priced > 0).then(|| Usd::from_attos(sums.cost.attos() / priced))
        }
        Metric::BurnRate | Metric::ForecastPercent => None,
    }
}

/// How many times faster than evenly an amount is spent: its spend of a window, against the amount's share of as much
/// time. Four decimals. `period` is the budget's period in the window's unit.
pub(super) fn burn_rate(spent: Usd, window: Window, amount: Usd, period: i32) -> Option<Usd> {
    let even = amount.attos().checked_mul(window.size.into())?;
    let spent = spent.attos().checked_mul(i128::from(period) * 10_000)?;
    let rate = spent.checked_div(even)?;
    rate.checked_mul(Usd::ONE.attos() / 10_000).map(Usd::from_attos)
}

/// The level of a value alone.
fn reached(rule: &NewRule, value: Option<Usd>) -> Level {
    let at = |threshold: Option<Usd>| value.is_some() && threshold.is_some() && value >= threshold;
    match (at(rule.alert), at(rule.warning)) {
        (true, _) => Level::Alert,
        (_, true) => Level::Warning,
        _ => Level::Normal,
    }
}

/// The level after an evaluation. It only rises until `wider`, the value of the wider window, is below every threshold.
pub(super) fn level(rule: &NewRule, before: Level, now: Option<Usd>, wider: Option<Usd>, is_silent: bool) -> Level {
    if rule.no_data && is_silent {
        return Level::NoData;
    }
    let reached_now = reached(rule, now);
    let is_over = reached_now == Level::Normal && reached(rule, wider) == Level::Normal;
    match before {
        _ if is_over => Level::Normal,
        Level::NoData | Level::Normal => reached_now,
        before => before.max(reached_now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    #[test]
    fn values_are_exact_and_have_nothing_to_divide_by_where_there_are_no_calls() {
        let sums =
            WindowSums { calls: Whole(8), errors: Whole(1), tokens: Whole(7), unpriced: Whole(2), cost: usd("3") };
        let value = |metric| of(metric, &sums).unwrap().to_string();
        assert_eq!(
            [Metric::Cost, Metric::Calls, Metric::Tokens, Metric::UnpricedCalls].map(value),
            ["3", "8", "7", "2"]
        );
        assert_eq!([Metric::ErrorPercent, Metric::CostPerCall].map(value), ["12.5", "0.5"]);
        let none = WindowSums { calls: Whole(2), unpriced: Whole(2), ..WindowSums::default() };
        assert_eq!(of(Metric::CostPerCall, &none), None);
        assert_eq!(of(Metric::ErrorPercent, &WindowSums::default()), None);
    }

    #[test]
    fn a_burn_rate_of_one_spends_the_budget_in_its_period() {
        let day = Window::parse("24h").unwrap();
        let rate = |spent, amount| burn_rate(usd(spent), day, usd(amount), 720).map(|rate| rate.to_string());
        assert_eq!(rate("10", "300").as_deref(), Some("1"));
        assert_eq!(rate("144", "300").as_deref(), Some("14.4"));
        assert_eq!(rate("999999999", "1000000000").as_deref(), Some("29.9999"));
        assert_eq!(rate("1", "0"), None);
    }

    #[test]
    fn a_level_rises_at_once_and_falls_with_the_wider_window() {
        use Level::{Alert, NoData, Normal, Warning};
        let rule =
            NewRule { warning: Some(usd("5")), alert: Some(usd("10")), no_data: true, ..super::super::rule::example() };
        for (before, now, wider, silent, expected) in [
            (Normal, "4", "9", false, Normal),
            (Normal, "5", "5", false, Warning),
            (Warning, "10", "10", false, Alert),
            (Alert, "4", "5", false, Alert),
            (Alert, "6", "9", false, Alert),
            (Alert, "4", "4.9", false, Normal),
            (Warning, "0", "0", true, NoData),
            (NoData, "0", "0", false, Normal),
            (NoData, "12", "12", false, Alert),
            // A share can be smaller in the wider window.
            (Alert, "12", "1", false, Alert),
        ] {
            let found = level(&rule, before, Some(usd(now)), Some(usd(wider)), silent);
            assert_eq!(found, expected, "{before:?} {now} {wider}");
        }
        assert_eq!(level(&rule, Alert, None, None, false), Normal);
    }
}
