//! Daily sums by provider.

use chrono::NaiveDate;

use super::total;
use crate::pricing::Usd;

/// A provider's or a model's daily sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The provider, or the model.
    pub name: String,
    /// From the first day with any spending to today, which is not over.
    pub days: Vec<Usd>,
}

impl Part {
    /// The days before today.
    #[must_use]
    pub fn past(&self) -> &[Usd] {
        self.days.split_last().map_or(&[], |(_, past)| past)
    }
}

/// Spending by day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Today.
    pub today: NaiveDate,
    /// By provider, each without days of the future.
    pub parts: Vec<Part>,
    /// By model, if the history is one provider's: the last days only.
    pub models: Vec<Part>,
}

impl History {
    /// What each day came to, from the first day with any spending to today.
    #[must_use]
    pub fn days(&self) -> Vec<Usd> {
        let length = self.parts.iter().map(|part| part.days.len()).max().unwrap_or(0);
        let day = |ago: usize| total(self.parts.iter().filter_map(|part| part.days.iter().rev().nth(ago).copied()));
        (0..length).rev().map(day).collect()
    }
}
