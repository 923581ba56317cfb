//! Intervals of sums of days, from the errors of trials (conformal prediction). A trial sums the same days ahead as
//! the estimate, because errors of days neither cancel out nor add up in full.
//!
//! Errors are shares of the expectation, so that they apply at another level. Overlapping trials are not independent,
//! so the interval is widened if there are few independent ones. The two constants were chosen on half of the
//! benchmark's series; the other half agrees (`benches/README.md`).

use std::ops::Range;

use super::model::{Day, Prediction, Trial};

/// Intended probability that the interval includes the outcome.
pub const LEVEL: f64 = 0.8;

/// With fewer trials of the sum's length than this, sums of fewer days are used.
const TRIALS_MIN: usize = 12;
/// With this number of independent trials the variance of the errors is doubled.
const WIDENED_BY: f64 = 6.0;
/// Widening for a sum longer than the trials, by the logarithm of the ratio.
const WIDENED_BY_LENGTH: f64 = 0.2;
/// A trial with an expectation near 0 is measured by this share of today's estimate.
const EXPECTED_MIN: f64 = 0.02;

/// The days of a sum: today's is 0, of which only a share may count.
#[derive(Debug, Clone, PartialEq)]
pub struct DayRange {
    /// The days.
    pub days: Range<usize>,
    /// The share of the first day that counts, 0 to 1.
    pub first: f64,
}

impl DayRange {
    /// Whole days.
    #[must_use]
    pub const fn whole(days: Range<usize>) -> Self {
        Self { days, first: 1.0 }
    }

    /// None if the days exceed the last one.
    fn sum(&self, of: &[f64]) -> Option<f64> {
        let (first, rest) = of.get(self.days.clone())?.split_first()?;
        Some(first * self.first + rest.iter().sum::<f64>())
    }

    /// The expectation for these days, and the outcome.
    fn tried(&self, trial: &Trial) -> Option<Day> {
        let pick = |of: fn(&Day) -> f64| self.sum(&trial.iter().map(of).collect::<Vec<_>>());
        Some(Day { expected: pick(|day| day.expected)?, came: pick(|day| day.came)? })
    }
}

impl Prediction {
    /// The days' estimate; none without enough history, or for days beyond the prediction.
    #[must_use]
    pub fn sum(&self, span: &DayRange) -> Option<f64> {
        span.sum(&self.expected)
    }

    /// The ends of the interval.
    #[must_use]
    pub fn interval(&self, span: &DayRange) -> Option<(f64, f64)> {
        let expected = self.sum(span)?;
        let count = self.trials.len();
        if count == 0 {
            return None;
        }
        // The trial that begins N days before today has N days.
        let end = span.days.end.min((count + 1).saturating_sub(TRIALS_MIN)).max(1);
        let tried = DayRange { days: span.days.start.min(end - 1)..end, first: span.first };
        let (length, tried_length) = (span.days.len() as f64, tried.days.len() as f64);
        let least = (EXPECTED_MIN * expected * tried_length / length).max(f64::MIN_POSITIVE);
        let off = |day: Day| (day.came - day.expected) / day.expected.max(least);
        let mut off: Vec<f64> = self.trials.iter().filter_map(|trial| tried.tried(trial)).map(off).collect();
        off.sort_unstable_by(f64::total_cmp);
        let independent = ((count + 1 - end) as f64 / end as f64).max(1.0);
        let widened = (1.0 + WIDENED_BY / independent).sqrt() + WIDENED_BY_LENGTH * (length / tried_length).ln();
        let tail = (1.0 - LEVEL) / 2.0;
        let low = (quantile(&off, tail).min(0.0) * widened).max(-1.0);
        let high = quantile(&off, 1.0 - tail).max(0.0) * widened;
        Some((expected * (1.0 + low), expected * (1.0 + high)))
    }
}

/// A quantile of sorted values, such that one more value of the same kind is below it with this probability.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * (sorted.len() as f64 + 1.0) - 1.0).clamp(0.0, sorted.len() as f64 - 1.0);
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}
