//! The reporting time zone. The database keeps it, because the rollups' days are in it; the configuration sets it only
//! for a new database.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use tallyd_model::zone::Tz;
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

/// The first instant of a day in a zone. Where clocks skip midnight, the day begins when they go on.
#[must_use]
pub fn day_begins(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = day.and_time(NaiveTime::MIN);
    // Clocks skip at most a day, and by whole quarters of an hour.
    let quarters = (0..=96).map(|quarter| midnight + TimeDelta::minutes(15 * quarter));
    let first = quarters.filter_map(|at| at.and_local_timezone(zone).earliest()).next();
    first.map_or_else(|| midnight.and_utc(), |at| at.to_utc())
}

/// The first instant of a day and of the day after it.
#[must_use]
pub fn day_bounds(day: NaiveDate, zone: Tz) -> (DateTime<Utc>, DateTime<Utc>) {
    (day_begins(day, zone), day_begins(day.checked_add_days(Days::new(1)).unwrap_or(day), zone))
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
        AND NOT EXISTS (SELECT 1 FROM public.tallyd_user_day_parts LIMIT 1) \
        AND NOT EXISTS (SELECT 1 FROM public.api_usage_log LIMIT 1)";
    let rows = client.query_typed(empty, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_when_the_clocks_of_the_zone_come_to_it() {
        for (day, zone, begins) in [
            ("2026-11-01", "UTC", "2026-11-01T00:00:00Z"),
            ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00:00Z"),
            // Clocks skip midnight.
            ("2022-09-11", "America/Santiago", "2022-09-11T04:00:00Z"),
            // They show it twice.
            ("2026-11-01", "America/Havana", "2026-11-01T04:00:00Z"),
            // They skip the whole day.
            ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00Z"),
        ] {
            let zone: Tz = zone.parse().unwrap();
            assert_eq!(
                day_begins(day.parse().unwrap(), zone),
                begins.parse::<DateTime<Utc>>().unwrap(),
                "{day} {zone}"
            );
        }
    }
}
