//! The task that evaluates alert rules, if it is this daemon's turn.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use metrics::counter;
use tallyd_model::zone::Tz;
use tokio_util::sync::CancellationToken;

use tallyd_base::clock::{Clock, SystemClock};
use tallyd_base::registry;
use tallyd_config::Config;
use tallyd_store::alert_rules::evaluate::evaluate;
use tallyd_store::retry::until_stopped;
use tallyd_store::{Connection, Database, describe};

/// The longest time from one evaluation to the next.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

pub(crate) struct RuleTask {
    database: Arc<Database>,
    interval: Duration,
    zone: Tz,
    clock: Arc<dyn Clock>,
}

impl RuleTask {
    pub(crate) fn new(config: &Config, database: &Arc<Database>) -> Self {
        Self {
            database: Arc::clone(database),
            interval: INTERVAL_MAX.min(config.alerts.interval * 6),
            zone: config.rollup.time_zone,
            clock: Arc::new(SystemClock),
        }
    }

    /// Runs until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        until_stopped(stop, self.interval, "alert rules are not evaluated at the moment", || self.follow()).await;
    }

    /// Works until something fails. Returns the error as text.
    async fn follow(&self) -> String {
        let mut connection = match self.database.connect("tallyd rules").await {
            Ok(connection) => connection,
            Err(error) => return error.to_string(),
        };
        loop {
            if let Err(error) = self.round(&mut connection).await {
                return describe(&error);
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn round(&self, connection: &mut Connection) -> Result<(), tokio_postgres::Error> {
        let now = DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default().with_timezone(&self.zone);
        // Several daemons look in turn: half of the interval keeps them from evaluating more often than one would.
        let raised = evaluate(connection, &now, self.interval / 2).await?;
        counter!(registry::ALERTS_RAISED).increment(raised.unwrap_or(0));
        Ok(())
    }
}
