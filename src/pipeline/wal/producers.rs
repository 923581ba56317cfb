//! Producers' high-water marks: what makes a resend after a crash harmless.
//!
//! The mark of a producer is the highest sequence number of it that is in the log. It becomes durable with the records
//! themselves (it stands in their value's header), and each segment begins with a snapshot of all marks, so the newest
//! segment alone restores them. The writer thread owns this table; nobody else changes it.
//!
//! Bounded: beyond `max` names the one that has been idle longest is forgotten, and an idle name after a set time. A
//! forgotten producer that comes back starts from 0, which is harmless: a client numbers upwards from what it knows.
//! The wall clock may jump by years, so a name is not forgotten for being idle within [`GRACE`] of having been heard of
//! or recovered, by a clock that does not jump: a client that is about to resend would be told to begin at 0.
//! Requests that came with a key of their own (`pipeline/batch.rs`) are names, too, of which there may be many: they are
//! forgotten first, several at once, and after a day.
//! Imports are different: their names stand for a file's content and keep a second import of it from adding anything,
//! so they are forgotten last and never for being idle.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long a name is kept whatever the wall clock says.
pub const GRACE: Duration = Duration::from_secs(60 * 60);

/// Names that begin so belong to imports of files.
pub const IMPORT_PREFIX: &str = "import:";

/// Names that begin so belong to single requests.
pub const REQUEST_PREFIX: &str = "request:";
/// How long a request's name is remembered: whoever repeats one does so sooner.
const REQUEST_IDLE_US: i64 = 24 * 60 * 60 * 1_000_000;
/// One in so many requests' names goes when there is no room: finding the oldest costs a walk over all.
const REQUESTS_FORGOTTEN: usize = 16;

/// One producer's state, as a segment's snapshot holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The producer's name.
    pub name: String,
    /// Its highest durable sequence number.
    pub last_seq: u64,
    /// When it was last heard of, microseconds since 1970.
    pub seen_us: i64,
}

#[derive(Debug, Clone, Copy)]
struct State {
    last_seq: u64,
    seen_us: i64,
    /// When it was last heard of, or recovered, by a clock that does not jump.
    heard: Instant,
    /// Which connection speaks for it: the number of its `Hello`, as counted here.
    session: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { last_seq: 0, seen_us: 0, heard: Instant::now(), session: 0 }
    }
}

/// All producers that are remembered.
pub struct Producers {
    states: HashMap<Arc<str>, State>,
    sessions: u64,
    max: usize,
    idle_us: i64,
    grace: Duration,
}

impl Producers {
    /// An empty table of at most `max` names, which forgets a name after `idle_us` microseconds, and not before `grace`,
    /// usually [`GRACE`].
    #[must_use]
    pub fn new(max: usize, idle_us: i64, grace: Duration) -> Self {
        Self { states: HashMap::new(), sessions: 0, max, idle_us, grace }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// True if none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Restores one state. A higher mark wins: snapshots and headers may be replayed in any order.
    pub fn restore(&mut self, name: &str, last_seq: u64, seen_us: i64) {
        if name.is_empty() {
            return;
        }
        let state = self.states.entry(name.into()).or_default();
        state.last_seq = state.last_seq.max(last_seq);
        state.seen_us = state.seen_us.max(seen_us);
    }

    /// A connection takes the name over. Returns its session number and the producer's mark.
    pub fn open_session(&mut self, name: &str, now_us: i64) -> (u64, u64) {
        if !self.states.contains_key(name) && self.states.len() >= self.max {
            self.make_room();
        }
        self.sessions += 1;
        let state = self.states.entry(name.into()).or_default();
        state.session = self.sessions;
        state.seen_us = now_us;
        state.heard = Instant::now();
        (state.session, state.last_seq)
    }

    /// Takes note of a chunk. False if another connection has taken the name over: the chunk must not be stored.
    pub fn advance(&mut self, name: &str, session: u64, last_seq: u64, now_us: i64) -> bool {
        let Some(state) = self.states.get_mut(name).filter(|state| state.session == session) else { return false };
        state.last_seq = state.last_seq.max(last_seq);
        state.seen_us = now_us;
        state.heard = Instant::now();
        true
    }

    /// The mark of a producer, 0 if it is not remembered.
    #[must_use]
    pub fn last_seq(&self, name: &str) -> u64 {
        self.states.get(name).map_or(0, |state| state.last_seq)
    }

    /// All states, for a segment's beginning; forgets who has been idle for too long.
    pub fn snapshot(&mut self, now_us: i64) -> Vec<Snapshot> {
        let oldest_us = now_us.saturating_sub(self.idle_us);
        let oldest_request_us = oldest_us.max(now_us.saturating_sub(REQUEST_IDLE_US));
        let grace = self.grace;
        self.states.retain(|name, state| {
            let oldest_us = if name.starts_with(REQUEST_PREFIX) { oldest_request_us } else { oldest_us };
            state.seen_us >= oldest_us || state.heard.elapsed() < grace || name.starts_with(IMPORT_PREFIX)
        });
        let all = self.states.iter();
        let mut all: Vec<_> = all
            .map(|(name, state)| Snapshot { name: name.to_string(), last_seq: state.last_seq, seen_us: state.seen_us })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn make_room(&mut self) {
        let requests = self.states.iter().filter(|(name, _)| name.starts_with(REQUEST_PREFIX));
        let mut seen: Vec<i64> = requests.map(|(_, state)| state.seen_us).collect();
        if seen.is_empty() {
            return self.forget_one();
        }
        let (_, until_us, _) = {
            let last = (seen.len() / REQUESTS_FORGOTTEN).min(seen.len() - 1);
            seen.select_nth_unstable(last)
        };
        let until_us = *until_us;
        self.states.retain(|name, state| state.seen_us > until_us || !name.starts_with(REQUEST_PREFIX));
    }

    fn forget_one(&mut self) {
        let idle = self.states.iter().min_by_key(|(name, state)| (name.starts_with(IMPORT_PREFIX), state.seen_us));
        if let Some(name) = idle.map(|(name, _)| Arc::clone(name)) {
            tracing::warn!(producer = %name, max = self.max, "too many producers: the longest idle one is forgotten");
            self.states.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_session_fences_off_the_first() {
        let mut producers = Producers::new(10, 1_000, Duration::ZERO);
        let (first, last_seq) = producers.open_session("a", 1);
        assert_eq!(last_seq, 0);
        assert!(producers.advance("a", first, 7, 2));
        let (second, last_seq) = producers.open_session("a", 3);
        assert_eq!(last_seq, 7);
        assert!(!producers.advance("a", first, 8, 4));
        assert!(producers.advance("a", second, 8, 5));
        assert_eq!(producers.last_seq("a"), 8);
    }

    #[test]
    fn requests_are_forgotten_first_and_after_a_day() {
        let mut producers = Producers::new(4, 100 * REQUEST_IDLE_US, Duration::ZERO);
        producers.open_session("named", 1);
        for (at, name) in [(2, "request:a"), (3, "request:b"), (4, "request:c"), (5, "request:d")] {
            producers.open_session(name, at);
        }
        let mut names = |now_us| producers.snapshot(now_us).into_iter().map(|state| state.name).collect::<Vec<_>>();
        assert_eq!(names(5), ["named", "request:b", "request:c", "request:d"]);
        assert_eq!(names(4 + REQUEST_IDLE_US), ["named", "request:c", "request:d"]);
        assert_eq!(names(6 + REQUEST_IDLE_US), ["named"]);
    }

    #[test]
    fn the_table_is_bounded_and_imports_go_last() {
        let mut producers = Producers::new(2, 1_000, Duration::ZERO);
        producers.open_session("import:x", 1);
        producers.open_session("a", 2);
        producers.open_session("b", 3);
        let names: Vec<_> = producers.snapshot(3).into_iter().map(|state| state.name).collect();
        assert_eq!(names, ["b", "import:x"]);
        let names: Vec<_> = producers.snapshot(5_000).into_iter().map(|state| state.name).collect();
        assert_eq!(names, ["import:x"]);
    }

    #[test]
    fn a_clock_that_jumps_makes_nobody_idle() {
        let mut producers = Producers::new(10, 1_000, GRACE);
        let (session, _) = producers.open_session("a", 1);
        assert!(producers.advance("a", session, 7, 2));
        producers.restore("b", 9, 3);
        assert_eq!(producers.snapshot(i64::MAX).len(), 2);
        assert!(producers.advance("a", session, 8, i64::MAX), "its connection still speaks for it");
    }
}
