//! Bounds the size of a day's rollup: beyond a number of distinct models, endpoints, applications or values of another
//! dimension, new names count as `(other)`.
//!
//! The call log keeps the sent names, and `rollup_other` has the replaced ones, so that the two can still be compared
//! exactly. The bound is per daemon and day; it protects the rollup, and is not a quota.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::NaiveDate;

use super::dimensions::{APP_PLACE, Dimension};

/// The name under which further names are counted.
pub const OTHER: &str = "(other)";
/// Bit of `rollup_other`: the model counts as [`OTHER`].
pub const OTHER_MODEL: i16 = 1;
/// Bit of `rollup_other`: the endpoint counts as [`OTHER`].
pub const OTHER_ENDPOINT: i16 = 2;
/// Bit of `rollup_other`: the application counts as [`OTHER`]. Those of other dimensions follow: [`Dimension::bit`].
pub const OTHER_APP: i16 = 1 << APP_PLACE;

/// Days whose names are in memory; the oldest is dropped, and read again when needed.
const DAYS_MAX: usize = 64;

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub struct KeyBounds {
    /// Distinct models of a day.
    pub models: usize,
    /// Distinct endpoints of a day.
    pub endpoints: usize,
    /// Distinct applications of a day.
    pub apps: usize,
    /// Distinct values of a day, of each other dimension.
    pub values: usize,
}

/// Bounds and known names, shared by all lanes.
#[derive(Debug)]
pub struct KeyGuard {
    bounds: KeyBounds,
    days: Mutex<BTreeMap<NaiveDate, DayNames>>,
}

/// The distinct names of a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayNames {
    /// Models.
    pub models: HashSet<String>,
    /// Endpoints.
    pub endpoints: HashSet<String>,
    /// Applications.
    pub apps: HashSet<String>,
    /// Values of other dimensions, by the dimension's name.
    pub values: HashMap<String, HashSet<String>>,
}

impl KeyGuard {
    /// A guard without known days.
    #[must_use]
    pub fn new(bounds: KeyBounds) -> Self {
        Self { bounds, days: Mutex::default() }
    }

    /// Those of the days whose names have not been read from the rollup yet.
    #[must_use]
    pub fn unknown(&self, days: impl Iterator<Item = NaiveDate>) -> Vec<NaiveDate> {
        let known = self.lock();
        days.filter(|day| !known.contains_key(day)).collect()
    }

    /// Sets the names that a day has in the rollup.
    pub fn learn(&self, day: NaiveDate, names: DayNames) {
        let mut days = self.lock();
        let known = days.entry(day).or_default();
        known.models.extend(names.models);
        known.endpoints.extend(names.endpoints);
        known.apps.extend(names.apps);
        for (dimension, values) in names.values {
            known.values.entry(dimension).or_default().extend(values);
        }
        while days.len() > DAYS_MAX {
            days.pop_first();
        }
    }

    /// The names of a new key that count as [`OTHER`], as bits of `rollup_other`.
    pub fn admit<'a>(
        &self,
        day: NaiveDate,
        [model, endpoint, app]: [&str; 3],
        values: impl Iterator<Item = (&'a Dimension, &'a str)>,
    ) -> i16 {
        let mut days = self.lock();
        let names = days.entry(day).or_default();
        let mut other = 0;
        if !admit_name(&mut names.models, model, self.bounds.models) {
            other |= OTHER_MODEL;
        }
        if !admit_name(&mut names.endpoints, endpoint, self.bounds.endpoints) {
            other |= OTHER_ENDPOINT;
        }
        if !admit_name(&mut names.apps, app, self.bounds.apps) {
            other |= OTHER_APP;
        }
        for (dimension, value) in values.filter(|(_, value)| !value.is_empty()) {
            if !names.values.contains_key(&dimension.name) {
                names.values.insert(dimension.name.clone(), HashSet::new());
            }
            let known = names.values.get_mut(&dimension.name);
            if known.is_some_and(|known| !admit_name(known, value, self.bounds.values)) {
                other |= dimension.bit();
            }
        }
        other
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NaiveDate, DayNames>> {
        // The code under the lock does not panic; after a poisoning the sets are still complete.
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admit_name(names: &mut HashSet<String>, name: &str, max: usize) -> bool {
    // The empty name and [`OTHER`] do not count as new names.
    if name.is_empty() || name == OTHER || names.contains(name) {
        return true;
    }
    let room = names.len() < max;
    if room {
        names.insert(name.to_owned());
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_pass_and_new_ones_beyond_the_bound_do_not() {
        let guard = KeyGuard::new(KeyBounds { models: 2, endpoints: 1, apps: 1, values: 1 });
        let day = NaiveDate::default();
        assert_eq!(guard.unknown([day].into_iter()), [day]);
        guard.learn(day, DayNames { models: ["a".into()].into(), ..DayNames::default() });
        assert!(guard.unknown([day].into_iter()).is_empty());
        let team = Dimension { name: "team".into(), place: 3, counted_from: day };
        let admit = |names, value| guard.admit(day, names, [(&team, value)].into_iter());
        assert_eq!(admit(["b", "", ""], ""), 0);
        assert_eq!(admit(["c", "/x", ""], ""), OTHER_MODEL);
        assert_eq!(admit(["a", "/y", ""], ""), OTHER_ENDPOINT);
        assert_eq!(admit(["c", "/y", ""], ""), OTHER_MODEL | OTHER_ENDPOINT);
        assert_eq!(admit(["b", "/x", "web"], ""), 0);
        assert_eq!(admit(["b", "/x", "cron"], ""), OTHER_APP);
        assert_eq!(admit(["c", "/y", "cron"], ""), OTHER_MODEL | OTHER_ENDPOINT | OTHER_APP);
        assert_eq!(["a", "", "b", OTHER, "a"].map(|value| admit(["", "", ""], value)), [0, 0, team.bit(), 0, 0]);
    }
}
