//! Short histories give no estimate; a regular series continues; sums have the right days; a spike has little effect,
//! and the whole is the sum of its parts.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

fn part(name: &str, days: impl IntoIterator<Item = f64>) -> Part {
    let days = days.into_iter().map(|amount| usd(&format!("{amount:.6}"))).collect();
    Part { name: name.to_owned(), days }
}

fn parts(today: &str, parts: Vec<Part>) -> History {
    History { today: day(today), parts, models: Vec::new() }
}

fn history(today: &str, days: impl IntoIterator<Item = u32>) -> History {
    parts(today, vec![part("claude", days.into_iter().map(f64::from))])
}

/// Weekdays 900 USD and a little, weekends 500: with noise, from a seed.
fn spending(seed: u64, days: usize, noise: f64) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(seed);
    let day = |at: usize| if at % 7 >= 5 { 500.0 } else { 900.0 } * (1.0 + noise * random.random_range(-1.0..1.0));
    (0..days).map(day).collect()
}

fn next_30(days: &[f64]) -> f64 {
    predict(days, 31).sum(&DayRange::whole(1..31)).unwrap()
}

#[test]
fn with_little_history_little_is_said() {
    let nothing = forecast(&history("2026-11-23", []), 0.5);
    assert_eq!((nothing.method, nothing.history_days), (Method::None, 0));
    assert_eq!((nothing.day.spent_usd, nothing.day.expected_usd), (Usd::ZERO, None));
    let two = forecast(&history("2026-11-23", [5, 5, 1]), 0.5);
    assert_eq!((two.method, two.day.spent_usd, two.day.expected_usd), (Method::None, usd("1"), None));
    let three = forecast(&history("2026-11-23", [3, 4, 5, 1]), 0.5);
    assert_eq!(three.method, Method::Mean);
    assert_eq!((three.day.expected_usd, three.day.low_usd), (Some(usd("3")), None));
    // 13 spent until today, then 4 for each of seven and a half days.
    assert_eq!(three.month.until, day("2026-11-30"));
    assert_eq!((three.month.spent_usd, three.month.expected_usd), (usd("13"), Some(usd("43"))));
    assert_eq!(three.next_7_days.expected_usd, Some(usd("28")));
    assert_eq!(three.next_30_days.expected_usd, Some(usd("120")));
    assert_eq!(three.next_30_days.until, day("2026-12-23"));
    let thirteen = forecast(&history("2026-11-23", [4; 14]), 0.5);
    assert_eq!((thirteen.method, thirteen.month.low_usd), (Method::Mean, None));
    let fourteen = forecast(&history("2026-11-23", [4; 15]), 0.5);
    assert_eq!((fourteen.method, fourteen.next_7_days.low_usd), (Method::Weighed, Some(usd("28"))));
}

#[test]
fn the_month_counts_from_its_first_day_and_ends_with_its_last() {
    let first = forecast(&history("2026-11-01", [3, 4, 5, 1]), 1.0);
    assert_eq!((first.month.spent_usd, first.month.expected_usd), (usd("1"), Some(usd("121"))));
    let last = forecast(&history("2026-11-30", [4; 4]), 0.0);
    assert_eq!(last.month.expected_usd, Some(usd("16")), "nothing is left to come");
    assert_eq!(last.month.expected_usd, Some(last.month.spent_usd));
}

#[test]
fn estimates_are_in_cents_and_not_below_what_was_spent() {
    let mut spent = history("2026-11-23", [3, 3, 3, 0]);
    spent.parts[0].days[3] = usd("0.001234");
    let found = forecast(&spent, 0.0);
    assert_eq!((found.day.spent_usd, found.day.expected_usd), (usd("0.001234"), Some(usd("0.01"))));
}

#[test]
fn a_weekly_rhythm_is_continued_within_an_interval() {
    // Mondays to Fridays 20 and a little, weekends 5; Monday 2026-11-23 is today.
    let past = (0..56u32).map(|at| if at % 7 >= 5 { 5 } else { 20 + at * 7 % 3 });
    let found = forecast(&history("2026-11-23", past.chain([0])), 1.0);
    assert_eq!((found.method, found.history_days), (Method::Weighed, 56));
    let near = |estimate: &Estimate, truth: i128| {
        let expected = estimate.expected_usd.unwrap();
        let (low, high) = (estimate.low_usd.unwrap(), estimate.high_usd.unwrap());
        assert!(low <= expected && expected <= high, "{estimate:?}");
        let off = (expected.attos() - truth * Usd::ONE.attos()).abs();
        assert!(off * 20 < truth * Usd::ONE.attos(), "{estimate:?} is more than 5 % off {truth}");
    };
    near(&found.day, 21);
    near(&found.next_7_days, 5 * 21 + 2 * 5);
    // 22 working days and 8 days of weekends.
    near(&found.next_30_days, 22 * 21 + 8 * 5);
    assert_eq!(found.unusual_days, []);
}

#[test]
fn any_series_gives_numbers_or_nothing() {
    let series: [&[f64]; 8] =
        [&[], &[7.0], &[0.0; 5], &[0.0; 40], &[7.0; 40], &[0.0, 1e9], &[f64::MAX / 4.0; 30], &[1e-18; 15]];
    for days in series {
        let found = predict(days, 31);
        assert_eq!(found.expected.is_empty(), found.method == Method::None);
        assert!(found.expected.iter().all(|day| day.is_finite() && *day >= 0.0), "{found:?}");
        for span in [DayRange::whole(1..2), DayRange::whole(1..31), DayRange { days: 0..8, first: 0.0 }] {
            let (Some(sum), Some((low, high))) = (found.sum(&span), found.interval(&span)) else { continue };
            assert!(0.0 <= low && low <= sum && sum <= high, "{low} {sum} {high} of {days:?}");
        }
    }
    // Costs that begin late, and in bursts.
    for burst in 1..40usize {
        let days: Vec<f64> = (0..60).map(|at| if at % burst == 0 { 100.0 } else { 0.0 }).collect();
        let (found, mean) = (next_30(&days), 30.0 * 100.0 / burst as f64);
        assert!(found.is_finite() && found <= 4.0 * mean, "every {burst}: {found}, where {mean} is the mean");
    }
    assert_eq!(next_30(&[0.0; 40]), 0.0);
    assert!((next_30(&[7.0; 40]) - 210.0).abs() < 1e-6);
}

#[test]
fn one_spike_anywhere_moves_thirty_days_by_at_most_15_percent() {
    let mut worst: f64 = 0.0;
    for seed in 0..8 {
        for (length, noise) in [(8, 0.1), (14, 0.2), (21, 0.3), (30, 0.3), (60, 0.1), (120, 0.3)] {
            let days = spending(seed, length, noise);
            let before = next_30(&days);
            for at in length.saturating_sub(30)..length {
                for spike in [10.0 * days[at], 8_000.0] {
                    let mut with = days.clone();
                    with[at] = spike;
                    let moved = (next_30(&with) / before - 1.0).abs();
                    assert!(moved <= 0.15, "seed {seed}, {length} days, {spike} on day {at}: moved by {moved}");
                    worst = worst.max(moved);
                }
            }
        }
    }
    println!("moved by at most {:.1} %", 100.0 * worst);
}

#[test]
fn a_spike_of_yesterday_is_set_aside_and_named() {
    let mut days = spending(7, 60, 0.1);
    let before = forecast(&parts("2026-11-23", vec![part("claude", days.iter().copied().chain([0.0]))]), 1.0);
    days[59] += 3_000.0;
    let found = forecast(&parts("2026-11-23", vec![part("claude", days.into_iter().chain([0.0]))]), 1.0);
    let [unusual] = found.unusual_days.as_slice() else { panic!("{:?}", found.unusual_days) };
    assert_eq!((unusual.day, unusual.provider.as_str()), (day("2026-11-22"), "claude"));
    assert!(unusual.cost_usd > usd("3000") && unusual.counted_usd < usd("1000"), "{unusual:?}");
    assert_eq!(before.unusual_days, []);
    let months = [&before, &found].map(|found| dollars(found.next_30_days.expected_usd.unwrap()));
    assert!((months[1] / months[0] - 1.0).abs() < 0.05, "{months:?}");
}

#[test]
fn a_new_level_is_followed_after_four_days() {
    let shifted = |after: usize| -> Vec<f64> {
        spending(3, 60, 0.1)
            .into_iter()
            .enumerate()
            .map(|(at, day)| if at >= 60 - after { 5.0 * day } else { day })
            .collect()
    };
    let usual = next_30(&shifted(0));
    assert!(next_30(&shifted(3)) < 1.3 * usual, "three days may be a spike");
    assert!(next_30(&shifted(4)) > 1.5 * usual, "four are a level");
    assert!(next_30(&shifted(14)) > 4.0 * usual);
    // Costs that ended four days ago.
    let ended: Vec<f64> = spending(3, 56, 0.1).into_iter().chain([0.0; 14]).collect();
    assert!(next_30(&ended) < 0.3 * usual, "{}", next_30(&ended));
}

#[test]
fn the_whole_is_the_sum_of_its_providers_and_a_provider_that_of_its_models() {
    let mut spiky = spending(1, 90, 0.3);
    spiky[88] *= 12.0;
    let young: Vec<f64> = (0..10).map(|at| f64::from(at % 3) + 0.004_321).collect();
    let all = vec![
        part("claude", spiky.into_iter().chain([3.123_456])),
        part("openai", spending(2, 40, 0.2).into_iter().chain([0.001])),
        part("rentcast", young.into_iter().chain([1.0])),
        part("voyage", [0.5]),
    ];
    let whole = parts("2026-11-23", all.clone());
    let whole = Outlook::of(&whole, 0.37);
    let alone: Vec<History> = all.iter().map(|one| parts("2026-11-23", vec![one.clone()])).collect();
    let alone: Vec<Outlook<'_>> = alone.iter().map(|one| Outlook::of(one, 0.37)).collect();
    let sum = |of: &dyn Fn(&Outlook<'_>) -> Option<Usd>| total(alone.iter().filter_map(of));
    let found = whole.forecast();
    assert_eq!(found.next_30_days.expected_usd, Some(sum(&|one| one.forecast().next_30_days.expected_usd)));
    assert_eq!(found.next_30_days.expected_usd, Some(total(found.parts.iter().map(|part| part.next_30_days_usd))));
    assert_eq!(found.month.spent_usd, sum(&|one| Some(one.forecast().month.spent_usd)));
    for (at, day) in whole.days().iter().enumerate() {
        assert_eq!(day.expected_usd, Some(sum(&|one| one.days()[at].expected_usd)), "{at} days ahead");
        assert!(day.low_usd <= day.expected_usd && day.expected_usd <= day.high_usd, "{day:?}");
    }
    assert_eq!(found.unusual_days.iter().map(|day| day.provider.as_str()).collect::<Vec<_>>(), ["claude"]);

    let mut one = parts("2026-11-23", vec![all[0].clone()]);
    one.models = vec![part("opus", [1.0; 29]), part("sonnet", [2.0 / 3.0; 29]), part("old", [0.0; 29])];
    let one = forecast(&one, 0.37);
    let names: Vec<&str> = one.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["opus", "sonnet", "old"]);
    assert_eq!(one.next_30_days.expected_usd, Some(total(one.parts.iter().map(|part| part.next_30_days_usd))));
}

/// The measure of `make bench-forecast`, on a few made series: spiky, with a week's rhythm and a changing level.
#[test]
fn on_series_like_spending_it_is_closer_than_naive_forecasts_and_the_interval_holds() {
    let mut random = StdRng::seed_from_u64(2026);
    for ahead in [1, 7, 30] {
        let (mut off, mut held, mut count) = ([0.0; 3], 0.0, 0.0);
        for series in 0..60 {
            let (mut level, length) = (0.0_f64, [28, 60, 120][series % 3]);
            let mut day = |at: usize| {
                level += 0.03 * random.random_range(-1.7..1.7);
                let spike = if random.random_range(0.0..1.0) < 0.02 { 8.0 } else { 1.0 };
                let noise: f64 = random.random_range(-0.5..0.5);
                20.0 * level.exp() * noise.exp() * spike * if at % 7 >= 5 { 0.6 } else { 1.0 }
            };
            let all: Vec<f64> = (0..length + ahead).map(&mut day).collect();
            let (past, future) = all.split_at(length);
            let truth: f64 = future.iter().sum();
            let found = predict(past, ahead);
            let span = DayRange::whole(0..ahead);
            let weekly: f64 = (0..ahead).map(|at| past[length - 7 + at % 7]).sum();
            for (off, guess) in off.iter_mut().zip([found.sum(&span).unwrap(), past[length - 1] * ahead as f64, weekly])
            {
                *off += (guess - truth).abs() / truth;
            }
            let (low, high) = found.interval(&span).unwrap();
            held += f64::from(u8::from(low <= truth && truth <= high));
            count += 1.0;
        }
        let ratio = off[0] / off[1].min(off[2]);
        println!("{ahead} days: {ratio:.2} of the better naive one, the interval holds {:.0} %", 100.0 * held / count);
        assert!(ratio <= 0.95, "{ahead} days ahead: {ratio}");
        assert!((0.65..=0.95).contains(&(held / count)), "{ahead} days ahead: held {held} of {count}");
    }
}
