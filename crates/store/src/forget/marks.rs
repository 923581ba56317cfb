//! Marks of forgotten users, and the search for their late calls.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{ForgetError, Forgotten, forget_calls, letters};

/// Approximate number of late calls per transaction.
const BATCH_CALLS: u32 = 10_000;
/// How far back the next search repeats the last one: a transaction writes letters with its beginning's time, and may
/// have been open at the last search.
const OVERLAP: &str = "interval '1 hour'";

/// The stand-in for a user's id: a hash that differs between databases.
pub(super) async fn mark(client: &Client, user: &str) -> Result<Vec<u8>, ForgetError> {
    Ok(hash(&database_id(client).await?, user))
}

async fn database_id(client: &Client) -> Result<String, ForgetError> {
    let sql = "SELECT value FROM public.tallyd_settings WHERE key = 'database_id'";
    let rows = client.query_typed(sql, &[]).await?;
    rows.first().map(|row| row.get(0)).ok_or(ForgetError::Setting("database_id"))
}

fn hash(database_id: &str, user: &str) -> Vec<u8> {
    Sha256::digest(format!("{database_id}/{user}")).to_vec()
}

/// Stores a mark, in the caller's transaction. An existing mark stays.
pub(super) async fn keep(client: &Client, mark: &[u8], actor: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO public.tallyd_forgotten_users (id_sha256, actor) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    client.query_typed(sql, &[(&mark, Type::BYTEA), (&actor, Type::TEXT)]).await.map(drop)
}

/// Anonymises late calls of forgotten users. Returns the totals.
///
/// # Errors
/// [`ForgetError`].
pub async fn sweep(client: &Client) -> Result<Forgotten, ForgetError> {
    let mut done = Forgotten::default();
    let sql = format!(
        "SELECT id_sha256, clock_timestamp(), min(swept_at) OVER () - {OVERLAP} FROM public.tallyd_forgotten_users"
    );
    let marks = client.query_typed(&sql, &[]).await?;
    let Some(first) = marks.first() else { return Ok(done) };
    let (now, since): (chrono::DateTime<chrono::Utc>, _) = (first.get(1), first.get(2));
    let wanted: HashSet<Vec<u8>> = marks.iter().map(|row| row.get(0)).collect();
    let database_id = database_id(client).await?;
    let is_wanted = |user: &str| wanted.contains(&hash(&database_id, user));
    letters::correct(client, &letters::Wanted::Any(&is_wanted), Some(since), &mut done).await?;
    // Finds them by the lifetime totals: every user with a call has a row there.
    let late = "SELECT DISTINCT t.user_id FROM public.tallyd_user_total_parts AS t \
        CROSS JOIN (SELECT value FROM public.tallyd_settings WHERE key = 'database_id') AS d \
        JOIN public.tallyd_forgotten_users AS f ON f.id_sha256 = sha256(convert_to(d.value || '/' || t.user_id, 'UTF8')) \
        WHERE t.user_id <> ''";
    for row in client.query_typed(late, &[]).await? {
        match forget_calls(client, row.get(0), BATCH_CALLS, &mut done, &mut |_| {}).await {
            // The next sweep finds the rest.
            Ok(()) | Err(ForgetError::Arriving) => {}
            Err(error) => return Err(error),
        }
    }
    let swept = "UPDATE public.tallyd_forgotten_users SET swept_at = $1 WHERE swept_at < $1";
    client.query_typed(swept, &[(&now, Type::TIMESTAMPTZ)]).await?;
    Ok(done)
}
