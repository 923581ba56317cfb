//! Sessions of Supabase's users: three numbers, each with what it counts.

use serde::Serialize;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::{QueryError, Reading};

/// A number and what it counts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Counted {
    /// How many.
    pub count: i64,
    /// Of what.
    pub definition: &'static str,
}

/// The three numbers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SessionCounts {
    /// Sessions that could be used now.
    pub active: Counted,
    /// Sessions in use lately.
    pub refreshed_24h: Counted,
    /// Users who have come lately.
    pub signed_in_24h: Counted,
}

/// Hours after which a session that was not refreshed counts as idle.
const IDLE_HOURS: i32 = 24 * 30;

/// Counts. None if there are no `auth.sessions` and `auth.users` that may be read.
///
/// `refreshed_at` is a timestamp without time zone, in UTC.
///
/// # Errors
/// [`QueryError`].
pub async fn counts(reading: &Reading) -> Result<Option<SessionCounts>, QueryError> {
    let readable = "SELECT count(*) = 2 FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'auth' \
        AND c.relname IN ('sessions', 'users') AND has_schema_privilege(n.oid, 'USAGE') \
        AND has_table_privilege(c.oid, 'SELECT')";
    if !reading.query_typed(readable, &[]).await?.first().is_some_and(|row| row.get(0)) {
        return Ok(None);
    }
    let sql = "WITH open AS (SELECT coalesce(s.refreshed_at AT TIME ZONE 'UTC', s.created_at) AS used_at \
            FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id \
            WHERE (s.not_after IS NULL OR s.not_after > now()) AND u.deleted_at IS NULL \
            AND (u.banned_until IS NULL OR u.banned_until <= now())) \
        SELECT (SELECT count(*) FROM open WHERE used_at > now() - make_interval(hours => $1)), \
            (SELECT count(*) FROM open WHERE used_at > now() - interval '24 hours'), \
            (SELECT count(*) FROM auth.users WHERE last_sign_in_at > now() - interval '24 hours' \
                AND deleted_at IS NULL AND (banned_until IS NULL OR banned_until <= now()))";
    let rows = reading.query_typed(sql, &[(&IDLE_HOURS, Type::INT4)]).await?;
    Ok(rows.first().map(|row| SessionCounts {
        active: Counted {
            count: row.get(0),
            definition: "sessions that have not ended and were used within 30 days, of users neither banned nor deleted",
        },
        refreshed_24h: Counted { count: row.get(1), definition: "those of them whose token was renewed within 24 hours" },
        signed_in_24h: Counted { count: row.get(2), definition: "users who have signed in within 24 hours" },
    }))
}
