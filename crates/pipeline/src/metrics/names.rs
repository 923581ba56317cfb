//! Counters by names that senders choose: a bounded number of names, each of bounded length; the rest counts under
//! `(other)`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::counter;

/// The most names of one metric.
const NAMES_MAX: usize = 64;
/// The longest name, bytes; the rest is cut off.
const NAME_BYTES_MAX: usize = 120;
/// The name of all names beyond [`NAMES_MAX`].
pub(crate) const OTHER: &str = "(other)";

/// A counter whose label `what` is a name from outside, and the same counts for `tallyd status`.
pub struct NamedCounter {
    metric: &'static str,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl NamedCounter {
    #[must_use]
    pub(crate) const fn new(metric: &'static str) -> Self {
        Self { metric, counts: Mutex::new(BTreeMap::new()) }
    }

    /// Counts a name once more. Rare, so it locks and looks up.
    pub fn count(&self, name: &str) {
        let mut name = printable(name);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= NAMES_MAX && !counts.contains_key(&name) {
            OTHER.clone_into(&mut name);
        }
        counter!(self.metric, "what" => name.clone()).increment(1);
        *counts.entry(name).or_insert(0) += 1;
    }

    /// The names and their counts since the daemon's start, the highest first.
    #[must_use]
    pub fn since_start(&self) -> Vec<(String, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }
}

/// The name within its bound, without control characters.
fn printable(name: &str) -> String {
    let kept = name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= NAME_BYTES_MAX);
    kept.map(|(_, c)| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_in_number_and_length_and_printable() {
        let names = NamedCounter::new("tallyd_test_total");
        for number in 0..NAMES_MAX + 10 {
            names.count(&format!("n-{number}"));
        }
        names.count("n-0");
        let counts = names.since_start();
        assert_eq!(counts.len(), NAMES_MAX + 1);
        assert_eq!(counts[..2], [(OTHER.to_owned(), 10), ("n-0".to_owned(), 2)]);
        assert_eq!(printable(&"é\n\u{202e}x".repeat(100)).len(), 68);
    }
}
