//! Predicts daily amounts from daily amounts. Pure and deterministic.
//!
//! There are three candidates, all without a trend: a repetition of the last week, and a week's rhythm on a slow and on
//! a fast level. Trials (forecasts from earlier days, compared with the outcome) weight them per horizon by the inverse
//! square of their error. `benches/README.md` lists rejected variants.

use serde::Serialize;

use super::history::{WEEK, level, mean, median, rhythm};
use super::unusual;

/// Whole days needed for an estimate.
pub(super) const MEAN_DAYS: usize = 3;
/// Whole days needed for weighted candidates and an interval.
pub(super) const TRIAL_DAYS: usize = 14;

/// A trial has at least this number of days to learn from.
const LEARNED_MIN: usize = 7;
/// The earliest beginning of a trial, in days before today.
const TRIALS_MAX: usize = 90;
/// By this share each day weighs less than the next one: half in 23 days, half in 2 days.
const SLOW: f64 = 0.03;
const FAST: f64 = 0.3;
/// The horizons by which the candidates are weighted: the first for the first day, the second to the end of a week,
/// then the third.
const HORIZONS: [usize; 3] = [1, 7, 30];

/// How an estimate was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Not at all: there is too little history.
    None,
    /// The mean of the days.
    Mean,
    /// Seasonal naive, a slow and a fast level, weighed by how they did on earlier days.
    Weighed,
}

/// Expectations from an earlier day on, with the outcomes.
pub(super) type Trial = Vec<Day>;

/// A day of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Day {
    pub expected: f64,
    pub came: f64,
}

/// Estimates of future days.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// How they were made.
    pub method: Method,
    /// One estimate for each day; empty without enough history.
    pub expected: Vec<f64>,
    /// Each day's value in the forecast: its amount unless it was unusual.
    pub counted: Vec<f64>,
    /// By the number of days before today at which they begin: 1 first. A trial ends with yesterday.
    pub(super) trials: Vec<Trial>,
}

/// Predicts `ahead` days from the past ones, oldest first. No estimate is below 0.
#[must_use]
pub fn predict(days: &[f64], ahead: usize) -> Prediction {
    // In two weeks, one unusual day would be half of its weekday.
    let week = if days.len() < 3 * WEEK { [1.0; WEEK] } else { rhythm(days, median) };
    let counted = unusual::counted(days, &week);
    if days.len() < MEAN_DAYS {
        return Prediction { method: Method::None, expected: Vec::new(), counted, trials: Vec::new() };
    }
    if days.len() < TRIAL_DAYS {
        let expected = vec![mean(&mut counted.clone()); ahead];
        return checked(Prediction { method: Method::Mean, expected, counted, trials: Vec::new() });
    }
    let begins: Vec<usize> = (1..=(days.len() - LEARNED_MIN).min(TRIALS_MAX)).collect();
    let tried: Vec<[Vec<f64>; 3]> =
        begins.iter().map(|begin| candidates(&counted[..days.len() - begin], ahead.min(*begin))).collect();
    let weights = HORIZONS.map(|horizon| weights(&counted, &tried, horizon.min(ahead)));
    let trial = |(begin, paths): (&usize, &[Vec<f64>; 3])| {
        let came = &days[days.len() - begin..];
        weighed(paths, &weights).zip(came).map(|(expected, came)| Day { expected, came: *came }).collect()
    };
    let trials = begins.iter().zip(&tried).map(trial).collect();
    let expected = weighed(&candidates(&counted, ahead), &weights).collect();
    checked(Prediction { method: Method::Weighed, expected, counted, trials })
}

/// Without an estimate if amounts are too large for the arithmetic.
fn checked(mut prediction: Prediction) -> Prediction {
    if !prediction.expected.iter().all(|day| day.is_finite()) {
        prediction.method = Method::None;
        prediction.expected.clear();
        prediction.trials.clear();
    }
    prediction
}

fn candidates(counted: &[f64], ahead: usize) -> [Vec<f64>; 3] {
    let week = rhythm(counted, mean);
    let of_level = |speed| {
        let level = level(counted, &week, speed);
        (0..ahead).map(|at| level * week[(counted.len() + at) % WEEK]).collect()
    };
    let last_week = (0..ahead).map(|at| counted[counted.len() - WEEK + at % WEEK]).collect();
    [last_week, of_level(SLOW), of_level(FAST)]
}

/// Weights by the inverse square of the absolute errors of sums of `horizon` days, or of fewer in a short history.
fn weights(counted: &[f64], tried: &[[Vec<f64>; 3]], horizon: usize) -> [f64; 3] {
    let horizon = horizon.min((counted.len() - LEARNED_MIN) / 2).max(1);
    let mut off = [0.0_f64; 3];
    for (at, paths) in tried.iter().enumerate().filter(|(_, paths)| paths[0].len() >= horizon) {
        let begin = counted.len() - (at + 1);
        let came: f64 = counted[begin..begin + horizon].iter().sum();
        for (off, path) in off.iter_mut().zip(paths) {
            *off += (path[..horizon].iter().sum::<f64>() - came).abs();
        }
    }
    let best = off.iter().copied().fold(f64::MAX, f64::min);
    // If a candidate has no error, the candidates without one share equally.
    let weights = off.map(|off| if off == 0.0 { 1.0 } else { (best / off).powi(2) });
    let whole: f64 = weights.iter().sum();
    weights.map(|weight| weight / whole)
}

fn weighed(paths: &[Vec<f64>; 3], weights: &[[f64; 3]; 3]) -> impl Iterator<Item = f64> {
    (0..paths[0].len()).map(move |at| {
        let horizon = HORIZONS[..2].iter().filter(|horizon| at >= **horizon).count();
        paths.iter().zip(&weights[horizon]).map(|(path, weight)| path[at] * weight).sum()
    })
}

/// The parts' predictions, and their sum. A part with too few days for an estimate of its own counts with its mean in
/// the whole.
pub(super) fn predict_parts(parts: &[Vec<f64>], ahead: usize) -> (Prediction, Vec<Prediction>) {
    let mut found: Vec<Prediction> = parts.iter().map(|days| predict(days, ahead)).collect();
    let method = found.iter().map(|part| part.method).max().unwrap_or(Method::None);
    if method != Method::None {
        for part in found.iter_mut().filter(|part| part.expected.is_empty()) {
            part.expected = vec![mean(&mut part.counted.clone()); ahead];
        }
    }
    let mut expected = vec![0.0; if method == Method::None { 0 } else { ahead }];
    let count = found.iter().map(|part| part.trials.len()).max().unwrap_or(0);
    let mut trials: Vec<Trial> =
        (1..=count).map(|begin| vec![Day { expected: 0.0, came: 0.0 }; begin.min(ahead)]).collect();
    for (part, days) in found.iter().zip(parts) {
        expected.iter_mut().zip(&part.expected).for_each(|(sum, day)| *sum += day);
        for (at, sum) in trials.iter_mut().enumerate() {
            add(sum, part, days, at + 1);
        }
    }
    (Prediction { method, expected, counted: Vec::new(), trials }, found)
}

/// Adds a part to a trial of the whole. If the part does not have a trial from that day, it counts with its mean from
/// its first day on, and with 0 before.
fn add(sum: &mut Trial, part: &Prediction, days: &[f64], begin: usize) {
    let usual = mean(&mut part.counted.clone());
    for (at, sum) in sum.iter_mut().enumerate() {
        let day = part.trials.get(begin - 1).map(|trial| trial[at]);
        let without = || Some(Day { expected: usual, came: *days.get((days.len() + at).checked_sub(begin)?)? });
        if let Some(day) = day.or_else(without) {
            sum.expected += day.expected;
            sum.came += day.came;
        }
    }
}
