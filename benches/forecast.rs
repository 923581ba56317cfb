//! Backtest of the forecast: how far off its sums are, beside those of naive forecasts, and how often its interval holds.
//!
//! Series are made from seeds, in five kinds that spending takes: level, with a week's rhythm, growing, noisy, and a level
//! that wanders. The error is the sum of absolute errors over the sum of what came. *Naive*: every day like the last one;
//! *seasonal naive*: every week like the last one.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallyd::forecast::predict;

const SERIES: u64 = 60;

/// Days' amounts: 20 USD, changed by a trend or a wandering level a day, a weekend's share, and noise.
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

fn series(kind: &Kind, days: usize, random: &mut StdRng) -> Vec<f64> {
    let mut level = 0.0;
    let day = |at: usize| {
        level += kind.trend + kind.wander * normal(random);
        let week = if at % 7 >= 5 { kind.weekend } else { 1.0 };
        20.0 * f64::exp(level) * week * (kind.noise * normal(random)).exp()
    };
    (0..days).map(day).collect()
}

fn main() {
    println!("| series | history | ahead | forecast's error | naive | seasonal naive | interval of 80 % holds |");
    println!("|---|---|---|---|---|---|---|");
    for kind in &KINDS {
        for (history, ahead) in [(28, 1), (28, 10), (28, 30), (90, 1), (90, 10), (90, 30)] {
            let (mut off, mut held, mut total) = ([0.0; 3], 0, 0.0);
            for seed in 0..SERIES {
                let all = series(kind, history + ahead, &mut StdRng::seed_from_u64(seed));
                let (past, future) = all.split_at(history);
                let truth: f64 = future.iter().sum();
                let found = predict(past, ahead);
                let sum = |days: Option<Vec<f64>>| days.map_or(f64::NAN, |days| days.iter().sum::<f64>());
                let naive = past[history - 1] * ahead as f64;
                let weekly: f64 = (0..ahead).map(|at| past[history - 7 + at % 7]).sum();
                for (off, guess) in off.iter_mut().zip([sum(found.expected), naive, weekly]) {
                    *off += (guess - truth).abs();
                }
                held += u32::from(sum(found.low) <= truth && truth <= sum(found.high));
                total += truth;
            }
            let [forecast, naive, weekly] = off.map(|off| 100.0 * off / total);
            println!(
                "| {} | {history} days | {ahead} | {forecast:.0} % | {naive:.0} % | {weekly:.0} % | {} % |",
                kind.name,
                100 * held / SERIES as u32
            );
        }
    }
}
