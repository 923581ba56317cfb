//! The sums of the committed calls since the daemon's start, by provider and model: for Prometheus.
//!
//! A batch's sums are noted before its COMMIT and counted once the COMMIT is known to have succeeded: by its reply, or,
//! if the reply was lost, by the watermark that the lane reads next. So each committed call of this daemon counts once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tallyd_model::pricing::Usd;
use tallyd_model::rollup::fold::Deltas;
use tallyd_model::rollup::measures::Measures;

/// Pairs of provider and model with sums of their own; further ones are summed as [`OTHER`].
const PAIRS_MAX: usize = 256;
/// Provider and model of the pairs beyond [`PAIRS_MAX`].
const OTHER: &str = "(other)";

/// Sums by provider and model.
type Sums = BTreeMap<(String, String), Spent>;

/// The sums of one provider and model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// The sums. A counter must not fall, so `measures.cost` includes only batches whose sum is not negative.
    pub measures: Measures,
    /// Batches whose sum is negative, as for refunds, without their sign. Cost minus credits is the exact sum.
    pub credits: Usd,
}

/// The sums of a daemon.
#[derive(Debug, Default)]
pub struct Spend {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    committed: Sums,
    /// By lane: the batch whose COMMIT was sent and not answered.
    unanswered: BTreeMap<u16, Batch>,
}

/// A batch's sums.
#[derive(Debug)]
struct Batch {
    /// The watermark once it is committed.
    to: u64,
    /// Provider, model, sums.
    sums: Vec<(String, String, Measures)>,
}

impl Spend {
    /// Notes the sums of a lane's batch up to a key. They count once the batch is known to be committed.
    pub(super) fn commits(&self, lane: u16, to: u64, deltas: &Deltas<'_>) {
        let mut pairs: BTreeMap<(&str, &str), Measures> = BTreeMap::new();
        for (key, measures) in &deltas.costs {
            pairs.entry((key.provider, key.model)).or_default().add(measures);
        }
        let owned =
            |((provider, model), measures): ((&str, &str), _)| (provider.to_owned(), model.to_owned(), measures);
        let sums = pairs.into_iter().map(owned).collect();
        self.state().unanswered.insert(lane, Batch { to, sums });
    }

    /// Reports a lane's watermark, after a COMMIT's reply or as read from the database. A noted batch up to it is
    /// counted, and one beyond it is forgotten.
    pub fn is_at(&self, lane: u16, watermark: u64) {
        let mut state = self.state();
        let Some(Batch { to, sums }) = state.unanswered.remove(&lane) else { return };
        if to > watermark {
            return;
        }
        for (provider, model, measures) in sums {
            state.add(provider, model, &measures);
        }
    }

    /// The sums, sorted by provider and model.
    #[must_use]
    pub fn since_start(&self) -> Vec<((String, String), Spent)> {
        self.state().committed.iter().map(|(pair, spent)| (pair.clone(), *spent)).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, provider: String, model: String, measures: &Measures) {
        let mut pair = (provider, model);
        if self.committed.len() >= PAIRS_MAX && !self.committed.contains_key(&pair) {
            pair = (OTHER.to_owned(), OTHER.to_owned());
        }
        let spent = self.committed.entry(pair).or_default();
        let mut measures = *measures;
        if measures.cost < Usd::ZERO {
            let credit = Usd::from_attos(-measures.cost.attos());
            // At its largest value the counter begins anew, which Prometheus handles.
            spent.credits = spent.credits.checked_add(credit).unwrap_or(credit);
            measures.cost = Usd::ZERO;
        }
        spent.measures = spent.measures.checked_add(&measures).unwrap_or(measures);
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use tallyd_model::rollup::measures::CostKey;

    use super::*;

    fn deltas<'a>(rows: &[(u32, &'a str, i64, Usd)]) -> Deltas<'a> {
        let mut deltas = Deltas::default();
        for (day, model, calls, cost) in rows {
            let day = NaiveDate::from_ymd_opt(2026, 1, *day).expect("a day");
            let key = CostKey { day, provider: "claude", model, endpoint: "" };
            deltas.costs.insert(key, Measures { calls: *calls, cost: *cost, ..Measures::default() });
        }
        deltas
    }

    fn shown(spend: &Spend) -> Vec<(String, i64, String, String)> {
        let line = |((_, model), spent): ((String, String), Spent)| {
            (model, spent.measures.calls, spent.measures.cost.to_string(), spent.credits.to_string())
        };
        spend.since_start().into_iter().map(line).collect()
    }

    #[test]
    fn a_batch_counts_once_and_only_if_it_is_committed() {
        let spend = Spend::default();
        spend.commits(0, 7, &deltas(&[(1, "a", 2, Usd::ONE), (2, "a", 1, Usd::ONE), (1, "b", 4, Usd::ZERO)]));
        assert_eq!(spend.since_start(), [], "the COMMIT is not answered yet");
        spend.is_at(0, 7);
        spend.is_at(0, 7);
        let first = [("a".into(), 3, "2".into(), "0".into()), ("b".into(), 4, "0".into(), "0".into())];
        assert_eq!(shown(&spend), first);
        // The reply is lost, and the watermark says that it was rolled back.
        spend.commits(0, 9, &deltas(&[(1, "a", 10, Usd::ONE)]));
        spend.is_at(0, 7);
        assert_eq!(shown(&spend), first);
        // Another reply is lost, and the watermark says that the batch is there. The other lane is not affected.
        spend.commits(0, 9, &deltas(&[(1, "b", 10, Usd::ONE)]));
        spend.commits(1, 3, &deltas(&[(1, "c", 1, Usd::ONE)]));
        spend.is_at(0, 9);
        assert_eq!(shown(&spend)[1], ("b".into(), 14, "1".into(), "0".into()));
        assert_eq!(shown(&spend).len(), 2);
    }

    #[test]
    fn what_is_counted_never_falls() {
        let spend = Spend::default();
        for cost in [Usd::ONE, Usd::from_attos(-3 * Usd::ONE.attos())] {
            spend.commits(0, 1, &deltas(&[(1, "a", 1, cost)]));
            spend.is_at(0, 1);
        }
        assert_eq!(shown(&spend), [("a".into(), 2, "1".into(), "3".into())]);
    }

    #[test]
    fn a_sum_that_would_not_fit_begins_anew() {
        let spend = Spend::default();
        for calls in [i64::MAX, 2] {
            spend.commits(0, 1, &deltas(&[(1, "a", calls, Usd::ONE)]));
            spend.is_at(0, 1);
        }
        assert_eq!(shown(&spend), [("a".into(), 2, "1".into(), "0".into())]);
    }

    #[test]
    fn the_pairs_are_bounded() {
        let spend = Spend::default();
        let models: Vec<String> = (0..PAIRS_MAX + 3).map(|number| format!("m{number:03}")).collect();
        let rows: Vec<_> = models.iter().map(|model| (1, model.as_str(), 1, Usd::ONE)).collect();
        spend.commits(0, 1, &deltas(&rows));
        spend.is_at(0, 1);
        assert_eq!(spend.since_start().len(), PAIRS_MAX + 1);
        assert_eq!(shown(&spend)[0], (OTHER.into(), 3, "3".into(), "0".into()));
    }
}
