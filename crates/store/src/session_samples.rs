//! `tallyd_session_samples`: Supabase's sessions over time, one sample an hour.
//!
//! Every daemon looks each minute; the first one in an hour writes the row. So an hour without a daemon is a gap, and
//! never a zero. Samples are kept for [`KEPT_DAYS`] days. The hours are those of the database's clock, which all daemons
//! share.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};
use utoipa::ToSchema;

use super::queries::Parameter;
use super::sessions::SessionLimits;

/// Days for which samples are kept, and the longest range of an answer.
pub const KEPT_DAYS: i32 = 90;

/// The counts of one hour, with the definitions of `GET /api/v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SessionSample {
    /// The beginning of the hour, in UTC.
    pub hour: DateTime<Utc>,
    /// Sessions that could still be refreshed.
    pub active: i64,
    /// Distinct users of the active sessions.
    pub active_users: i64,
    /// Of the active sessions, those that were begun or refreshed within 24 hours.
    pub refreshed_24h: i64,
    /// Users who signed in within 24 hours.
    pub signed_in_24h: i64,
}

/// Counts the sessions, if this hour has no sample yet, and deletes old samples. Returns whether a sample was written: a
/// database without Supabase's sessions gets none.
///
/// # Errors
/// PostgreSQL's.
pub async fn sample(client: &Client, limits: SessionLimits) -> Result<bool, tokio_postgres::Error> {
    // The condition does not depend on the function, so PostgreSQL checks it first and counts only where it holds.
    let sql = "INSERT INTO public.tallyd_session_samples (hour, active, active_users, refreshed_24h, signed_in_24h) \
        SELECT date_trunc('hour', now(), 'UTC'), c.active, c.active_users, c.refreshed, c.signed_in \
        FROM public.tallyd_session_counts(make_interval(secs => $1 * 60), make_interval(secs => $2 * 60)) AS c \
        WHERE NOT EXISTS (SELECT 1 FROM public.tallyd_session_samples AS s WHERE s.hour = date_trunc('hour', now(), 'UTC')) \
        ON CONFLICT (hour) DO NOTHING RETURNING hour";
    let (idle, age) = (limits.max_idle_minutes.map(f64::from), limits.max_age_minutes.map(f64::from));
    let limits: [Parameter<'_>; 2] = [(&idle, Type::FLOAT8), (&age, Type::FLOAT8)];
    let is_written = !client.query_typed(sql, &limits).await?.is_empty();
    if is_written {
        let sql = "DELETE FROM public.tallyd_session_samples WHERE hour < now() - make_interval(days => $1)";
        client.query_typed(sql, &[(&KEPT_DAYS, Type::INT4)]).await?;
    }
    Ok(is_written)
}

/// The samples of days in a time zone, both included, in order.
///
/// # Errors
/// PostgreSQL's.
pub async fn samples(
    client: &impl GenericClient,
    (from, to): (NaiveDate, NaiveDate),
    zone: tallyd_model::zone::Tz,
) -> Result<Vec<SessionSample>, tokio_postgres::Error> {
    let sql = "SELECT hour, active, active_users, refreshed_24h, signed_in_24h FROM public.tallyd_session_samples \
        WHERE hour >= $1::timestamp AT TIME ZONE $3 AND hour < ($2 + 1)::timestamp AT TIME ZONE $3 ORDER BY hour";
    let parameters: [Parameter<'_>; 3] = [(&from, Type::DATE), (&to, Type::DATE), (&zone.name(), Type::TEXT)];
    let rows = client.query_typed(sql, &parameters).await?;
    let read = |row: &tokio_postgres::Row| SessionSample {
        hour: row.get(0),
        active: row.get(1),
        active_users: row.get(2),
        refreshed_24h: row.get(3),
        signed_in_24h: row.get(4),
    };
    Ok(rows.iter().map(read).collect())
}
