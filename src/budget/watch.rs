//! The daemon's task: evaluate if it is this daemon's turn, read where the budgets stand, deliver alerts, count what has no
//! price; again and again. A failure is said once, and tried again: nothing here holds up records.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::{DateTime, NaiveDate};
use chrono_tz::Tz;
use metrics::{counter, gauge};
use tokio::sync::watch;

use super::{Board, evaluate, outbox, store};
use crate::clock::Clock;
use crate::config::Alerts;
use crate::database::unpriced::unpriced;
use crate::database::{Connection, Database, describe};
use crate::metrics::registry;
use crate::pricing::Catalog;

/// Budgets of applications read the log, and unpriced calls are no hurry.
const SLOW: Duration = Duration::from_secs(60);
/// Budgets, and unpriced models, that have a metric of their own.
const MAX_SHOWN: usize = 50;

/// What the task works with.
pub struct BudgetWatch {
    /// Where everything is.
    pub database: Arc<Database>,
    /// What the configuration says.
    pub options: Alerts,
    /// The reporting time zone.
    pub zone: Tz,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What connections look at.
    pub board: Arc<ArcSwap<Board>>,
    /// The prices.
    pub catalog: Arc<ArcSwap<Catalog>>,
}

impl BudgetWatch {
    /// Runs until told to stop.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut last_error = String::new();
        loop {
            let error = tokio::select! {
                error = self.follow() => error,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            if error != last_error {
                tracing::warn!(error, "budgets are not evaluated at the moment; their last known state holds");
                last_error = error;
            }
            tokio::select! {
                () = tokio::time::sleep(self.options.interval) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Works until something fails, and says what.
    async fn follow(&self) -> String {
        let mut connection = match self.database.connect("tallyd budgets").await {
            Ok(connection) => connection,
            Err(error) => return error.to_string(),
        };
        let mut slow: Option<Instant> = None;
        let mut shown = HashSet::new();
        loop {
            let with_slow = slow.is_none_or(|last| last.elapsed() >= SLOW.min(self.options.interval * 6));
            if let Err(error) = self.round(&mut connection, with_slow, &mut shown).await {
                return describe(&error);
            }
            if with_slow {
                slow = Some(Instant::now());
            }
            tokio::time::sleep(self.options.interval).await;
        }
    }

    async fn round(
        &self,
        connection: &mut Connection,
        with_slow: bool,
        shown: &mut HashSet<(String, String)>,
    ) -> Result<(), tokio_postgres::Error> {
        let today = self.today();
        let raised = evaluate::evaluate(connection, today, self.zone, &self.options, with_slow).await?;
        counter!(registry::ALERTS_RAISED).increment(raised.unwrap_or(0));
        let board = store::board(connection, today).await?;
        show_board(&board);
        self.board.store(Arc::new(board));
        outbox::deliver(connection, &self.options).await?;
        if with_slow {
            self.show_unpriced(connection, shown).await?;
        }
        Ok(())
    }

    fn today(&self) -> NaiveDate {
        let now = DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default();
        now.with_timezone(&self.zone).date_naive()
    }

    /// Shows the models with the most unpriced calls. One that has got its price goes to 0, not out of sight.
    async fn show_unpriced(
        &self,
        connection: &Connection,
        shown: &mut HashSet<(String, String)>,
    ) -> Result<(), tokio_postgres::Error> {
        let models = unpriced(connection, &self.catalog.load()).await?;
        let (mut now, mut rest) = (HashSet::new(), 0);
        for model in &models {
            let name = (model.provider.clone(), model.model.clone());
            // Labels are for ever: a model that was shown keeps its place.
            if shown.contains(&name) || shown.len() < MAX_SHOWN {
                show_model(&name, model.calls);
                shown.insert(name.clone());
                now.insert(name);
            } else {
                rest += model.calls;
            }
        }
        shown.difference(&now).for_each(|name| show_model(name, 0));
        show_model(&("(other)".into(), "(other)".into()), rest);
        Ok(())
    }
}

fn show_model((provider, model): &(String, String), calls: i64) {
    gauge!(registry::UNPRICED_CALLS, "provider" => provider.clone(), "model" => model.clone()).set(calls as f64);
}

fn show_board(board: &Board) {
    for state in board.states().iter().take(MAX_SHOWN) {
        // For the eye: amounts that count are in the database.
        let ratio = if state.budget.amount_usd.attos() == 0 {
            0.0
        } else {
            state.spent_usd.attos() as f64 / state.budget.amount_usd.attos() as f64
        };
        gauge!(registry::BUDGET_USED_RATIO, "budget" => state.budget.id.to_string()).set(ratio);
    }
}
