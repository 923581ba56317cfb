//! Days whose costs are known already, as the text of their answer.
//!
//! Of a year's history one day changes. To fetch, sum up and write out the others each time was most of that answer. So each day's
//! JSON is kept beside its version, and a question asks for the versions, in the snapshot that its rows come from: a day
//! whose version is another one is read anew. A version is made of the transactions that wrote the day's rows, so whoever changes
//! one is noticed, by SQL as well.
//!
//! What is kept is bounded in bytes (the oldest days leave first) and in time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use chrono::NaiveDate;
use tokio::time::Instant;

/// Bytes of text that are kept: three years of twenty models.
const BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long a day is known. A database that is restored to an earlier state counts its transactions from there again.
const KNOWN_FOR: Duration = Duration::from_secs(600);

struct Known {
    version: String,
    since: Instant,
    text: Bytes,
}

/// The days.
#[derive(Default)]
pub struct KnownDays {
    days: Mutex<BTreeMap<NaiveDate, Known>>,
}

impl KnownDays {
    /// The text of each day that is known in just this version.
    pub fn get<'v>(&self, versions: impl Iterator<Item = (NaiveDate, &'v str)>) -> BTreeMap<NaiveDate, Bytes> {
        let known = self.lock();
        let text_of = |day: NaiveDate, version: &str| {
            let known = known.get(&day)?;
            let is_current = known.version == version && known.since.elapsed() < KNOWN_FOR;
            is_current.then(|| known.text.clone())
        };
        versions.filter_map(|(day, version)| Some((day, text_of(day, version)?))).collect()
    }

    /// Keeps a day.
    pub fn put(&self, day: NaiveDate, version: &str, text: Bytes) {
        let mut known = self.lock();
        known.insert(day, Known { version: version.to_owned(), since: Instant::now(), text });
        let mut bytes: usize = known.values().map(|known| known.text.len()).sum();
        while bytes > BYTES_MAX {
            let Some((_, oldest)) = known.pop_first() else { break };
            bytes -= oldest.text.len();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NaiveDate, Known>> {
        // Nothing panics while the lock is held; a poisoned one still guards whole days.
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, number).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_is_known_in_its_version_and_for_a_while() {
        let known = KnownDays::default();
        known.put(day(1), "a", "one".into());
        known.put(day(2), "a", "two".into());
        known.put(day(2), "b", "three".into());
        let get = |versions: &[(u32, &'static str)]| {
            let found = known.get(versions.iter().map(|(number, version)| (day(*number), *version)));
            found.into_values().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(get(&[(1, "a"), (2, "b"), (3, "a")]), ["one", "three"]);
        assert_eq!(get(&[(1, "b"), (2, "a")]), [""; 0]);
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(get(&[(1, "a"), (2, "b")]), [""; 0]);
    }

    #[test]
    fn the_oldest_days_leave_first() {
        let known = KnownDays::default();
        let third = Bytes::from(vec![b' '; BYTES_MAX / 3]);
        for number in [4, 2, 3, 1] {
            known.put(day(number), "a", third.clone());
        }
        known.put(day(5), "a", third);
        let kept: Vec<_> = known.get((1..=5).map(|number| (day(number), "a"))).into_keys().collect();
        assert_eq!(kept, [day(3), day(4), day(5)]);
    }
}
