//! Where the budgets stand, for everybody in this process: connections and requests look at the board, clients that are
//! connected are told of it.
//!
//! A client is told the whole state, and only the newest counts: a connection that is slow to take it skips states, so what
//! waits for a connection is one frame at most. The frame is made once, and all connections share it. Setting the board
//! never waits for a connection.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use chrono::NaiveDate;
use tallyd_protocol::{Budgets, ServerMessage};
use tokio::sync::watch;

use tallyd_store::budgets::Board;

/// What clients are told.
#[derive(Debug)]
pub(crate) struct Told {
    /// The state.
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

/// The board, and those who are told of it.
pub(crate) struct Standing {
    board: ArcSwap<Board>,
    told: watch::Sender<Arc<Told>>,
}

impl Default for Standing {
    fn default() -> Self {
        let told = watch::Sender::new(Arc::new(Told::new(Budgets::default())));
        Self { board: ArcSwap::default(), told }
    }
}

impl Standing {
    /// Where the budgets stand.
    #[must_use]
    pub(crate) fn board(&self) -> Guard<Arc<Board>> {
        self.board.load()
    }

    /// Sets the board, and tells clients if there is something new for them.
    pub(crate) fn set(&self, board: Arc<Board>) {
        let budgets = board.told();
        self.board.store(board);
        self.told.send_if_modified(|told| {
            if told.budgets == budgets {
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
            *told = Arc::new(Told::new(budgets));
            true
        });
    }

    /// Tells clients again, which believe it for a bounded time only. Budgets whose period has ended by `today` are used up no
    /// longer, though the database may be away and nobody evaluates them.
    pub(crate) fn repeat(&self, today: NaiveDate) {
        if let Some(board) = self.board.load().after(today) {
            self.set(Arc::new(board));
        }
        self.told.send_modify(|_| {});
    }

    /// What clients are told, now and from now on.
    #[must_use]
    pub(crate) fn told(&self) -> watch::Receiver<Arc<Told>> {
        self.told.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyd_model::pricing::Usd;
    use tallyd_store::budgets::{Budget, BudgetScope, BudgetStanding, BudgetState, Period};

    fn exceeded(user: &str) -> BudgetState {
        let (period_start, amount_usd) = (NaiveDate::default(), Usd::ONE);
        let budget = Budget {
            id: 1,
            scope: BudgetScope::User,
            scope_value: user.into(),
            period: Period::Day,
            amount_usd,
            warning_percent: 80,
            alert_percents: vec![100],
            throttle: true,
        };
        BudgetState {
            budget,
            period_start,
            period_end: period_start.succ_opt().unwrap(),
            spent_usd: amount_usd,
            remaining_usd: Usd::ZERO,
            unpriced_calls: 0,
            status: BudgetStanding::Exceeded,
        }
    }

    #[test]
    fn clients_are_told_what_is_new_and_again_what_is_not_and_a_period_ends_by_itself() {
        let standing = Standing::default();
        let mut told = standing.told();
        let used_up = || Arc::new(Board::new(vec![exceeded("u1")]));
        standing.set(used_up());
        assert!(told.has_changed().unwrap());
        assert_eq!(told.borrow_and_update().budgets.used_up.len(), 1);
        standing.set(used_up());
        assert!(!told.has_changed().unwrap(), "nothing is new");
        let first = NaiveDate::default();
        standing.repeat(first);
        assert!(told.has_changed().unwrap());
        assert_eq!(told.borrow_and_update().budgets.used_up.len(), 1);
        standing.repeat(first.succ_opt().unwrap());
        assert_eq!(told.borrow_and_update().budgets, Budgets::default(), "the day is over");
        assert_eq!(standing.board().states()[0].status, BudgetStanding::Normal);
    }
}
