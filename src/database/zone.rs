//! The reporting time zone. The database keeps it, because the days of the rollups are in it; the configuration only says
//! what a new database begins with.

use chrono_tz::Tz;
use tokio_postgres::GenericClient;
use tokio_postgres::error::SqlState;

use super::MigrateError;

/// The zone in which the days of the rollups are. `configured` is what a configuration states, if it does; it holds where
/// nothing has been recorded yet.
///
/// # Errors
/// [`MigrateError::TimeZone`] if the configured zone is another than that of what was recorded.
pub async fn reporting_zone(client: &impl GenericClient, configured: Option<Tz>) -> Result<Tz, MigrateError> {
    const KEY: &str = "reporting_time_zone";
    let sql = "SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'";
    let stored: Tz = match client.query_typed(sql, &[]).await {
        Ok(rows) => {
            let stored = rows.first().and_then(|row| row.get::<_, &str>(0).parse().ok());
            stored.ok_or(MigrateError::Setting { key: KEY })?
        }
        // The schema is still to be made.
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
    let empty = "SELECT NOT EXISTS (SELECT FROM public.daily_api_costs) \
        AND NOT EXISTS (SELECT FROM public.daily_user_api_costs) AND NOT EXISTS (SELECT FROM public.api_usage_log)";
    let rows = client.query_typed(empty, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
