//! The counts of a vendor's usage object, with a mark on each count that was read.
//!
//! A call's usage is understood completely, or the call is unpriced. Not understood are: a quantity that is unmarked at the
//! end, and a count that is not a whole number. The first such name goes into the record's metadata, where the daemon
//! shows it.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use serde_json::Value;

/// Words in names of values that are not billed: `queue_time`, `max_tokens`. A cost is read elsewhere.
const NO_USAGE: [&str; 9] = ["cost", "time", "latency", "duration", "ratio", "percent", "limit", "max", "remaining"];
const NO_USAGE_IN: [&str; 3] = ["per_second", "context_window", "token_type"];
/// 2^53. Every client's language represents each integer below it exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The first name of an answer that was not understood.
#[derive(Debug, Default)]
pub(super) struct Doubts(OnceCell<String>);

impl Doubts {
    pub(super) fn add(&self, name: String) {
        self.0.get_or_init(|| name);
    }

    pub(super) fn first(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

pub(super) struct Counts<'a> {
    root: &'a Value,
    /// The prefix of the names in `doubts`.
    at: String,
    doubts: &'a Doubts,
    read: BTreeSet<String>,
}

impl<'a> Counts<'a> {
    pub(super) fn of(root: &'a Value, at: impl Into<String>, doubts: &'a Doubts) -> Self {
        Self { root, at: at.into(), doubts, read: BTreeSet::new() }
    }

    pub(super) fn get(&self, path: &str) -> &'a Value {
        path.split('.').fold(self.root, |value, name| value.get(name).unwrap_or(&Value::Null))
    }

    pub(super) fn doubt(&self, path: &str) {
        self.doubts.add(format!("{}.{path}", self.at));
    }

    /// A whole number; 0 if it is missing. Doubts any other value.
    pub(super) fn count(&mut self, path: &str) -> u64 {
        let number = self.number(path);
        if number.fract() == 0.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, from 0 on, and exact")]
            return number as u64;
        }
        self.doubt(path);
        0
    }

    /// A number from 0 on, below 2^53; 0 if it is missing. Doubts any other value.
    pub(super) fn number(&mut self, path: &str) -> f64 {
        self.read.insert(path.to_owned());
        match self.get(path) {
            Value::Null => 0.0,
            value => value.as_f64().filter(|number| (0.0..EXACT).contains(number)).unwrap_or_else(|| {
                self.doubt(path);
                0.0
            }),
        }
    }

    /// One count that vendors give different names. Doubts two that differ.
    pub(super) fn one<const N: usize>(&mut self, paths: [&str; N]) -> u64 {
        let mut found = 0;
        for path in paths {
            let count = self.count(path);
            if found == 0 {
                found = count;
            } else if count != 0 && count != found {
                self.doubt(path);
            }
        }
        found
    }

    /// Marks counts that are parts of others, or cost nothing.
    pub(super) fn part<const N: usize>(&mut self, paths: [&str; N]) {
        self.read.extend(paths.map(str::to_owned));
    }

    /// `whole` minus `parts`, not below 0. Doubts parts that exceed their whole.
    pub(super) fn less<const N: usize>(&self, path: &str, whole: u64, parts: [u64; N]) -> u64 {
        let parts = parts.into_iter().fold(0, u64::saturating_add);
        if parts > whole {
            self.doubt(path);
        }
        whole.saturating_sub(parts)
    }

    /// Doubts the alphabetically first unread name that holds a quantity.
    pub(super) fn rest(&self) {
        let mut unread = BTreeSet::new();
        self.walk(self.root, String::new(), &mut unread);
        if let Some(first) = unread.first() {
            self.doubt(first);
        }
    }

    fn walk(&self, value: &Value, path: String, unread: &mut BTreeSet<String>) {
        if self.read.contains(&path) {
            return;
        }
        match value {
            Value::Array(values) => values.iter().for_each(|one| self.walk(one, path.clone(), unread)),
            Value::Object(fields) => {
                for (name, one) in fields {
                    let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.walk(one, inner, unread);
                }
            }
            value if tells_usage(&path, value) => {
                unread.insert(path);
            }
            _ => {}
        }
    }
}

fn tells_usage(path: &str, value: &Value) -> bool {
    let name = path.to_lowercase();
    let mut words = name.split(|letter: char| !letter.is_ascii_lowercase());
    if words.any(|word| NO_USAGE.contains(&word)) || NO_USAGE_IN.iter().any(|part| name.contains(part)) {
        return false;
    }
    match value {
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && name.rsplit('.').next().is_some_and(|last| last.contains("token")),
        _ => false,
    }
}
