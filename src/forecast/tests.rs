//! Little data is said to be little; a known series is continued; sums are of the right days.

use super::*;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

fn history(today: &str, days: impl IntoIterator<Item = u32>) -> History {
    History { today: day(today), days: days.into_iter().map(|amount| usd(&amount.to_string())).collect() }
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
    // 13 spent until today, then half a day and seven days of 4.
    assert_eq!(three.month.until, day("2026-11-30"));
    assert_eq!((three.month.spent_usd, three.month.expected_usd), (usd("13"), Some(usd("43"))));
    assert_eq!(three.next_30_days.expected_usd, Some(usd("120")));
    assert_eq!(three.next_30_days.until, day("2026-12-23"));
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
fn a_weekly_rhythm_is_continued_within_an_interval() {
    // Mondays to Fridays 20 and a little, weekends 5; Monday 2026-11-23 is today.
    let past = (0..56u32).map(|at| if at % 7 >= 5 { 5 } else { 20 + at * 7 % 3 });
    let found = forecast(&history("2026-11-23", past.chain([0])), 1.0);
    assert_eq!((found.method, found.history_days), (Method::WeeklySeason, 56));
    let near = |estimate: &Estimate, truth: i128| {
        let expected = estimate.expected_usd.unwrap();
        let (low, high) = (estimate.low_usd.unwrap(), estimate.high_usd.unwrap());
        assert!(low <= expected && expected <= high, "{estimate:?}");
        let off = (expected.attos() - truth * Usd::ONE.attos()).abs();
        assert!(off * 20 < truth * Usd::ONE.attos(), "{estimate:?} is more than 5 % off {truth}");
    };
    near(&found.day, 21);
    // 22 working days and 8 days of weekends.
    near(&found.next_30_days, 22 * 21 + 8 * 5);
}

#[test]
fn any_series_gives_numbers_or_nothing() {
    let series: [&[f64]; 5] = [&[0.0; 40], &[7.0; 40], &[0.0, 1e9], &[f64::MAX / 4.0; 30], &[1e-18; 15]];
    for days in series {
        let prediction = predict(days, 31);
        for values in [&prediction.expected, &prediction.low, &prediction.high].into_iter().flatten() {
            assert!(values.len() == 31 && values.iter().all(|value| *value >= 0.0), "{prediction:?}");
        }
    }
    // Spending that begins late, and in bursts.
    for burst in 1..40usize {
        let days: Vec<f64> = (0..60).map(|at| if at % burst == 0 { 100.0 } else { 0.0 }).collect();
        let prediction = predict(&days, 31);
        assert!(prediction.expected.unwrap().iter().all(|value| value.is_finite()), "every {burst}");
    }
}
