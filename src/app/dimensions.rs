//! Adds the dimensions that the settings name, and counts the call log's calls by each that is not whole yet
//! ([`tallyd_store::dimensions`]).

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio_util::sync::CancellationToken;

use tallyd_base::registry;
use tallyd_config::{Config, Dimensions};
use tallyd_store::Database;
use tallyd_store::dimensions::{add, count_day};
use tallyd_store::queries::audit::Actor;

/// How often it is looked whether one was added by a command or another daemon.
const PAUSE: Duration = Duration::from_secs(60);
/// Between two days, so that loading goes first.
const BREATH: Duration = Duration::from_millis(200);
/// Their actor in the audit log: the setting.
const ACTOR: Actor<'_> = Actor { name: "dimensions.names", address: "" };

/// The task.
pub(super) struct DimensionTask {
    database: Arc<Database>,
    dimensions: Dimensions,
}

impl DimensionTask {
    pub(super) fn new(config: &Config, database: &Arc<Database>) -> Self {
        Self { database: Arc::clone(database), dimensions: config.dimensions.clone() }
    }

    /// Works until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut missing = self.dimensions.names.clone();
        let work = async {
            loop {
                if let Err(error) = self.once(&mut missing).await {
                    tracing::warn!(error, "the dimensions are tried again in a minute");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    async fn once(&self, missing: &mut Vec<String>) -> Result<(), String> {
        let connection = self.database.connect("tallyd dimensions").await.map_err(|error| error.to_string())?;
        // Once at the start: one that is removed meanwhile stays so until the next.
        while let Some(name) = missing.first() {
            if add(&connection, name, &ACTOR).await.map_err(|error| error.to_string())? {
                tracing::info!(dimension = name, "a tag is a dimension now");
            }
            missing.remove(0);
        }
        let max_values = self.dimensions.max_values_per_day;
        while let Some(counted) = count_day(&connection, max_values).await.map_err(|error| error.to_string())? {
            counter!(registry::DIMENSION_DAYS).increment(u64::from(counted.day.is_some()));
            match counted.day {
                Some(day) => tracing::debug!(
                    dimension = counted.name,
                    day = day.to_string(),
                    rows = counted.rows,
                    other_calls = counted.other_calls,
                    "a day is counted"
                ),
                None => tracing::info!(dimension = counted.name, "a dimension counts all calls of the call log"),
            }
            tokio::time::sleep(BREATH).await;
        }
        Ok(())
    }
}
