//! Daily sums by provider.

use chrono::NaiveDate;

use super::total;
use crate::pricing::Usd;

/// A provider's or a model's daily sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The provider, or the model.
    pub name: String,
    /// From the first day with costs to today, which is not over.
    pub days: Vec<Usd>,
}

impl Part {
    /// The days before today.
    #[must_use]
    pub fn past(&self) -> &[Usd] {
        self.days.split_last().map_or(&[], |(_, past)| past)
    }
}

/// Costs by day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Today.
    pub today: NaiveDate,
    /// By provider, each without future days.
    pub parts: Vec<Part>,
    /// By model, if the history is one provider's: the last days only.
    pub models: Vec<Part>,
}

impl History {
    /// Costs of each day, from the first day with any to today.
    #[must_use]
    pub fn days(&self) -> Vec<Usd> {
        let length = self.parts.iter().map(|part| part.days.len()).max().unwrap_or(0);
        let day = |ago: usize| total(self.parts.iter().filter_map(|part| part.days.iter().rev().nth(ago).copied()));
        (0..length).rev().map(day).collect()
    }
}

pub(super) const WEEK: usize = 7;
/// Largest number of weeks for the rhythm.
const WEEKS: usize = 16;
/// The rhythm is averaged with this number of flat weeks.
const FLAT_WEEKS: f64 = 2.0;

pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n => f64::midpoint(values[(n - 1) / 2], values[n / 2]),
    }
}

pub(super) fn mean(values: &mut [f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Each weekday's share of an average day, by the day's index modulo 7; flat below two weeks. `middle` is [`mean`], or
/// [`median`] if unusual days are included.
pub(super) fn rhythm(days: &[f64], middle: fn(&mut [f64]) -> f64) -> [f64; WEEK] {
    if days.len() < 2 * WEEK {
        return [1.0; WEEK];
    }
    let mut shares: [Vec<f64>; WEEK] = Default::default();
    for at in days.len().saturating_sub(WEEKS * WEEK)..days.len() {
        let from = at.saturating_sub(WEEK / 2).min(days.len() - WEEK);
        let mut around = [0.0; WEEK];
        around.copy_from_slice(&days[from..from + WEEK]);
        let middle = middle(&mut around);
        if middle > 0.0 {
            shares[at % WEEK].push(days[at] / middle);
        }
    }
    let week = shares.map(|mut shares| {
        let count = shares.len() as f64;
        (middle(&mut shares) * count + FLAT_WEEKS) / (count + FLAT_WEEKS)
    });
    let whole: f64 = week.iter().sum();
    week.map(|share| share * WEEK as f64 / whole)
}

/// The level without the rhythm: least squares, in which each day weighs less than the next one by `speed`.
pub(super) fn level(days: &[f64], week: &[f64; WEEK], speed: f64) -> f64 {
    let (mut product, mut square) = (0.0, 0.0);
    for (at, day) in days.iter().enumerate() {
        let share = week[at % WEEK];
        product = product * (1.0 - speed) + day * share;
        square = square * (1.0 - speed) + share * share;
    }
    if square > 0.0 { product / square } else { 0.0 }
}
