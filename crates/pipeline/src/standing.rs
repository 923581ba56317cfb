//! The standing of the budgets within this process: connections and requests read the board, and connected clients
//! receive its state.
//!
//! A client receives the whole state, and only the newest counts. A slow connection skips states, so at most one frame
//! waits for it. The frame is made once and shared by all connections. Setting the board never waits for a connection.
//!
//! A scope that is used up, or no longer is, is sent at once. Amounts that are left change with every call: they are sent
//! at most every [`LEFT_PACE`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use chrono::NaiveDate;
use tallyd_protocol::{Budgets, ServerMessage};
use tokio::sync::watch;

use tallyd_store::budgets::Board;

/// The state that clients receive.
#[derive(Debug)]
pub(crate) struct Told {
    pub budgets: Budgets,
    /// The same as a frame.
    pub frame: Vec<u8>,
}

impl Told {
    fn new(budgets: Budgets) -> Self {
        let mut frame = Vec::new();
        ServerMessage::Budgets(budgets.clone()).write_frame(&mut frame);
        Self { budgets, frame }
    }
}

/// The shortest time between two messages that differ in amounts alone.
const LEFT_PACE: Duration = Duration::from_secs(1);

/// The board, and the channel to the clients' connections.
pub struct Standing {
    board: ArcSwap<Board>,
    told: watch::Sender<Arc<Told>>,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    /// When clients last received a changed state.
    told: Option<Instant>,
    /// When the board was evaluated.
    evaluated: Option<Instant>,
}

impl Default for Standing {
    fn default() -> Self {
        let told = watch::Sender::new(Arc::new(Told::new(Budgets::default())));
        Self { board: ArcSwap::default(), told, times: Mutex::default() }
    }
}

impl Standing {
    /// The board, as it was evaluated last.
    #[must_use]
    pub fn board(&self) -> Guard<Arc<Board>> {
        self.board.load()
    }

    /// Sets the board that was evaluated `age` ago, if it is a new one.
    pub fn set(&self, board: Option<Arc<Board>>, age: Duration) {
        self.times().evaluated = Instant::now().checked_sub(age);
        if let Some(board) = board {
            self.board.store(board);
        }
        self.tell(Instant::now());
    }

    /// How long ago the board was evaluated; none before the first one.
    pub fn age(&self) -> Option<Duration> {
        self.times().evaluated.map(|at| at.elapsed())
    }

    /// Sends the state to clients if it has changed for them, and if it is time.
    fn tell(&self, now: Instant) {
        let budgets = self.board.load().told();
        let mut times = self.times();
        self.told.send_if_modified(|told| {
            let is_early = times.told.is_some_and(|last| now.saturating_duration_since(last) < LEFT_PACE);
            if told.budgets == budgets || is_early && budgets.holds_back_as(&told.budgets) {
                return false;
            }
            if budgets.left_off > 0 && told.budgets.left_off == 0 {
                let (told, left_off) = (budgets.used_up.len(), budgets.left_off);
                tracing::warn!(
                    told,
                    left_off,
                    "more budgets are used up than clients are told of: for the others they hold nothing back"
                );
            }
            times.told = Some(now);
            *told = Arc::new(Told::new(budgets));
            true
        });
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the state again, because clients trust it for a bounded time only. A budget whose period has ended by
    /// `today` stops being used up, even if the database is down and nobody evaluates it.
    pub fn repeat(&self, today: NaiveDate) {
        if let Some(board) = self.board.load().after(today) {
            self.board.store(Arc::new(board));
            self.tell(Instant::now());
        }
        self.told.send_modify(|_| {});
    }

    /// The present state and its changes.
    #[must_use]
    pub(crate) fn told(&self) -> watch::Receiver<Arc<Told>> {
        self.told.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyd_model::pricing::Usd;
    use tallyd_store::budgets::{Budget, BudgetScope, BudgetStanding, BudgetState, Limit, Period};

    fn state(spent: &str, status: BudgetStanding) -> BudgetState {
        let (period_start, amount_usd) = (NaiveDate::default(), Usd::ONE);
        let spent_usd = Usd::parse(spent).unwrap();
        let budget = Budget {
            id: 1,
            scope: BudgetScope::parse(&[("user".to_owned(), "u1".to_owned())].into()).unwrap(),
            period: Period::Day,
            amount_usd,
            warning_percent: 80,
            alert_percents: vec![100],
            limit: Limit::Hard,
        };
        BudgetState {
            budget,
            period_start,
            period_end: period_start.succ_opt().unwrap(),
            spent_usd,
            remaining_usd: amount_usd.checked_sub(spent_usd).unwrap(),
            unpriced_calls: 0,
            status,
        }
    }

    fn set(standing: &Standing, state: BudgetState) {
        standing.set(Some(Arc::new(Board::new(vec![state]))), Duration::from_secs(3));
    }

    #[test]
    fn clients_are_told_what_is_new_and_again_what_is_not_and_a_period_ends_by_itself() {
        let standing = Standing::default();
        assert_eq!(standing.age(), None);
        let mut told = standing.told();
        let used_up = || set(&standing, state("1", BudgetStanding::Exceeded));
        used_up();
        assert!(standing.age() >= Some(Duration::from_secs(3)));
        assert!(told.has_changed().unwrap());
        assert_eq!(told.borrow_and_update().budgets.used_up.len(), 1);
        used_up();
        assert!(!told.has_changed().unwrap(), "nothing is new");
        let first = NaiveDate::default();
        standing.repeat(first);
        assert!(told.has_changed().unwrap());
        assert_eq!(told.borrow_and_update().budgets.used_up.len(), 1);
        standing.repeat(first.succ_opt().unwrap());
        assert_eq!(told.borrow_and_update().budgets, Budgets::default(), "the day is over");
        assert_eq!(standing.board().states()[0].status, BudgetStanding::Normal);
    }

    #[test]
    fn amounts_alone_are_told_at_a_pace_and_a_scope_that_is_used_up_at_once() {
        let standing = Standing::default();
        let told = standing.told();
        let left = || told.borrow().budgets.left.first().map(|left| left.usd.clone());
        set(&standing, state("0.8", BudgetStanding::Warning));
        assert_eq!(left().as_deref(), Some("0.2"));
        set(&standing, state("0.9", BudgetStanding::Warning));
        assert_eq!(left().as_deref(), Some("0.2"), "that was just now");
        standing.tell(Instant::now() + LEFT_PACE);
        assert_eq!(left().as_deref(), Some("0.1"));
        set(&standing, state("1", BudgetStanding::Exceeded));
        assert_eq!((left(), told.borrow().budgets.used_up.len()), (None, 1));
    }
}
