//! The state of the screen: the last samples, and the person's choices.

use std::collections::VecDeque;

use super::sample::{Sample, Throughput};
use crate::http::ModelToday;

/// Intervals whose rates are drawn.
const HISTORY: usize = 120;

/// The order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// The highest cost first.
    #[default]
    Cost,
    /// The most calls first.
    Calls,
    /// The most tokens, in and out, first.
    Tokens,
    /// By name.
    Model,
}

impl Sort {
    const ALL: [Self; 4] = [Self::Cost, Self::Calls, Self::Tokens, Self::Model];

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

#[derive(Debug, Default)]
pub(super) struct View {
    pub sample: Option<Sample>,
    /// The rates since the sample before.
    pub rates: Throughput,
    /// Acknowledged records a second, the newest last.
    pub acked: VecDeque<u64>,
    /// Committed records a second, the newest last.
    pub committed: VecDeque<u64>,
    /// Why there is no newer sample.
    pub gone: Option<String>,
    pub sort: Sort,
    /// The first line of the table that is shown.
    pub scroll: usize,
    /// Whether new samples are ignored.
    pub paused: bool,
    /// Whether the keys are shown.
    pub help: bool,
}

/// An action of the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// Stops the picture, or lets it go on.
    Pause,
    /// Shows the keys, or hides them.
    Help,
    /// Sorts by the next column.
    SortNext,
    /// Sorts by the column before.
    SortBack,
    Down,
    Up,
}

impl View {
    /// Takes a new sample, or the error of taking one.
    pub(super) fn hear(&mut self, heard: Result<Sample, String>) {
        if self.paused {
            return;
        }
        match heard {
            Ok(sample) => {
                let rates = self.sample.as_ref().and_then(|before| sample.since(before));
                if let Some(rates) = rates {
                    push(&mut self.acked, rates.acked);
                    push(&mut self.committed, rates.committed);
                }
                self.rates = rates.unwrap_or_default();
                self.sample = Some(sample);
                self.gone = None;
            }
            Err(why) => {
                if self.gone.is_none() && self.sample.is_some() {
                    push(&mut self.acked, 0.0);
                    push(&mut self.committed, 0.0);
                }
                self.rates = Throughput::default();
                self.gone = Some(why);
            }
        }
    }

    /// Applies an action. False if it ends the program.
    pub(super) fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Quit => return false,
            Action::Pause => self.paused = !self.paused,
            Action::Help => self.help = !self.help,
            Action::SortNext => self.sort = self.sort.step(1),
            Action::SortBack => self.sort = self.sort.step(Sort::ALL.len() - 1),
            Action::Down => self.scroll = (self.scroll + 1).min(self.models().len().saturating_sub(1)),
            Action::Up => self.scroll = self.scroll.saturating_sub(1),
        }
        true
    }

    /// Today's models, in the chosen order.
    pub(super) fn models(&self) -> Vec<&ModelToday> {
        let today = self.sample.as_ref().and_then(|sample| sample.today.as_ref());
        let mut models: Vec<&ModelToday> = today.map(|today| today.models.iter().collect()).unwrap_or_default();
        let tokens = |model: &ModelToday| model.input_tokens + model.output_tokens;
        match self.sort {
            Sort::Cost => models.sort_by_key(|model| std::cmp::Reverse(model.cost_usd)),
            Sort::Calls => models.sort_by_key(|model| std::cmp::Reverse(model.calls)),
            Sort::Tokens => models.sort_by_key(|model| std::cmp::Reverse(tokens(model))),
            Sort::Model => models.sort_by(|a, b| (&a.model, &a.provider).cmp(&(&b.model, &b.provider))),
        }
        models
    }
}

fn push(history: &mut VecDeque<u64>, rate: f64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    // A rate is not negative, and far below 2^53.
    history.push_back(rate.round() as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_goes_round_in_both_directions() {
        let mut view = View::default();
        for expected in [Sort::Calls, Sort::Tokens, Sort::Model, Sort::Cost] {
            assert!(view.act(Action::SortNext));
            assert_eq!(view.sort, expected);
        }
        view.act(Action::SortBack);
        assert_eq!(view.sort, Sort::Model);
        assert!(!view.act(Action::Quit));
    }

    #[test]
    fn a_paused_view_hears_nothing() {
        let mut view = View::default();
        view.act(Action::Pause);
        view.hear(Err("gone".into()));
        assert_eq!(view.gone, None);
        view.act(Action::Pause);
        view.hear(Err("gone".into()));
        assert_eq!(view.gone.as_deref(), Some("gone"));
    }
}
