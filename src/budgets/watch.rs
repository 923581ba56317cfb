//! The periodic task of budgets: evaluates them if it is this daemon's turn, reads their standing, counts
//! unpriced calls. A failure is logged once and tried again; no record waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::DateTime;
use chrono_tz::Tz;
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use super::Standing;
use super::shown::Shown;
use tallyd_base::clock::Clock;
use tallyd_base::registry;
use tallyd_config::Alerts;
use tallyd_model::pricing::Catalog;
use tallyd_store::budgets::{evaluate, store};
use tallyd_store::dead_letters;
use tallyd_store::retry::until_stopped;
use tallyd_store::unpriced::unpriced;
use tallyd_store::{Connection, Database, describe};

/// The longest time between reads of forecasts, unusual spend, unpriced calls and dead letters, which are not urgent.
const SLOW: Duration = Duration::from_secs(60);

pub(crate) struct BudgetWatch {
    pub database: Arc<Database>,
    pub options: Alerts,
    /// The reporting time zone.
    pub zone: Tz,
    pub clock: Arc<dyn Clock>,
    /// The board to set, for connections and clients.
    pub standing: Arc<Standing>,
    pub catalog: Arc<ArcSwap<Catalog>>,
}

impl BudgetWatch {
    /// Runs until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let meanwhile = "budgets are not evaluated at the moment; their last known state holds";
        until_stopped(stop, self.options.interval, meanwhile, || self.follow()).await;
    }

    /// Works until something fails. Returns the error as text.
    async fn follow(&self) -> String {
        let mut connection = match self.database.connect("tallyd budgets").await {
            Ok(connection) => connection,
            Err(error) => return error.to_string(),
        };
        let mut slow: Option<Instant> = None;
        let mut shown = Shown::default();
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
        shown: &mut Shown,
    ) -> Result<(), tokio_postgres::Error> {
        let now = self.now();
        let today = now.date_naive();
        let raised = evaluate::evaluate(connection, &now, &self.options, with_slow).await?;
        counter!(registry::ALERTS_RAISED).increment(raised.unwrap_or(0));
        let board = store::board(connection, today).await?;
        shown.budgets(&board, None);
        let board = Arc::new(board);
        self.standing.set(Arc::clone(&board));
        if with_slow {
            shown.budgets(&board, Some(&evaluate::estimates(connection, &board, &now).await?));
            shown.models(&unpriced(connection, &self.catalog.load()).await?);
            gauge!(registry::DEAD_LETTERS_WAITING).set(dead_letters::count(connection).await? as f64);
        }
        Ok(())
    }

    fn now(&self) -> DateTime<Tz> {
        DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default().with_timezone(&self.zone)
    }
}
