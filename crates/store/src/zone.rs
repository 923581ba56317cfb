//! The reporting time zone. The database keeps it, because the rollups' days are in it; the configuration sets it only
//! for a new database.

use chrono_tz::Tz;
use tokio_postgres::GenericClient;
use tokio_postgres::error::SqlState;

use super::MigrateError;

/// The stored zone differs from the zone in which this process counts days.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the rollups have days in the time zone {stored} now, and {counted} is counted in here. hint: configure \
     rollup.time_zone = \"{stored}\" and start this tallyd again; records wait in the WAL meanwhile"
)]
pub struct ZoneMoved {
    /// The zone in the database.
    pub stored: String,
    /// The zone of this process.
    pub counted: Tz,
}

impl ZoneMoved {
    /// Compares the stored zone with this process' zone.
    ///
    /// # Errors
    /// If the stored zone differs or is missing.
    pub fn unless(stored: Option<&str>, counted: Tz) -> Result<(), Self> {
        match stored {
            Some(stored) if stored == counted.name() => Ok(()),
            stored => Err(Self { stored: stored.unwrap_or("(none)").to_owned(), counted }),
        }
    }
}

/// Keeps rebuilds of the rollups out until the transaction ends, and compares the zone. Call it first in a transaction
/// that changes rollups, because every writer locks the call log first. The inner error is a zone that has changed.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn enter(
    client: &impl GenericClient,
    counted: Tz,
) -> Result<Result<(), ZoneMoved>, tokio_postgres::Error> {
    client.batch_execute("LOCK TABLE ONLY public.api_usage_log IN ROW EXCLUSIVE MODE").await?;
    let sql = "SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'";
    let rows = client.query_typed(sql, &[]).await?;
    Ok(ZoneMoved::unless(rows.first().map(|row| row.get(0)), counted))
}

/// The zone of the rollups' days. `configured` is the configured zone, if any; it applies while nothing has been
/// recorded.
///
/// # Errors
/// [`MigrateError::TimeZone`] if the configured zone differs from that of recorded calls.
pub async fn reporting_zone(client: &impl GenericClient, configured: Option<Tz>) -> Result<Tz, MigrateError> {
    const KEY: &str = "reporting_time_zone";
    let sql = "SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'";
    let stored: Tz = match client.query_typed(sql, &[]).await {
        Ok(rows) => {
            let stored = rows.first().and_then(|row| row.get::<_, &str>(0).parse().ok());
            stored.ok_or(MigrateError::Setting { key: KEY })?
        }
        // The schema does not exist yet.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(configured.unwrap_or_default()),
        Err(error) => return Err(error.into()),
    };
    match configured {
        Some(configured) if configured != stored => {
            if is_empty(client).await? {
                return Ok(configured);
            }
            let (stored, configured) = (stored.name().to_owned(), configured.name().to_owned());
            Err(MigrateError::TimeZone { stored, configured })
        }
        _ => Ok(stored),
    }
}

async fn is_empty(client: &impl GenericClient) -> Result<bool, MigrateError> {
    let empty = "SELECT NOT EXISTS (SELECT 1 FROM public.daily_api_costs) \
        AND NOT EXISTS (SELECT 1 FROM public.tallyd_user_day_parts) AND NOT EXISTS (SELECT 1 FROM public.api_usage_log)";
    let rows = client.query_typed(empty, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
