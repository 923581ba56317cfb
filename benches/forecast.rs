//! Backtest of the forecast: the errors of its sums beside those of naive forecasts, how often its interval holds, and
//! how far one spike moves it.
//!
//! The series are those of the CSV file that `FORECAST_SERIES` names (columns `series,day,value`, in the order of the
//! days), or else series made from seeds, of five typical kinds. Each has up to 60 rolling origins. An error is the
//! mean absolute error of the sum of the days ahead, as a share of the series' usual sum. The ratio compares the means
//! over all series with the better of *naive* (every day like the last one) and *seasonal naive* (every week like the
//! last one). An interval's share is the mean over series.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallyd_model::forecast::{DayRange, predict};

const SEEDS: u64 = 12;
const MADE_DAYS: usize = 240;
const ORIGINS: usize = 60;
/// The least days of history for a forecast. A short series is tried with fewer days than the longest history.
const HISTORY_MIN: usize = 21;

/// A series of days' amounts: 20 USD, changed by a trend or a wandering level a day, a weekend's share, and noise.
struct Kind {
    name: &'static str,
    trend: f64,
    wander: f64,
    weekend: f64,
    noise: f64,
}

const KINDS: [Kind; 5] = [
    Kind { name: "level", trend: 0.0, wander: 0.0, weekend: 1.0, noise: 0.15 },
    Kind { name: "weekly", trend: 0.0, wander: 0.0, weekend: 0.5, noise: 0.15 },
    Kind { name: "growing", trend: 0.01, wander: 0.0, weekend: 0.6, noise: 0.15 },
    Kind { name: "noisy", trend: 0.0, wander: 0.0, weekend: 0.7, noise: 0.5 },
    Kind { name: "wandering", trend: 0.0, wander: 0.05, weekend: 0.7, noise: 0.1 },
];

fn normal(random: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (random.random_range(f64::MIN_POSITIVE..1.0), random.random_range(0.0..1.0));
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

fn made(kind: &Kind, days: usize, random: &mut StdRng) -> Vec<f64> {
    let mut level = 0.0;
    let day = |at: usize| {
        level += kind.trend + kind.wander * normal(random);
        let week = if at % 7 >= 5 { kind.weekend } else { 1.0 };
        20.0 * f64::exp(level) * week * (kind.noise * normal(random)).exp()
    };
    (0..days).map(day).collect()
}

fn read(path: &str) -> BTreeMap<String, Vec<f64>> {
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut rows = csv::Reader::from_path(path).expect("FORECAST_SERIES is readable");
    for row in rows.deserialize::<(String, u32, f64)>() {
        let (name, _, value) = row.expect("columns series,day,value");
        found.entry(name).or_default().push(value);
    }
    found
}

fn all_series() -> BTreeMap<String, Vec<f64>> {
    if let Ok(path) = std::env::var("FORECAST_SERIES") {
        return read(&path);
    }
    let one = |kind: &Kind, seed: u64| {
        (format!("{} {seed}", kind.name), made(kind, MADE_DAYS, &mut StdRng::seed_from_u64(seed)))
    };
    KINDS.iter().flat_map(|kind| (0..SEEDS).map(move |seed| one(kind, seed))).collect()
}

struct Found {
    off: [f64; 3],
    held: f64,
}

/// The errors of the forecast, of naive and of seasonal naive, and the share of days in the interval. None for a series
/// that is too short.
fn backtest(days: &[f64], history: usize, ahead: usize) -> Option<Found> {
    let first = if days.len() < history + ahead { HISTORY_MIN } else { history };
    let last = days.len().checked_sub(ahead).filter(|last| *last >= first)?;
    let origins: Vec<usize> = (first..=last).step_by(((last - first) / ORIGINS).max(1) | 1).collect();
    let usual = days.iter().sum::<f64>() / days.len() as f64 * ahead as f64;
    let (mut off, mut held) = ([0.0; 3], 0.0);
    let count = origins.len() as f64;
    for origin in origins {
        let past = &days[origin.saturating_sub(history)..origin];
        let truth: f64 = days[origin..origin + ahead].iter().sum();
        let (found, span) = (predict(past, ahead), DayRange::whole(0..ahead));
        let weekly: f64 = (0..ahead).map(|at| past[past.len() - 7 + at % 7]).sum();
        let guesses = [found.sum(&span)?, past[past.len() - 1] * ahead as f64, weekly];
        for (off, guess) in off.iter_mut().zip(guesses) {
            *off += (guess - truth).abs() / usual / count;
        }
        let (low, high) = found.interval(&span)?;
        held += f64::from(u8::from(low <= truth && truth <= high)) / count;
    }
    Some(Found { off, held })
}

/// How far a spike of ten times the mean day moves the forecast of 30 days, for each of the last 30 days of the series.
fn spikes(days: &[f64]) -> Vec<f64> {
    let days = &days[days.len().saturating_sub(120)..];
    let sum = |days: &[f64]| predict(days, 31).sum(&DayRange::whole(1..31)).unwrap_or(0.0);
    let (before, mean) = (sum(days), days.iter().sum::<f64>() / days.len() as f64);
    let moved = |at: usize| {
        let mut with = days.to_vec();
        with[at] = 10.0 * mean;
        (sum(&with) / before - 1.0).abs()
    };
    (days.len().saturating_sub(30)..days.len()).map(moved).collect()
}

fn main() {
    let all = all_series();
    println!(
        "| series | history | ahead | forecast's error | naive | seasonal naive | ratio to the better | interval of 80 % holds |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for history in [28, 60, 120] {
        for ahead in [1, 7, 30] {
            let found: Vec<_> = all.values().filter_map(|days| backtest(days, history, ahead)).collect();
            let count = found.len() as f64;
            let mean = |of: &dyn Fn(&Found) -> f64| 100.0 * found.iter().map(of).sum::<f64>() / count;
            let [ours, naive, weekly] = [0, 1, 2].map(|at| mean(&|found| found.off[at]));
            let (ratio, held) = (ours / naive.min(weekly), mean(&|found| found.held));
            println!(
                "| {count} | {history} days | {ahead} | {ours:.0} % | {naive:.0} % | {weekly:.0} % | {ratio:.2} | {held:.0} % |"
            );
        }
    }
    let mut moved: Vec<f64> = all.values().flat_map(|days| spikes(days)).collect();
    moved.sort_unstable_by(f64::total_cmp);
    let (above, worst) = (moved.iter().filter(|moved| **moved > 0.15).count(), moved.last().copied().unwrap_or(0.0));
    let median = 100.0 * moved[moved.len() / 2];
    println!(
        "\nA spike of ten times the mean day on each of the last 30 days moves the 30-day forecast by {median:.1} % in the middle, \
         by more than 15 % in {above} of {} cases, by {:.0} % at most.",
        moved.len(),
        100.0 * worst
    );
    let parts: Vec<Vec<f64>> =
        all.values().take(20).map(|days| days[days.len().saturating_sub(120)..].to_vec()).collect();
    let begun = std::time::Instant::now();
    parts.iter().for_each(|days| assert!(!predict(days, 31).expected.is_empty()));
    println!("{} series are predicted in {:.1} ms.", parts.len(), begun.elapsed().as_secs_f64() * 1000.0);
}
