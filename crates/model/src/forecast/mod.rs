//! Forecast of costs: to the end of the day, of the month, and in the next 7 and 30 days.
//!
//! *Input.* Daily sums of the rollups by provider, up to 120 days back; a day without a call is a day of 0. Today
//! counts with its costs so far, plus its remaining share of the whole day's estimate: costs are assumed to be spread
//! evenly over a day.
//!
//! *Method.* Unusual days are reduced, in part or in full, and listed. The method then depends on the length of the
//! history:
//! | whole days | method | interval |
//! |---|---|---|
//! | fewer than 3 | none | |
//! | 3 to 13 | the mean of the days | none: too few days for one |
//! | 14 and more | a repetition of the last week, and a week's rhythm on a slow and a fast level, weighted by their past errors | yes |
//!
//! *Parts.* Each provider is predicted alone; the whole is the sum of its providers, to the cent. A provider's models
//! share its estimate by their recent costs, because models replace one another too often to be predicted alone.
//!
//! *The interval* should include the outcome 8 times of 10. Its trials sum the same days ahead: see
//! [`interval`](Prediction). `make bench-forecast` measures how often it does, and compares the estimate's error with
//! naive ones; `benches/README.md` has the figures.
//!
//! *Money.* Past costs are exact. An estimate is a statistic: it is computed in floating point, rounded to cents, and
//! never added to stored amounts.

mod history;
mod interval;
mod model;
mod unusual;

use chrono::{Datelike, Days, Months, NaiveDate, Timelike};
use serde::Serialize;
use utoipa::ToSchema;

pub use history::{History, Part};
pub use interval::{DayRange, LEVEL};
pub use model::{Method, Prediction, predict};

use crate::pricing::Usd;

/// Largest number of days in the history.
pub const HISTORY_DAYS: u64 = 120;
/// Days of the longest forecast.
pub const AHEAD_DAYS: usize = 30;
/// Largest number of unusual days in the list: the latest.
pub const UNUSUAL_MAX: usize = 50;
/// The days whose sums give the models' shares of their provider's estimate.
pub const SHARE_DAYS: usize = 28;
const CENT: i128 = Usd::ONE.attos() / 100;

/// An estimate of future spend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Estimate {
    /// The day up to which it counts, included.
    pub until: NaiveDate,
    /// The part that was spent already, exact.
    #[schema(value_type = String, example = "12.345")]
    pub spent_usd: Usd,
    /// The estimated total, in cents; none without enough history.
    #[schema(value_type = Option<String>, example = "31.2")]
    pub expected_usd: Option<Usd>,
    /// The interval's ends, in cents; none without enough history.
    #[schema(value_type = Option<String>, example = "31.2")]
    pub low_usd: Option<Usd>,
    /// The upper end.
    #[schema(value_type = Option<String>, example = "31.2")]
    pub high_usd: Option<Usd>,
}

/// A part's share of the 30 days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartEstimate {
    /// The provider; of one provider's forecast the model. `(other)`: those beyond the 31 largest.
    pub name: String,
    /// Estimate for the 30 days after today. The parts' sum is that of the whole, to the cent.
    #[schema(value_type = String, example = "31.2")]
    pub next_30_days_usd: Usd,
}

/// A day that stands out, and counts less than it came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnusualDay {
    /// The day.
    pub day: NaiveDate,
    /// Of this provider.
    pub provider: String,
    /// Its cost.
    #[schema(value_type = String, example = "3000")]
    pub cost_usd: Usd,
    /// The amount that the forecast uses instead, in cents: between a usual day's cost and this day's.
    #[schema(value_type = String, example = "880.15")]
    pub counted_usd: Usd,
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
    /// The 7 days after today.
    pub next_7_days: Estimate,
    /// The 30 days after today.
    pub next_30_days: Estimate,
    /// Those 30 days by provider; of one provider's forecast by model. The largest first.
    pub parts: Vec<PartEstimate>,
    /// Days that count less than they came to, oldest first; the latest 50.
    pub unusual_days: Vec<UnusualDay>,
}

/// A history with its fitted model, for several cheap requests.
pub struct Outlook<'h> {
    history: &'h History,
    whole: Prediction,
    parts: Vec<Prediction>,
    left: f64,
}

impl<'h> Outlook<'h> {
    /// Fits the model. `day_left` is the remaining share of today, 0 to 1.
    #[must_use]
    pub fn of(history: &'h History, day_left: f64) -> Self {
        let past = |part: &Part| part.past().iter().map(|usd| dollars(*usd)).collect();
        let days: Vec<Vec<f64>> = history.parts.iter().map(past).collect();
        // The first predicted day is today.
        let (whole, parts) = model::predict_parts(&days, AHEAD_DAYS + 1);
        Self { history, whole, parts, left: day_left.clamp(0.0, 1.0) }
    }

    /// The day, the month, the 7 and the 30 days.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        let today = self.history.today;
        // Every month has a first day.
        let month = today.with_day(1).unwrap_or(today);
        let next = |days: usize| self.estimate(today + Days::new(days as u64), 0..0, &DayRange::whole(1..1 + days));
        Forecast {
            method: self.whole.method,
            history_days: self.history.parts.iter().map(|part| part.past().len()).max().unwrap_or(0),
            interval_percent: (LEVEL * 100.0) as u8,
            day: self.period(today, today),
            month: self.period(month, month + Months::new(1) - Days::new(1)),
            next_7_days: next(7),
            next_30_days: next(AHEAD_DAYS),
            parts: self.parts(),
            unusual_days: self.unusual_days(),
        }
    }

    /// The estimate of a running period, from its first day to its last. Days beyond [`AHEAD_DAYS`] do not count.
    #[must_use]
    pub fn period(&self, first: NaiveDate, last: NaiveDate) -> Estimate {
        let days = |from: NaiveDate, to: NaiveDate| usize::try_from((to - from).num_days()).unwrap_or(0);
        let (gone, left) = (days(first, self.history.today), days(self.history.today, last));
        self.estimate(last, 0..gone + 1, &DayRange { days: 0..1 + left, first: self.left })
    }

    /// Estimates of each day after today.
    #[must_use]
    pub fn days(&self) -> Vec<Estimate> {
        let day = |ahead: usize| {
            let until = self.history.today + Days::new(ahead as u64);
            self.estimate(until, 0..0, &DayRange::whole(ahead..ahead + 1))
        };
        (1..=AHEAD_DAYS).map(day).collect()
    }

    /// The days of `spent` are counted back from today, which is 0.
    fn estimate(&self, until: NaiveDate, spent: std::ops::Range<usize>, span: &DayRange) -> Estimate {
        let spent_of = |part: &Part| total(part.days.iter().rev().take(spent.end).skip(spent.start).copied());
        let come = |(part, found): (&Part, &Prediction)| {
            // Past costs are a part of the estimate, so they are rounded up to a whole cent.
            up_to_cents(spent_of(part)).checked_add(cents(found.sum(span)?)?)
        };
        let expected = self.whole.sum(span).and_then(|_| {
            let parts: Option<Vec<Usd>> = self.history.parts.iter().zip(&self.parts).map(come).collect();
            Some(total(parts?.into_iter()))
        });
        let spent_usd = total(self.history.parts.iter().map(spent_of));
        let end = |end: f64| up_to_cents(spent_usd).checked_add(cents(end)?);
        let interval = self.whole.interval(span);
        // The parts are rounded separately.
        let low_usd = interval.and_then(|(low, _)| Some(end(low)?.min(expected?)));
        let high_usd = interval.and_then(|(_, high)| Some(end(high)?.max(expected?)));
        Estimate { until, spent_usd, expected_usd: expected, low_usd, high_usd }
    }

    fn parts(&self) -> Vec<PartEstimate> {
        let span = DayRange::whole(1..1 + AHEAD_DAYS);
        let of = |(part, found): (&Part, &Prediction)| {
            Some(PartEstimate { name: part.name.clone(), next_30_days_usd: cents(found.sum(&span)?)? })
        };
        let parts = self.history.parts.iter().zip(&self.parts).filter_map(of);
        let mut parts: Vec<PartEstimate> = match self.history.models.as_slice() {
            [] => parts.collect(),
            models => parts.flat_map(|part| self.shares(models, part.next_30_days_usd)).collect(),
        };
        parts.sort_by(|a, b| b.next_30_days_usd.cmp(&a.next_30_days_usd).then_with(|| a.name.cmp(&b.name)));
        parts
    }

    /// Splits a provider's estimate by its models' costs in the last [`SHARE_DAYS`] without unusual days.
    fn shares(&self, models: &[Part], estimate: Usd) -> Vec<PartEstimate> {
        let unusual: Vec<NaiveDate> = self.unusual_days().iter().map(|day| day.day).collect();
        let usual = |part: &Part, skip: &[NaiveDate]| {
            let days = part.days.iter().rev().enumerate().skip(1).take(SHARE_DAYS);
            let days = days.filter(|(ago, _)| !skip.contains(&(self.history.today - Days::new(*ago as u64))));
            dollars(total(days.map(|(_, usd)| *usd)))
        };
        let mut spent: Vec<f64> = models.iter().map(|model| usual(model, &unusual)).collect();
        if spent.iter().sum::<f64>() <= 0.0 {
            spent = models.iter().map(|model| usual(model, &[])).collect();
        }
        let whole: f64 = spent.iter().sum();
        let cents = (estimate.attos() / CENT) as f64;
        // Rounded at each running sum, so that the shares add up to the whole.
        let (mut sum, mut given) = (0.0, 0);
        let share = |(model, spent): (&Part, f64)| {
            sum += spent;
            let until = if whole > 0.0 { (cents * (sum / whole)).round() as i128 } else { 0 };
            let share = until - std::mem::replace(&mut given, until);
            PartEstimate { name: model.name.clone(), next_30_days_usd: Usd::from_attos(share * CENT) }
        };
        models.iter().zip(spent).map(share).collect()
    }

    fn unusual_days(&self) -> Vec<UnusualDay> {
        let mut found = Vec::new();
        for (part, prediction) in self.history.parts.iter().zip(&self.parts) {
            let past = part.past();
            for (at, (usd, counted)) in past.iter().zip(&prediction.counted).enumerate() {
                if *counted != dollars(*usd) {
                    let day = self.history.today - Days::new((past.len() - at) as u64);
                    let counted_usd = cents(*counted).unwrap_or(*usd);
                    found.push(UnusualDay { day, provider: part.name.clone(), cost_usd: *usd, counted_usd });
                }
            }
        }
        found.sort_by_key(|unusual| unusual.day);
        found.split_off(found.len().saturating_sub(UNUSUAL_MAX))
    }
}

/// Estimates from a history. `day_left` is the remaining share of today, 0 to 1.
#[must_use]
pub fn forecast(history: &History, day_left: f64) -> Forecast {
    Outlook::of(history, day_left).forecast()
}

/// The remaining share of a day, by its clock.
#[must_use]
pub fn day_left(now: &impl Timelike) -> f64 {
    1.0 - f64::from(now.num_seconds_from_midnight()) / 86_400.0
}

/// As a float, for the model only.
fn dollars(usd: Usd) -> f64 {
    usd.attos() as f64 / Usd::ONE.attos() as f64
}

/// A statistic in cents, at least 0; none for NaN and absurdly large values.
fn cents(dollars: f64) -> Option<Usd> {
    let cents = (dollars.max(0.0) * 100.0).round();
    // Whole cents below 10^15 are exact in the integer.
    (cents < 1e15 && !dollars.is_nan()).then(|| Usd::from_attos(cents as i128 * CENT))
}

fn up_to_cents(usd: Usd) -> Usd {
    let rest = usd.attos().rem_euclid(CENT);
    if rest == 0 { usd } else { usd.checked_add(Usd::from_attos(CENT - rest)).unwrap_or(usd) }
}

/// Amounts that would overflow are left out.
fn total(amounts: impl Iterator<Item = Usd>) -> Usd {
    amounts.fold(Usd::ZERO, |sum, usd| sum.checked_add(usd).unwrap_or(sum))
}

#[cfg(test)]
mod tests;
