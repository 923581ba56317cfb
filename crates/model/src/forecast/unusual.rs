//! Unusual days, from which a forecast learns less or nothing.
//!
//! A day is compared with the median of the days around it, in units of their usual deviation (median absolute
//! deviation). It counts in full up to [`FULL`] deviations and not at all from [`NONE`] on; between them in proportion,
//! because with a sharp bound a small change could move the whole forecast. Days of a new level are not unusual: see
//! [`NEW_LEVEL`].

use super::history::{WEEK, median};

/// With fewer days than this, usual costs are not known.
const DAYS_MIN: usize = 5;
/// Days around a day to each side; near an end of the series more of the other side.
const AROUND: usize = 14;
const FULL: f64 = 5.0;
const NONE: f64 = 10.0;
/// Bounds of the usual deviation, as shares of the usual day: some variation is usual even in a constant series, and
/// ten times a usual day is unusual even in the most variable one.
const DEVIATION: (f64, f64) = (0.1, 0.6);
/// This number of similar unusual days up to yesterday is a new level.
const NEW_LEVEL: usize = 4;
/// Days of a new level are within this factor of their median.
const ALIKE: f64 = 2.0;
/// A weekday with less than this share of a usual day is not used for other days.
const WEEKDAY_MIN: f64 = 0.05;
/// Costs on a weekday that is usually near 0 are compared with this share of a usual deviation.
const WEEKDAY_DEVIATION_MIN: f64 = 0.3;

/// Each day's value in the forecast, in order: its amount unless it is unusual.
pub(super) fn counted(days: &[f64], week: &[f64; WEEK]) -> Vec<f64> {
    let mut instead: Vec<Option<f64>> = (0..days.len()).map(|at| instead_of(days, week, at)).collect();
    let run = instead.iter().rev().take_while(|instead| instead.is_some()).count();
    let last = &days[days.len() - run..];
    let middle = median(&mut last.to_vec());
    let alike = |day: f64| day <= ALIKE * middle && day * ALIKE >= middle;
    if last.iter().filter(|day| alike(**day)).count() >= NEW_LEVEL {
        let run = instead.iter_mut().zip(days).rev().take(run);
        run.filter(|(_, day)| alike(**day)).for_each(|(instead, _)| *instead = None);
    }
    instead.iter().zip(days).map(|(instead, day)| instead.unwrap_or(*day)).collect()
}

/// The value of a day in the forecast, if the day is unusual.
fn instead_of(days: &[f64], week: &[f64; WEEK], at: usize) -> Option<f64> {
    if days.len() < DAYS_MIN {
        return None;
    }
    let window = 2 * AROUND + 1;
    let from = at.saturating_sub(AROUND).min(days.len().saturating_sub(window));
    let until = (from + window).min(days.len());
    let others = (from..until).filter(|other| *other != at && week[other % WEEK] > WEEKDAY_MIN);
    let mut around: Vec<f64> = others.map(|other| days[other] / week[other % WEEK]).collect();
    if median(&mut around) == 0.0 {
        // In an intermittent series, a day with costs is compared with other such days, and a day without costs is
        // usual.
        around.retain(|day| *day > 0.0);
        if around.len() < DAYS_MIN || days[at] == 0.0 {
            return None;
        }
    }
    let middle = median(&mut around);
    let mut off: Vec<f64> = around.iter().map(|day| (day - middle).abs()).collect();
    // The factor makes the median absolute deviation of normal noise equal to its standard deviation.
    let deviation = (1.4826 * median(&mut off)).clamp(DEVIATION.0 * middle, DEVIATION.1 * middle);
    let usual = middle * week[at % WEEK];
    let off = (days[at] - usual).abs() / (deviation * week[at % WEEK].max(WEEKDAY_DEVIATION_MIN));
    let share = ((NONE - off) / (NONE - FULL)).clamp(0.0, 1.0);
    (share < 1.0).then_some(usual + (days[at] - usual) * share)
}
