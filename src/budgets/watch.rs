//! The periodic task of budgets: evaluates them if it is this daemon's turn, reads their standing,
//! counts unpriced calls. A failure is logged once and tried again; no record waits for it.
//!
//! All budgets are evaluated every `alerts.interval_ms`. In between, hard budgets are evaluated soon after this daemon has
//! loaded calls ([`Round::Hard`]), and the states of other daemons are read soon after they have changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::DateTime;
use metrics::{counter, gauge, histogram};
use tallyd_model::zone::Tz;
use tokio_util::sync::CancellationToken;

use super::shown::Shown;
use tallyd_base::clock::Clock;
use tallyd_base::registry;
use tallyd_config::Alerts;
use tallyd_model::pricing::Catalog;
use tallyd_pipeline::flusher::Flusher;
use tallyd_pipeline::standing::Standing;
use tallyd_store::budgets::evaluate::{Evaluated, REST_MIN, Round};
use tallyd_store::budgets::{Board, estimates, evaluate, store};
use tallyd_store::dead_letters;
use tallyd_store::retry::until_stopped;
use tallyd_store::unpriced::unpriced;
use tallyd_store::{Connection, Database, describe};

/// The longest time between reads of forecasts, unusual spend, unpriced calls and dead letters, which are not urgent.
const SLOW: Duration = Duration::from_secs(60);
/// How often the daemon looks for loaded calls and for states that another one has evaluated.
const LOOK: Duration = REST_MIN;
/// The pause after each look is at least this many times its duration, so that many budgets do not take all of the time.
const REST: u32 = 4;

pub(crate) struct BudgetWatch {
    pub database: Arc<Database>,
    pub options: Alerts,
    /// The reporting time zone.
    pub zone: Tz,
    pub clock: Arc<dyn Clock>,
    /// Counts the calls that are loaded.
    pub flusher: Arc<Flusher>,
    /// The board to set, for connections and clients.
    pub standing: Arc<Standing>,
    pub catalog: Arc<ArcSwap<Catalog>>,
}

/// The task's memory while its connection lasts.
#[derive(Default)]
struct Progress {
    shown: Shown,
    /// The last report, with which a full evaluation became due.
    reported: Option<Instant>,
    slow: Option<Instant>,
    unusual: Option<Instant>,
    /// Whether all budgets are to be evaluated.
    owes_full: bool,
    /// Calls that were loaded before the last evaluation began.
    evaluated_records: u64,
    /// The number of changes of the board.
    changes: Option<i64>,
    /// Whether budgets, or another daemon's states, have changed since the last evaluation.
    is_changed: bool,
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
        let mut progress = Progress::default();
        loop {
            let begun = Instant::now();
            if let Err(error) = self.look(&mut connection, &mut progress).await {
                return describe(&error);
            }
            tokio::time::sleep((begun.elapsed() * REST).max(LOOK.min(self.options.interval))).await;
        }
    }

    async fn look(&self, connection: &mut Connection, progress: &mut Progress) -> Result<(), tokio_postgres::Error> {
        let slow = SLOW.min(self.options.interval * 6);
        let is_full = is_due(progress.reported, self.options.interval);
        progress.owes_full |= is_full;
        let records = self.flusher.committed_records.load(Ordering::Relaxed);
        let is_news = records != progress.evaluated_records || progress.is_changed;
        let mut board = None;
        if progress.owes_full || is_news && self.standing.board().has_hard() {
            let with_unusual = is_due(progress.unusual, slow);
            let round = if progress.owes_full { Round::Full { with_unusual } } else { Round::Hard };
            if let Some(evaluated) = self.evaluate(connection, round).await? {
                (progress.evaluated_records, progress.is_changed, progress.owes_full) = (records, false, false);
                progress.changes = Some(evaluated.changes);
                board = Some(evaluated.board);
                if round == (Round::Full { with_unusual: true }) {
                    progress.unusual = Some(Instant::now());
                }
            }
        }
        let freshness = store::freshness(connection).await?;
        let is_moved = progress.changes.replace(freshness.changes) != Some(freshness.changes);
        if is_moved || is_full && board.is_none() {
            progress.is_changed |= is_moved;
            board = Some(store::board(connection, self.now().date_naive()).await?);
        }
        let age = Duration::try_from_secs_f64(freshness.age_seconds).unwrap_or_default();
        self.standing.set(board.map(Arc::new), age);
        if is_full {
            progress.reported = Some(Instant::now());
            let with_slow = is_due(progress.slow, slow);
            self.report(connection, &self.standing.board(), with_slow, progress).await?;
        }
        Ok(())
    }

    async fn evaluate(
        &self,
        connection: &mut Connection,
        round: Round,
    ) -> Result<Option<Evaluated>, tokio_postgres::Error> {
        let begun = Instant::now();
        let evaluated = evaluate::evaluate(connection, &self.now(), &self.options, round).await?;
        if let Some(evaluated) = &evaluated {
            histogram!(registry::BUDGETS_EVALUATION_SECONDS).record(begun.elapsed().as_secs_f64());
            counter!(registry::ALERTS_RAISED).increment(evaluated.raised);
        }
        Ok(evaluated)
    }

    /// Shows the metrics, and delivers alerts.
    async fn report(
        &self,
        connection: &mut Connection,
        board: &Board,
        with_slow: bool,
        progress: &mut Progress,
    ) -> Result<(), tokio_postgres::Error> {
        progress.shown.budgets(board, None);
        if with_slow {
            progress.slow = Some(Instant::now());
            let estimates = estimates::estimates(connection, board, &self.now()).await?;
            progress.shown.budgets(board, Some(&estimates));
            progress.shown.models(&unpriced(connection, &self.catalog.load()).await?);
            gauge!(registry::DEAD_LETTERS_WAITING).set(dead_letters::count(connection).await? as f64);
        }
        Ok(())
    }

    fn now(&self) -> DateTime<Tz> {
        DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default().with_timezone(&self.zone)
    }
}

fn is_due(last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= interval)
}
