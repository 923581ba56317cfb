//! The task that writes reports of finished periods: a day's, a week's and a month's, from `reports.at` on. Every daemon
//! looks, and `crates/store/src/report.rs` keeps each report from being sent twice.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use metrics::counter;
use tallyd_model::zone::Tz;
use tokio_util::sync::CancellationToken;

use tallyd_base::clock::Clock;
use tallyd_base::registry;
use tallyd_config::Reports;
use tallyd_store::budgets::Period;
use tallyd_store::report::queue;
use tallyd_store::retry::until_stopped;
use tallyd_store::{Database, describe};

pub(crate) struct ReportTask {
    pub database: Arc<Database>,
    pub options: Reports,
    /// From one look to the next.
    pub interval: Duration,
    /// The reporting time zone.
    pub zone: Tz,
    pub clock: Arc<dyn Clock>,
}

impl ReportTask {
    /// Runs until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        until_stopped(stop, self.interval, "reports are not written at the moment", || self.follow()).await;
    }

    /// Works until something fails. Returns the error as text.
    async fn follow(&self) -> String {
        let mut done = None;
        loop {
            let now = self.now();
            let today = now.date_naive();
            if now.time() >= self.options.time() && done != Some(today) {
                if let Err(error) = self.look(&now).await {
                    return error;
                }
                // Nothing more ends today.
                done = Some(today);
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn look(&self, now: &DateTime<Tz>) -> Result<(), String> {
        let mut connection = self.database.connect("tallyd reports").await.map_err(|error| error.to_string())?;
        let options = &self.options;
        for (period, routes) in
            [(Period::Day, &options.daily), (Period::Week, &options.weekly), (Period::Month, &options.monthly)]
        {
            if !routes.is_empty() {
                let queued = queue(&mut connection, period, routes, now).await.map_err(|error| describe(&error))?;
                counter!(registry::ALERTS_RAISED).increment(queued);
            }
        }
        Ok(())
    }

    fn now(&self) -> DateTime<Tz> {
        DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default().with_timezone(&self.zone)
    }
}
