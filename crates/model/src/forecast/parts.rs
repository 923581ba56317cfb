//! The whole is the sum of its parts: each provider is predicted by itself, and the whole from nothing else.
//!
//! The whole's trials are the sums of its parts' trials, so that its interval knows whether their errors go together.

use super::model::{Day, Method, Prediction, Trial, predict};
use super::rhythm::mean;

/// The parts' predictions, and their sum. A part with too few days for an estimate of its own has its mean in the whole.
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

/// Adds a part to a trial of the whole. Where the part has no trial that began then, it counts with its mean from its first
/// day on, and with nothing before.
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
