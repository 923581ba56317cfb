//! Daily amounts in, daily estimates out. Pure, and deterministic.

use augurs::ets::AutoETS;
use augurs::mstl::MSTLModel;
use augurs::{Fit, Forecast, Predict};
use serde::Serialize;

/// How often the interval should hold.
pub const LEVEL: f64 = 0.8;

/// Whole days from which on there is anything to say.
const MEAN_DAYS: usize = 3;
/// Whole days from which on a model is fitted.
const SMOOTH_DAYS: usize = 14;
/// Whole days from which on a week's rhythm is looked for: three of them.
const SEASON_DAYS: usize = 21;
const WEEK: usize = 7;

/// How an estimate was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Not at all: there is too little history.
    None,
    /// The mean of the days.
    Mean,
    /// Exponential smoothing.
    Smoothing,
    /// A weekly season, and a smoothed trend.
    WeeklySeason,
}

/// Estimates for each of the days to come, none where there is nothing to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// How they were made.
    pub method: Method,
    /// The estimates.
    pub expected: Option<Vec<f64>>,
    /// The lower ends of the intervals.
    pub low: Option<Vec<f64>>,
    /// The upper ends.
    pub high: Option<Vec<f64>>,
}

/// Predicts `ahead` days from the days before, oldest first. Nothing is predicted below 0.
#[must_use]
pub fn predict(days: &[f64], ahead: usize) -> Prediction {
    if days.len() < MEAN_DAYS {
        return Prediction { method: Method::None, expected: None, low: None, high: None };
    }
    let fitted = match days.len() {
        // What never changes has no variance that a model could be fitted to.
        _ if days.iter().all(|day| *day == days[0]) => None,
        SEASON_DAYS.. => seasonal(days, ahead).map(|found| (Method::WeeklySeason, found)),
        SMOOTH_DAYS.. => smoothed(days, ahead).map(|found| (Method::Smoothing, found)),
        _ => None,
    };
    let usable = fitted.and_then(|(method, found)| prediction(method, found, ahead));
    usable.unwrap_or_else(|| {
        let mean = days.iter().sum::<f64>() / days.len() as f64;
        Prediction { method: Method::Mean, expected: Some(vec![mean.max(0.0); ahead]), low: None, high: None }
    })
}

fn seasonal(days: &[f64], ahead: usize) -> Option<Forecast> {
    let model = MSTLModel::new(vec![WEEK], AutoETS::non_seasonal().into_trend_model());
    model.fit(days).ok()?.predict(ahead, LEVEL).ok()
}

fn smoothed(days: &[f64], ahead: usize) -> Option<Forecast> {
    AutoETS::non_seasonal().fit(days).ok()?.predict(ahead, LEVEL).ok()
}

/// None if the model did not come to usable numbers.
fn prediction(method: Method, found: Forecast, ahead: usize) -> Option<Prediction> {
    let intervals = found.intervals?;
    let usable = |days: &[f64]| days.len() == ahead && days.iter().all(|day| day.is_finite());
    if !usable(&found.point) || !usable(&intervals.lower) || !usable(&intervals.upper) {
        return None;
    }
    let positive = |days: Vec<f64>| Some(days.into_iter().map(|day| day.max(0.0)).collect());
    Some(Prediction {
        method,
        expected: positive(found.point),
        low: positive(intervals.lower),
        high: positive(intervals.upper),
    })
}
