//! Loads calls outside of lanes, in a tool's own transaction.
//!
//! A retried dead letter, or a record of a damaged segment, does not have a place among a lane's keys. The tool's
//! transaction makes its work happen once (by a letter's mark, or a lookup of ids). This module loads the calls in it
//! with the lanes' code: the same rows, the same rollups in the same order.

use std::sync::Arc;

use tallyd_model::zone::Tz;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::FlushError;
use super::partitions::Partitions;
use super::periods::learn_days;
use super::poison::{self, Poison};
use crate::dimensions;
use crate::user_deltas::Side;
use tallyd_config::Config;
use tallyd_model::call::Call;
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::fold::Fold;
use tallyd_model::rollup::guard::{KeyBounds, KeyGuard};
use tallyd_wal::chunk::Columns;
use tallyd_wal::recent::{Payload, StoredChunk};

/// Loads calls in a caller's transactions.
pub struct DirectLoader {
    partitions: Partitions,
    guard: KeyGuard,
    days: Days,
    zone: Tz,
}

/// Why a loader cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DirectLoaderError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The schema is missing or incomplete.
    #[error("the database has no reporting time zone (tallyd_settings): run `tallyd migrate`")]
    NoTimeZone,
}

impl DirectLoader {
    /// Reads the rollups' zone from the database, so that a tool with another configuration agrees with it.
    ///
    /// # Errors
    /// [`DirectLoaderError`].
    pub async fn new(config: &Config, client: &Client) -> Result<Self, DirectLoaderError> {
        let sql = "SELECT value FROM public.tallyd_settings WHERE key = $1";
        let rows = client.query_typed(sql, &[(&"reporting_time_zone", Type::TEXT)]).await?;
        let zone = rows.first().and_then(|row| row.get::<_, &str>(0).parse::<Tz>().ok());
        let zone = zone.ok_or(DirectLoaderError::NoTimeZone)?;
        Ok(Self {
            partitions: Partitions::new(config.log_table.partition),
            guard: KeyGuard::new(KeyBounds {
                models: config.rollup.max_models_per_day,
                endpoints: config.rollup.max_endpoints_per_day,
                apps: config.rollup.max_apps_per_day,
                values: config.dimensions.max_values_per_day,
            }),
            days: Days::new(zone),
            zone,
        })
    }

    /// Makes the partitions for these calls, before the transaction begins.
    ///
    /// # Errors
    /// [`FlushError`].
    pub async fn prepare(&self, client: &Client, calls: &[Call<'_>]) -> Result<(), FlushError> {
        let chunks: Vec<_> = calls.iter().map(|call| Arc::new(stand_in(call.occurred_at_us))).collect();
        self.partitions.ensure(client, None, &chunks, usize::MAX).await?;
        learn_days(client, &self.guard, &self.days, None, &chunks).await
    }

    /// The days of the rollups.
    #[must_use]
    pub fn days(&self) -> Days {
        self.days.clone()
    }

    /// The zone whose midnights divide the days.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Begins the caller's transaction. Its COMMIT waits for the disk, regardless of the server's default, and rebuilds
    /// of the rollups wait for it.
    ///
    /// # Errors
    /// [`FlushError::Zone`] if the database's zone has changed; PostgreSQL's.
    pub async fn begin(&self, client: &Client) -> Result<(), FlushError> {
        client.batch_execute(super::slots::BEGIN).await?;
        Ok(crate::zone::enter(client, self.zone).await??)
    }

    /// Loads the calls and their rollups, in the caller's transaction. Returns the calls that PostgreSQL refused.
    ///
    /// # Errors
    /// [`FlushError`]; the transaction is then lost.
    pub async fn load(&self, client: &Client, calls: &[Call<'_>]) -> Result<Vec<Poison>, FlushError> {
        let side = Side::enter(client).await?;
        let dimensions = dimensions::counted(client).await?;
        poison::load_calls(client, side, calls, || Fold::new(&self.guard, self.days.clone(), &dimensions)).await
    }

    /// Commits the caller's transaction.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn commit(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute("COMMIT").await
    }
}

/// A chunk of one call's time, for the search for partitions.
fn stand_in(us: i64) -> StoredChunk {
    StoredChunk {
        first_key: 0,
        last_key: 0,
        lane: 0,
        records: 1,
        refused: 0,
        min_us: us,
        max_us: us,
        written_us: us,
        producer: "".into(),
        columns: Columns::EVERY,
        payload: Payload::Held(Vec::new()),
    }
}
