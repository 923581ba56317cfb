//! Keeps the catalog for pricing records equal to `api_prices`.
//!
//! One session listens for the notification of the table's trigger. It also reads the highest id of `api_price_changes`
//! every `pricing.refresh_ms`, because a pooler in transaction mode does not pass on notifications, and one can be lost
//! with its session. After a change a new catalog is built and swapped in; pricing in progress continues with the old
//! one. Ingestion never waits for the feed. While the database is down, or has invalid prices, the last catalog stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use super::{cache, read_added};
use crate::retry::until_stopped;
use crate::{Connection, Database, describe};
use tallyd_base::registry;
use tallyd_model::pricing::{Catalog, PricingOptions};

/// The channel that the trigger notifies.
const CHANNEL: &str = "tallyd_prices";
/// The pause before a broken session is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// The feed's settings.
pub struct PriceFeed {
    /// The database with the prices.
    pub database: Arc<Database>,
    /// The settings of the catalog.
    pub options: PricingOptions,
    /// The catalog to keep up to date.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// The folder of the copy.
    pub data_dir: PathBuf,
}

impl PriceFeed {
    /// Runs until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let meanwhile = "prices are not watched at the moment; the last known ones are applied";
        until_stopped(stop, RETRY, meanwhile, || self.follow()).await;
    }

    /// Follows the table until an error, and returns its text.
    async fn follow(&self) -> String {
        let (connection, notified) = match self.database.listen("tallyd prices", CHANNEL).await {
            Ok(session) => session,
            Err(error) => return error.to_string(),
        };
        let mut known = None;
        loop {
            let version = match version(&connection).await {
                Ok(version) => version,
                Err(error) => return describe(&error),
            };
            if known != Some(version) {
                if let Err(error) = self.refresh(&connection).await {
                    return describe(&error);
                }
                known = Some(version);
            }
            tokio::select! {
                () = notified.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(self.options.refresh_ms)) => {}
            }
        }
    }

    async fn refresh(&self, connection: &Connection) -> Result<(), tokio_postgres::Error> {
        let added = read_added(connection).await?;
        match Catalog::layered(&self.options, &added) {
            Ok((catalog, faults)) => {
                for fault in &faults {
                    tracing::error!(error = %fault, "a price in api_prices is not applied");
                }
                gauge!(registry::PRICES_INVALID).set(faults.len() as f64);
                self.catalog.store(Arc::new(catalog));
                counter!(registry::PRICE_RELOADS).increment(1);
                tracing::info!(added = added.prices.len(), names = added.aliases.len(), "prices are up to date");
            }
            Err(error) => {
                gauge!(registry::PRICES_INVALID).set(added.prices.len() as f64);
                tracing::error!(%error, "no catalog can be made of api_prices; the last known prices are applied");
                return Ok(());
            }
        }
        if let Err(error) = cache::write(&self.data_dir, &added) {
            tracing::warn!(%error, "the copy of the added prices was not written");
        }
        Ok(())
    }
}

/// A number that rises with every change.
async fn version(connection: &Connection) -> Result<i64, tokio_postgres::Error> {
    let sql = "SELECT (SELECT coalesce(max(id), 0) FROM public.api_price_changes) \
         + (SELECT coalesce(max(id), 0) FROM public.tallyd_model_aliases)";
    Ok(connection.query_typed(sql, &[]).await?.first().map_or(0, |row| row.get(0)))
}
