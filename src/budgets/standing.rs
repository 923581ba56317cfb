//! The standing of the budgets within this process: connections and requests read the board, and connected clients
//! receive its state.
//!
//! A client receives the whole state, and only the newest counts. A slow connection skips states, so at most one frame
//! waits for it. The frame is made once and shared by all connections. Setting the board never waits for a connection.

use std::sync::Arc;

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

/// The board, and the channel to the clients' connections.
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
    #[must_use]
    pub(crate) fn board(&self) -> Guard<Arc<Board>> {
        self.board.load()
    }

    /// Sets the board, and sends the state to clients if it has changed for them.
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

    /// Sends the state again, because clients trust it for a bounded time only. A budget whose period has ended by
    /// `today` stops being used up, even if the database is down and nobody evaluates it.
    pub(crate) fn repeat(&self, today: NaiveDate) {
        if let Some(board) = self.board.load().after(today) {
            self.set(Arc::new(board));
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
