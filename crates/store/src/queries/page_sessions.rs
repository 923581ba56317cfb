//! `tallyd_page_sessions`: begins, renews and ends sessions of the page.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};

/// The proven identity that a session keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// The bearer of a static token.
    Token {
        /// Its number.
        id: i32,
    },
    /// A user of the issuer.
    User {
        /// The user's subject.
        subject: String,
        /// True if the issuer calls the user an admin.
        says_admin: bool,
    },
}

/// A session in the form of the table.
#[derive(Debug, Clone)]
pub struct StoredSession {
    /// The SHA-256 of its id.
    pub id_sha256: [u8; 32],
    /// The SHA-256 of its proof.
    pub proof_sha256: [u8; 32],
    /// Its owner.
    pub owner: Proven,
    /// The time by which it has to be renewed; none if that is not needed.
    pub valid_until: Option<DateTime<Utc>>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
    /// The issuer's tokens, encrypted.
    pub sealed: Option<Vec<u8>>,
}

/// Sessions of one token or user; beyond, the oldest are deleted. So a token cannot fill the table.
const SESSIONS_EACH: i64 = 20;
/// Sessions that a daemon keeps in memory; others are looked up.
const SESSIONS_MAX: i64 = 10_000;
const COLUMNS: &str =
    "id_sha256, proof_sha256, token_id, subject, claims_admin, nullif(valid_until, 'infinity'), ends_at, sealed";

fn read(row: &Row) -> Option<StoredSession> {
    let digest = |at: usize| row.get::<_, Vec<u8>>(at).try_into().ok();
    let owner = match row.get::<_, Option<i32>>(2) {
        Some(id) => Proven::Token { id },
        None => Proven::User { subject: row.get::<_, Option<String>>(3)?, says_admin: row.get(4) },
    };
    Some(StoredSession {
        id_sha256: digest(0)?,
        proof_sha256: digest(1)?,
        owner,
        valid_until: row.get(5),
        ends_at: row.get(6),
        sealed: row.get(7),
    })
}

/// The sessions that have not ended, the newest first.
///
/// # Errors
/// PostgreSQL's.
pub async fn in_force(client: &Client) -> Result<Vec<StoredSession>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM public.tallyd_page_sessions WHERE ends_at > clock_timestamp() \
         ORDER BY created_at DESC LIMIT $1"
    );
    let rows = client.query_typed(&sql, &[(&SESSIONS_MAX, Type::INT8)]).await?;
    Ok(rows.iter().filter_map(read).collect())
}

/// The session of this id; none if it has ended.
///
/// # Errors
/// PostgreSQL's.
pub async fn find(client: &Client, id_sha256: &[u8; 32]) -> Result<Option<StoredSession>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM public.tallyd_page_sessions WHERE id_sha256 = $1 AND ends_at > clock_timestamp()"
    );
    let rows = client.query_typed(&sql, &[(&id_sha256.as_slice(), Type::BYTEA)]).await?;
    Ok(rows.first().and_then(read))
}

/// Stores a new session, and deletes ended ones and the owner's oldest.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn begin(transaction: &Transaction<'_>, session: &StoredSession) -> Result<(), tokio_postgres::Error> {
    let (token_id, subject, says_admin) = match &session.owner {
        Proven::Token { id } => (Some(*id), None, false),
        Proven::User { subject, says_admin } => (None, Some(subject.as_str()), *says_admin),
    };
    let (id, proof) = (session.id_sha256.as_slice(), session.proof_sha256.as_slice());
    let sql = "INSERT INTO public.tallyd_page_sessions \
        (id_sha256, proof_sha256, token_id, subject, claims_admin, valid_until, ends_at, sealed) \
        VALUES ($1, $2, $3, $4, $5, coalesce($6, 'infinity'), $7, $8)";
    let values: [super::Parameter<'_>; 8] = [
        (&id, Type::BYTEA),
        (&proof, Type::BYTEA),
        (&token_id, Type::INT4),
        (&subject, Type::TEXT),
        (&says_admin, Type::BOOL),
        (&session.valid_until, Type::TIMESTAMPTZ),
        (&session.ends_at, Type::TIMESTAMPTZ),
        (&session.sealed, Type::BYTEA),
    ];
    transaction.query_typed(sql, &values).await?;
    let sql = "DELETE FROM public.tallyd_page_sessions WHERE ends_at <= clock_timestamp() OR id_sha256 IN \
        (SELECT id_sha256 FROM public.tallyd_page_sessions WHERE token_id = $1 OR subject = $2 \
         ORDER BY created_at DESC OFFSET $3)";
    let values: [super::Parameter<'_>; 3] =
        [(&token_id, Type::INT4), (&subject, Type::TEXT), (&SESSIONS_EACH, Type::INT8)];
    transaction.query_typed(sql, &values).await?;
    Ok(())
}

/// Stores a renewed session. Returns false if it was ended meanwhile.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn renew(client: &Client, session: &StoredSession) -> Result<bool, tokio_postgres::Error> {
    let says_admin = matches!(session.owner, Proven::User { says_admin: true, .. });
    let sql = "UPDATE public.tallyd_page_sessions SET claims_admin = $2, valid_until = coalesce($3, 'infinity'), \
        ends_at = $4, sealed = $5 WHERE id_sha256 = $1 RETURNING true";
    let values: [super::Parameter<'_>; 5] = [
        (&session.id_sha256.as_slice(), Type::BYTEA),
        (&says_admin, Type::BOOL),
        (&session.valid_until, Type::TIMESTAMPTZ),
        (&session.ends_at, Type::TIMESTAMPTZ),
        (&session.sealed, Type::BYTEA),
    ];
    Ok(!client.query_typed(sql, &values).await?.is_empty())
}

/// Ends a session.
///
/// # Errors
/// PostgreSQL's; the session then continues.
pub async fn end(client: &Client, id_sha256: &[u8; 32]) -> Result<(), tokio_postgres::Error> {
    let sql = "DELETE FROM public.tallyd_page_sessions WHERE id_sha256 = $1";
    client.query_typed(sql, &[(&id_sha256.as_slice(), Type::BYTEA)]).await?;
    Ok(())
}
