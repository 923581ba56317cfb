//! Compares the catalog with the configured price list periodically ([`tallyd_store::prices::sync`]).

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::gauge;
use tokio_util::sync::CancellationToken;

use crate::outbound::price_list;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_base::registry;
use tallyd_config::{Config, PriceSync};
use tallyd_model::pricing::PricingOptions;
use tallyd_store::prices::sync::{self, Proposal, SyncError};
use tallyd_store::queries::audit::Actor;
use tallyd_store::{Connection, Database, describe};

/// How often the task checks whether a comparison is due; another daemon on the database may have made the last one.
const PAUSE: Duration = Duration::from_secs(60);
/// The actor in the audit log, for prices that are applied by the setting.
const ACTOR: &str = "price_sync.apply";

pub(super) struct PriceSyncTask {
    database: Arc<Database>,
    pricing: PricingOptions,
    sync: PriceSync,
}

impl PriceSyncTask {
    /// None if no list is configured.
    pub(super) fn new(config: &Config, database: &Arc<Database>) -> Option<Self> {
        let (pricing, sync) = (config.pricing.clone(), config.price_sync.clone());
        (!sync.list.is_empty()).then(|| Self { database: Arc::clone(database), pricing, sync })
    }

    /// Works until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                done = self.once() => if let Err(error) = done {
                    tracing::warn!(error, list = self.sync.list, "the price list was not compared");
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
        let mut connection = self.database.connect("tallyd price list").await.map_err(|error| error.to_string())?;
        let looked = self.look_if_due(&mut connection).await;
        // Every daemon shows the state, including the results of others.
        let state = sync::state(&connection).await.map_err(|error| error.to_string())?;
        gauge!(registry::PRICE_LIST_FAILING).set(if state.error.is_empty() { 0.0 } else { 1.0 });
        gauge!(registry::PRICE_LIST_CHANGES).set(state.proposal.map_or(0, |open| open.changes.len()) as f64);
        looked
    }

    async fn look_if_due(&self, connection: &mut Connection) -> Result<(), String> {
        if !sync::claim(connection, &self.sync).await.map_err(|error| describe(&error))? {
            return Ok(());
        }
        let found = match price_list(&self.sync.list).await {
            Ok(text) => self.look(connection, &text).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(proposal) => {
                tell(proposal.as_ref());
                Ok(())
            }
            Err(error) => {
                sync::failed(connection, &error).await.map_err(|error| describe(&error))?;
                Err(error)
            }
        }
    }

    async fn look(&self, connection: &mut Connection, text: &str) -> Result<Option<Proposal>, SyncError> {
        let now = DateTime::<Utc>::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
        let transaction = connection.transaction().await?;
        let proposal = sync::look(&transaction, &self.pricing, &self.sync, text, now).await?;
        if self.sync.apply && proposal.is_some() {
            let applied = sync::apply(&transaction, &self.pricing, None, &Actor { name: ACTOR, address: "" }).await?;
            transaction.commit().await?;
            tracing::info!(prices = applied.changes.len(), list = applied.list, "the price list was applied");
            return Ok(None);
        }
        transaction.commit().await?;
        Ok(proposal)
    }
}

fn tell(proposal: Option<&Proposal>) {
    if let Some(proposal) = proposal {
        let (prices, list) = (proposal.changes.len(), &proposal.list);
        tracing::info!(prices, list, "a price list differs from the prices; `tallyd prices sync` shows how");
    }
}
