//! The days of a period, in the reporting time zone. A week begins on Monday.

use chrono::{Datelike, Days, Months, NaiveDate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a budget's amount is for.
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
    /// Its name in `api_budgets`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The period of a name in `api_budgets`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Day, Self::Week, Self::Month].into_iter().find(|period| period.name() == name)
    }

    /// The first day of the period that a day lies in, and the day after its last one.
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
