//! `tallyd_page_sessions`: who is signed in to the admin page.

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::Parameter;
use super::audit::{self, Change};

/// A session, as the daemon keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// The SHA-256 of the cookie's value.
    pub sha256: Vec<u8>,
    /// As the audit log has it.
    pub actor: String,
    /// What was shown to get it.
    pub proof: Proof,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// What was shown to get a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A static token, by its number.
    Token(i32),
    /// A JWT.
    User {
        /// Its user.
        subject: String,
        /// Whether it called the user an admin.
        says_admin: bool,
    },
    /// A link that `tallyd open` made: whoever may run it on the daemon's data folder may do everything.
    Link,
}

/// Sessions that a daemon keeps: the newest.
const SESSIONS_MAX: i64 = 10_000;

/// Those that have not ended.
///
/// # Errors
/// PostgreSQL's.
pub async fn in_force(client: &Client) -> Result<Vec<StoredSession>, tokio_postgres::Error> {
    let sql = "SELECT sha256, actor, token_id, subject, says_admin, expires_at FROM public.tallyd_page_sessions \
        WHERE expires_at > now() ORDER BY created_at DESC LIMIT $1";
    let rows = client.query_typed(sql, &[(&SESSIONS_MAX, Type::INT8)]).await?;
    Ok(rows.iter().map(read).collect())
}

fn read(row: &tokio_postgres::Row) -> StoredSession {
    let proof = match (row.get(2), row.get(3)) {
        (Some(token), _) => Proof::Token(token),
        (None, Some(subject)) => Proof::User { subject, says_admin: row.get(4) },
        (None, None) => Proof::Link,
    };
    StoredSession { sha256: row.get(0), actor: row.get(1), proof, expires_at: row.get(5) }
}

/// Stores one, with its line in the audit log, and forgets those that have ended.
///
/// # Errors
/// PostgreSQL's; nothing was changed then.
pub async fn create(client: &mut Client, session: &StoredSession, address: &str) -> Result<(), tokio_postgres::Error> {
    let (token, subject, says_admin) = match &session.proof {
        Proof::Token(id) => (Some(*id), None, false),
        Proof::User { subject, says_admin } => (None, Some(subject.as_str()), *says_admin),
        Proof::Link => (None, None, false),
    };
    let transaction = client.transaction().await?;
    transaction.query_typed("DELETE FROM public.tallyd_page_sessions WHERE expires_at <= now()", &[]).await?;
    let sql = "INSERT INTO public.tallyd_page_sessions (sha256, actor, token_id, subject, says_admin, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    let values: [Parameter<'_>; 6] = [
        (&session.sha256, Type::BYTEA),
        (&session.actor, Type::TEXT),
        (&token, Type::INT4),
        (&subject, Type::TEXT),
        (&says_admin, Type::BOOL),
        (&session.expires_at, Type::TIMESTAMPTZ),
    ];
    transaction.query_typed(sql, &values).await?;
    let new = Some(json!({ "expires_at": session.expires_at }));
    let actor = &session.actor;
    let change = Change { actor, address, action: "page.sign_in", object: "", old: None, new };
    audit::write(&transaction, &change).await?;
    transaction.commit().await
}

/// Ends one.
///
/// # Errors
/// PostgreSQL's; it goes on then.
pub async fn end(client: &Client, sha256: &[u8]) -> Result<(), tokio_postgres::Error> {
    let sql = "DELETE FROM public.tallyd_page_sessions WHERE sha256 = $1";
    client.query_typed(sql, &[(&sha256, Type::BYTEA)]).await.map(drop)
}
