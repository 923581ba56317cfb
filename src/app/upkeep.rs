//! Hourly work on the database: writes prices as rows, makes partitions ahead, builds indexes, drops old calls and dead
//! letters, and anonymises late records of forgotten users.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use tallyd_base::clock::{Clock, SystemClock};
use tallyd_base::registry;
use tallyd_config::Config;
use tallyd_model::pricing::Catalog;
use tallyd_store::archive::Archive;
use tallyd_store::dead_letters::expire;
use tallyd_store::forget::{Forgotten, sweep};
use tallyd_store::prices::write_catalog;
use tallyd_store::queries::audit::Actor;
use tallyd_store::retention::{DropState, RetentionError, drop_before, due};
use tallyd_store::upkeep::{INTERVAL, UpkeepOptions, upkeep};
use tallyd_store::{Connection, Database, describe};

/// The pause before failed work is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// The actors in the audit log, for dropped partitions and deleted dead letters: the settings that ask for it.
const DROPS: Actor<'_> = Actor { name: "retention.log_days", address: "" };
const EXPIRES: Actor<'_> = Actor { name: "dead_letters.keep_days", address: "" };

pub(super) struct Upkeep {
    options: UpkeepOptions,
    /// How long calls stay in the call log; none: for ever.
    keep: Option<TimeDelta>,
    /// Where they are written before.
    archive: Option<Archive>,
    /// How long dead letters are kept; none: for ever.
    keep_letters: Option<TimeDelta>,
    database: Arc<Database>,
    catalog: Arc<Catalog>,
    clock: SystemClock,
}

impl Upkeep {
    pub(super) fn new(config: &Config, database: Arc<Database>, catalog: Arc<Catalog>) -> Self {
        let keep = config.retention.log();
        let keep_letters = config.dead_letters.keep();
        let (options, archive) = (UpkeepOptions::from(config), Archive::of(config));
        Self { options, keep, archive, keep_letters, database, catalog, clock: SystemClock }
    }

    /// Works at the start and then every hour, until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            let pause = tokio::select! {
                done = self.once() => match done {
                    Ok(()) => INTERVAL,
                    Err(error) => {
                        tracing::warn!(error, "the schema's upkeep is tried again in a minute");
                        RETRY
                    }
                },
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn once(&self) -> Result<(), String> {
        let connection = self.database.connect("tallyd upkeep").await.map_err(|error| error.to_string())?;
        // Written at the start already; again, if somebody deleted them or the start failed to write them.
        write_catalog(&connection, &self.catalog).await.map_err(|error| describe(&error))?;
        let built = upkeep(&self.database, &connection, self.options).await.map_err(|error| error.to_string())?;
        if !built.is_empty() {
            tracing::info!(indexes = built.join(", "), "sealed partitions were indexed by user");
        }
        self.expire_letters(&connection).await.map_err(|error| describe(&error))?;
        let late = sweep(&connection).await.map_err(|error| error.to_string())?;
        counter!(registry::FORGOTTEN_CALLS).increment(late.calls + late.dropped_calls);
        if late != Forgotten::default() {
            let letters = late.letters_corrected + late.letters_dropped;
            tracing::info!(calls = late.calls, letters, "late records of forgotten users were made anonymous");
        }
        // The last, because an archive that cannot be written must not keep the others from their turn.
        self.drop_old(&connection).await.map_err(|error| error.to_string())
    }

    /// Deletes dead letters and counts of refusals that are older than `dead_letters.keep_days`.
    async fn expire_letters(&self, connection: &Connection) -> Result<(), tokio_postgres::Error> {
        let Some(keep) = self.keep_letters else { return Ok(()) };
        let now = DateTime::<Utc>::from_timestamp_micros(self.clock.now_us()).unwrap_or_default();
        let expired = expire(connection, now - keep, &EXPIRES).await?;
        counter!(registry::DEAD_LETTERS_EXPIRED).increment(expired.letters);
        if expired.letters > 0 {
            tracing::info!(letters = expired.letters, open = expired.open, "dead letters were older than keep_days");
        }
        Ok(())
    }

    /// Drops partitions that are older than `retention.log_days`.
    async fn drop_old(&self, connection: &Connection) -> Result<(), RetentionError> {
        let Some(keep) = self.keep else { return Ok(()) };
        let now = DateTime::<Utc>::from_timestamp_micros(self.clock.now_us()).unwrap_or_default();
        let before = now - keep;
        let done = drop_before(connection, before, &DROPS, self.archive.as_ref(), |dropped| {
            counter!(registry::RETENTION_CALLS).increment(dropped.calls.unsigned_abs());
            if dropped.state == DropState::Gone {
                counter!(registry::RETENTION_PARTITIONS).increment(1);
            }
            tracing::info!(
                partition = dropped.partition,
                calls = dropped.calls,
                cost_usd = dropped.cost_usd,
                state = dropped.state.name(),
                "a partition was older than retention.log_days"
            );
        })
        .await;
        let overdue = due(connection, before).await?.len();
        gauge!(registry::RETENTION_OVERDUE).set(overdue as f64);
        if self.archive.is_some() {
            let failing = matches!(done, Err(RetentionError::Archive { .. }));
            gauge!(registry::ARCHIVE_FAILING).set(f64::from(u8::from(failing)));
        }
        match done {
            Ok(_) => Ok(()),
            // Another process is dropping partitions already.
            Err(RetentionError::Taken) => Ok(()),
            // The owner will not change within a minute.
            Err(error @ RetentionError::NotOwner { .. }) => {
                tracing::warn!(error = error.to_string(), partitions = overdue, "old partitions stay");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
