//! Closes vendor-days by the vendors' own reports.
//!
//! | module | content |
//! |---|---|
//! | `api` | the vendors: their reports, parameters and headers |
//! | `fetch` | fetches a report: paged, retried, within the vendor's rate limits |
//! | [`look`] | one look: fetches the reports, opens changed days, closes days |
//!
//! `crates/model/src/bill/` reads reports and judges a day, `crates/store/src/closings.rs` keeps the record. One daemon of a
//! database looks; all show where the days stand.

mod api;
mod fetch;
pub(crate) mod look;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::gauge;
use tokio_util::sync::CancellationToken;

use self::look::{Look, standing};
pub(crate) use api::Vendor;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_base::registry;
use tallyd_config::Config;
use tallyd_store::{Connection, Database, closings, describe};

/// How often the task checks whether a look is due; another daemon on the database may have made the last one.
const PAUSE: Duration = Duration::from_secs(60);

pub(crate) struct VendorTask {
    database: Arc<Database>,
    config: Arc<Config>,
    vendors: Vec<Vendor>,
}

/// The instant now, in the microseconds that PostgreSQL keeps.
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default()
}

impl VendorTask {
    /// None if no vendor has an admin key.
    pub(crate) fn new(config: &Arc<Config>, database: &Arc<Database>) -> Option<Self> {
        let vendors = Vendor::configured(&config.vendors);
        (!vendors.is_empty()).then(|| Self { database: Arc::clone(database), config: Arc::clone(config), vendors })
    }

    /// Works until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                done = self.once() => if let Err(error) = done {
                    tracing::warn!(error, "vendor-days are not closed at the moment");
                },
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn once(&self) -> Result<(), String> {
        let connection = self.database.connect("tallyd vendor bills").await.map_err(|error| error.to_string())?;
        for vendor in &self.vendors {
            let interval = self.config.vendors.interval();
            if closings::claim(&connection, vendor.name(), interval).await.map_err(|error| describe(&error))? {
                self.look(&connection, *vendor).await?;
            }
            let days = standing(&connection, *vendor, &self.config.vendors, now()).await?;
            for (state, number) in days.by_state() {
                gauge!(registry::VENDOR_DAYS, "vendor" => vendor.name(), "state" => state).set(f64::from(number));
            }
        }
        Ok(())
    }

    /// A look that fails because of the vendor is noted, and does not keep the other vendor from being looked at.
    async fn look(&self, connection: &Connection, vendor: Vendor) -> Result<(), String> {
        let look = Look { client: connection, vendor, config: &self.config, now: now() };
        match look.run().await {
            Ok(entries) => {
                let closed = entries.iter().filter(|entry| entry.closed.cause.is_none()).count();
                if closed > 0 {
                    tracing::info!(
                        vendor = vendor.name(),
                        closed,
                        "vendor-days were closed; `tallyd close list` shows them"
                    );
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(vendor = vendor.name(), %error, "the vendor's reports were not read; they are fetched again");
                Ok(())
            }
        }
    }
}
