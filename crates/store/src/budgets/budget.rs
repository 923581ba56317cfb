//! A budget: an amount, a scope and a period. Days are of the reporting time zone; a week begins on Monday.

use chrono::{Datelike, Days, Months, NaiveDate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BudgetScope;
use tallyd_model::pricing::Usd;

/// The effect of a budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Alerts alone.
    Soft,
    /// Clients also refuse calls before they are made.
    #[default]
    Hard,
}

impl Limit {
    /// The name in `api_budgets`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }

    /// The limit by its name in `api_budgets`.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        [Self::Soft, Self::Hard].into_iter().find(|limit| limit.name() == name)
    }
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Budget {
    /// Its row.
    pub id: i32,
    /// Names by dimension: `{"tag:team": "search", "model": "gpt-5"}`. Without a dimension: all spend.
    #[schema(value_type = Object)]
    pub scope: BudgetScope,
    /// For how long the amount is.
    pub period: Period,
    /// How much.
    #[schema(value_type = String, example = "25")]
    pub amount_usd: Usd,
    /// From this percentage on the status is a warning.
    pub warning_percent: i32,
    /// At these percentages an alert is due.
    pub alert_percents: Vec<i32>,
    /// Whether clients refuse calls once it is used up.
    pub limit: Limit,
}

/// The period of a budget's amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
}

impl Period {
    /// The name in `api_budgets`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The word in messages, as in "daily budget".
    #[must_use]
    pub const fn adjective(self) -> &'static str {
        match self {
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
        }
    }

    /// The period by its name in `api_budgets`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Day, Self::Week, Self::Month].into_iter().find(|period| period.name() == name)
    }

    /// The first day of the period around a day, and the day after its last.
    #[must_use]
    pub fn around(self, day: NaiveDate) -> (NaiveDate, NaiveDate) {
        let first = match self {
            Self::Day => day,
            Self::Week => day - Days::new(u64::from(day.weekday().num_days_from_monday())),
            // Every month has a first day.
            Self::Month => day.with_day(1).unwrap_or(day),
        };
        let end = match self {
            Self::Day => first + Days::new(1),
            Self::Week => first + Days::new(7),
            Self::Month => first + Months::new(1),
        };
        (first, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_have_the_days_that_a_calendar_gives_them() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        for (period, at, first, end) in [
            (Period::Day, "2026-12-31", "2026-12-31", "2027-01-01"),
            (Period::Week, "2026-11-23", "2026-11-23", "2026-11-30"),
            (Period::Week, "2026-11-29", "2026-11-23", "2026-11-30"),
            (Period::Week, "2027-01-01", "2026-12-28", "2027-01-04"),
            (Period::Month, "2028-02-29", "2028-02-01", "2028-03-01"),
            (Period::Month, "2026-12-01", "2026-12-01", "2027-01-01"),
        ] {
            assert_eq!(period.around(day(at)), (day(first), day(end)), "{period:?} {at}");
            assert_eq!(Period::by_name(period.name()), Some(period));
        }
    }
}
