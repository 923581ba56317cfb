//! What spending will come to: to the end of the day, of the month, and in the next 30 days.
//!
//! *From what.* Daily sums of the rollups, up to 120 days back; a day without a call is a day of 0. Today counts with what
//! was spent, and for its rest with its share of the whole day's estimate: spending is taken to be spread evenly.
//!
//! *How.* By how much there is to learn from:
//! | whole days | method | interval |
//! |---|---|---|
//! | fewer than 3 | none: there is nothing to say | |
//! | 3 to 13 | the mean of the days | none: it would be made up |
//! | 14 to 20 | exponential smoothing, its form chosen by fit | yes |
//! | 21 and more | weekly season and trend taken apart (MSTL), the trend smoothed as above | yes |
//!
//! *The interval* is to hold the outcome 8 times of 10. Of a sum of days it is the sum of their intervals: a level that
//! turns out higher is higher on all of them, so errors of days do not cancel out. `make bench-forecast` measures how often
//! it holds, and how far off the estimate is beside naive ones; `benches/README.md` has the figures.
//!
//! *Money.* What was spent is exact. An estimate is a statistic: it is computed in floating point, rounded to cents, and
//! never added to anything that is stored.

mod model;

use chrono::{Datelike, Days, Months, NaiveDate, Timelike};
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use utoipa::ToSchema;

pub use model::{LEVEL, Method, Prediction, predict};

use crate::pricing::Usd;

/// Days that are learned from, at most.
pub const HISTORY_DAYS: u64 = 120;
/// Days of the longest forecast.
pub const AHEAD_DAYS: usize = 30;

/// What something will come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Estimate {
    /// The day up to which it counts, included.
    pub until: NaiveDate,
    /// What of it was spent already, exactly.
    #[schema(value_type = String, example = "12.345")]
    pub spent_usd: Usd,
    /// What all of it will come to; none without enough history.
    #[schema(value_type = Option<String>, example = "31.2")]
    pub expected_usd: Option<Usd>,
    /// The interval's ends; none without enough history.
    #[schema(value_type = Option<String>, example = "31.2")]
    pub low_usd: Option<Usd>,
    /// The upper end.
    #[schema(value_type = Option<String>, example = "31.2")]
    pub high_usd: Option<Usd>,
}

/// The whole forecast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Forecast {
    /// How it was made.
    pub method: Method,
    /// Whole days that it was made from.
    pub history_days: usize,
    /// How often the interval should hold, in percent.
    pub interval_percent: u8,
    /// Today, to its end.
    pub day: Estimate,
    /// This month, to its end.
    pub month: Estimate,
    /// The 30 days after today.
    pub next_30_days: Estimate,
}

/// Daily sums, the first day with any spending first; the last one is today's so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Today.
    pub today: NaiveDate,
    /// What each day came to, today last.
    pub days: Vec<Usd>,
}

/// Reads the daily sums, of one provider if it is named.
///
/// # Errors
/// PostgreSQL's.
pub async fn history(client: &Client, today: NaiveDate, provider: &str) -> Result<History, tokio_postgres::Error> {
    let first = today - Days::new(HISTORY_DAYS);
    let sql = "WITH sums AS (SELECT day, sum(cost_usd) AS usd FROM public.daily_api_costs \
             WHERE day >= $1 AND day <= $2 AND ($3 = '' OR provider = $3) GROUP BY day) \
         SELECT round(coalesce(s.usd, 0), 18) \
         FROM generate_series((SELECT min(day) FROM sums WHERE usd > 0), $2, interval '1 day') AS d (day) \
         LEFT JOIN sums AS s ON s.day = d.day::date ORDER BY d.day";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&first, Type::DATE), (&today, Type::DATE), (&provider, Type::TEXT)];
    let rows = client.query_typed(sql, &parameters).await?;
    Ok(History { today, days: rows.iter().map(|row| row.get(0)).collect() })
}

/// A history with a model fitted to it: what is asked of it costs little.
pub struct Outlook<'h> {
    history: &'h History,
    spent_today: Usd,
    prediction: Prediction,
    left: f64,
}

impl<'h> Outlook<'h> {
    /// Fits the model. `day_left` is the share of today that is still to come, 0 to 1.
    #[must_use]
    pub fn of(history: &'h History, day_left: f64) -> Self {
        let (spent_today, past) = match history.days.split_last() {
            Some((today, past)) => (*today, past),
            None => (Usd::ZERO, &[][..]),
        };
        let amounts: Vec<f64> = past.iter().map(|usd| dollars(*usd)).collect();
        // Today is the first day that is predicted.
        let prediction = predict(&amounts, AHEAD_DAYS + 1);
        Self { history, spent_today, prediction, left: day_left.clamp(0.0, 1.0) }
    }

    /// The day, the month, and 30 days.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        let today = self.history.today;
        // Every month has a first day.
        let month = today.with_day(1).unwrap_or(today);
        let rest = Weights { today_share: 0.0, days: 1..1 + AHEAD_DAYS };
        let end_30 = today + Days::new(AHEAD_DAYS as u64);
        Forecast {
            method: self.prediction.method,
            history_days: self.history.days.len().saturating_sub(1),
            interval_percent: (LEVEL * 100.0) as u8,
            day: self.period(today, today),
            month: self.period(month, month + Months::new(1) - Days::new(1)),
            next_30_days: estimate(&self.prediction, end_30, Usd::ZERO, &rest),
        }
    }

    /// What a running period comes to, from its first day to its last. Nothing is expected beyond [`AHEAD_DAYS`].
    #[must_use]
    pub fn period(&self, first: NaiveDate, last: NaiveDate) -> Estimate {
        let days = |from: NaiveDate, to: NaiveDate| usize::try_from((to - from).num_days()).unwrap_or(0);
        let (gone, left) = (days(first, self.history.today), days(self.history.today, last));
        let past = self.history.days.iter().rev().skip(1).take(gone).copied();
        let spent = past.fold(self.spent_today, |sum, day| sum.checked_add(day).unwrap_or(sum));
        estimate(&self.prediction, last, spent, &Weights { today_share: self.left, days: 1..1 + left })
    }

    /// Each of the days after today.
    #[must_use]
    pub fn days(&self) -> Vec<Estimate> {
        let day = |ahead: usize| {
            let until = self.history.today + Days::new(ahead as u64);
            estimate(&self.prediction, until, Usd::ZERO, &Weights { today_share: 0.0, days: ahead..ahead + 1 })
        };
        (1..=AHEAD_DAYS).map(day).collect()
    }
}

/// Estimates from a history. `day_left` is the share of today that is still to come, 0 to 1.
#[must_use]
pub fn forecast(history: &History, day_left: f64) -> Forecast {
    Outlook::of(history, day_left).forecast()
}

/// The share of a day that is still to come, by its clock.
#[must_use]
pub fn day_left(now: &impl Timelike) -> f64 {
    1.0 - f64::from(now.num_seconds_from_midnight()) / 86_400.0
}

/// Which of the predicted days count: today's share, and whole days.
struct Weights {
    today_share: f64,
    days: std::ops::Range<usize>,
}

fn estimate(prediction: &Prediction, until: NaiveDate, spent: Usd, weights: &Weights) -> Estimate {
    let sum = |days: &Option<Vec<f64>>| {
        let days = days.as_ref()?;
        let today = days.first().copied().unwrap_or(0.0) * weights.today_share;
        let rest: f64 = days.get(weights.days.clone())?.iter().sum();
        spent.checked_add(cents(today + rest)?)
    };
    Estimate {
        until,
        spent_usd: spent,
        expected_usd: sum(&prediction.expected),
        low_usd: sum(&prediction.low),
        high_usd: sum(&prediction.high),
    }
}

/// For the model, not for the books.
fn dollars(usd: Usd) -> f64 {
    usd.attos() as f64 / Usd::ONE.attos() as f64
}

/// A statistic in cents; none if it is no number, or beyond what a budget could be.
fn cents(dollars: f64) -> Option<Usd> {
    let cents = (dollars * 100.0).round();
    // Whole cents below 10^15 are exact in the integer.
    (cents.abs() < 1e15).then(|| Usd::from_attos(cents as i128 * (Usd::ONE.attos() / 100)))
}

#[cfg(test)]
mod tests;
