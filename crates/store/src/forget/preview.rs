//! Preview of forgetting.

use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{ForgetError, letters, marks};

/// The present rows of a user's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForgetPreview {
    /// Calls, as the lifetime totals have them.
    pub calls: i64,
    /// The sum of their costs in USD, as exact decimal text.
    pub cost_usd: String,
    /// Of those, calls that were dropped from the call log.
    pub dropped_calls: i64,
    /// Days with calls.
    pub days: i64,
    /// Dead letters, including settled ones.
    pub dead_letters: i64,
    /// Budgets and alert rules of the user.
    pub budgets: i64,
    /// True if the user was forgotten before: late records are anonymised.
    pub is_marked: bool,
}

/// Counts the rows of the id.
///
/// # Errors
/// [`ForgetError`].
pub async fn preview(client: &Client, user: &str) -> Result<ForgetPreview, ForgetError> {
    let mark = marks::mark(client, user).await?;
    let sql = "SELECT \
        (SELECT coalesce(sum(calls), 0)::int8 FROM public.tallyd_user_total_parts WHERE user_id = $1), \
        (SELECT coalesce(sum(cost_usd), 0)::text FROM public.tallyd_user_total_parts WHERE user_id = $1), \
        (SELECT coalesce(sum(calls), 0)::int8 FROM public.tallyd_dropped_totals WHERE user_id = $1), \
        (SELECT count(DISTINCT day) FROM public.tallyd_user_day_parts WHERE user_id = $1), \
        (SELECT count(*) FROM public.api_budgets WHERE scope ->> 'user' = $1) \
            + (SELECT count(*) FROM public.tallyd_alert_rules WHERE filter ->> 'user' = $1), \
        EXISTS (SELECT 1 FROM public.tallyd_forgotten_users WHERE id_sha256 = $2)";
    let rows = client.query_typed(sql, &[(&user, Type::TEXT), (&mark, Type::BYTEA)]).await?;
    // A SELECT without FROM returns one row.
    let row = rows.first().expect("a SELECT without FROM returns a row");
    Ok(ForgetPreview {
        calls: row.get(0),
        cost_usd: row.get(1),
        dropped_calls: row.get(2),
        days: row.get(3),
        dead_letters: letters::count(client, user).await?,
        budgets: row.get(4),
        is_marked: row.get(5),
    })
}
