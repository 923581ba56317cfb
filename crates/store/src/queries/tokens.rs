//! `tallyd_tokens`: creates, lists and revokes tokens, each change with its entry in the audit log.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};
use utoipa::ToSchema;

use super::audit::{self, Actor, Change};
use tallyd_config::StatedCosts;
use tallyd_model::role::Role;

/// A valid token in the form in which the daemon keeps it.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// Its number.
    pub id: i32,
    /// Its name or purpose.
    pub name: String,
    /// Its rights.
    pub role: Role,
    /// The SHA-256 of its text.
    pub sha256: Vec<u8>,
    /// Its end; none if it does not end.
    pub expires_at: Option<DateTime<Utc>>,
    /// The costs that it may state, if they are fewer than the configuration allows.
    pub stated_costs: Option<StatedCosts>,
}

/// A token as it is listed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ListedToken {
    /// Its number.
    pub id: i32,
    /// Its name or purpose.
    pub name: String,
    /// Its rights.
    pub role: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The author.
    pub created_by: String,
    /// Its end.
    pub expires_at: Option<DateTime<Utc>>,
    /// The time of its revocation.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The costs that it may state, if they are fewer than the configuration allows.
    pub stated_costs: Option<String>,
}

/// A new token.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its name or purpose.
    pub name: String,
    /// Its rights.
    pub role: Role,
    /// Its end.
    pub expires_at: Option<DateTime<Utc>>,
    /// The costs that it may state, if they are fewer than the configuration allows. For the role ingest only.
    pub stated_costs: Option<StatedCosts>,
}

/// Characters of a name.
const NAME_CHARS_MAX: usize = 100;

/// Why a token was not created.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The name is empty, too long or not printable.
    #[error("a name has 1 to {NAME_CHARS_MAX} printable characters")]
    Name,
    /// The limit does not apply to the role.
    #[error("stated costs limit a token of the role ingest; an admin's may state any cost")]
    StatedCosts,
}

/// Tokens that a daemon keeps in memory.
const TOKENS_MAX: i64 = 10_000;

/// True if the table exists: a daemon creates the schema at its first start.
///
/// # Errors
/// PostgreSQL's.
pub async fn has_table(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let rows = client.query_typed("SELECT to_regclass('public.tallyd_tokens') IS NOT NULL", &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// The valid tokens.
///
/// # Errors
/// PostgreSQL's.
pub async fn in_force(client: &Client) -> Result<Vec<StoredToken>, tokio_postgres::Error> {
    let sql = "SELECT id, name, role, sha256, expires_at, stated_costs FROM public.tallyd_tokens WHERE revoked_at IS NULL \
        ORDER BY id DESC LIMIT $1";
    let rows = client.query_typed(sql, &[(&TOKENS_MAX, Type::INT8)]).await?;
    Ok(rows.iter().filter_map(stored).collect())
}

/// The token of this number, if it is valid.
///
/// # Errors
/// PostgreSQL's.
pub async fn one_in_force(client: &Client, id: i32) -> Result<Option<StoredToken>, tokio_postgres::Error> {
    let sql = "SELECT id, name, role, sha256, expires_at, stated_costs FROM public.tallyd_tokens WHERE revoked_at IS NULL AND id = $1";
    let rows = client.query_typed(sql, &[(&id, Type::INT4)]).await?;
    Ok(rows.first().and_then(stored))
}

fn stored(row: &tokio_postgres::Row) -> Option<StoredToken> {
    // Roles of later versions are ignored.
    let role = Role::of(row.get(2))?;
    // An unknown limit of a later version must not become no limit.
    let limit = row.get::<_, Option<&str>>(5);
    let stated_costs = limit.map(|name| StatedCosts::of(name).unwrap_or(StatedCosts::Refuse));
    let (id, name, sha256, expires_at) = (row.get(0), row.get(1), row.get(3), row.get(4));
    Some(StoredToken { id, name, role, sha256, expires_at, stated_costs })
}

/// Selects tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenFilter {
    /// Only those that are neither revoked nor expired.
    pub in_force: bool,
    /// Only those with a lower number.
    pub before: Option<i32>,
    /// The most tokens; none: all.
    pub limit: Option<i64>,
}

/// The tokens, including revoked ones unless the filter leaves them out; the newest first.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(client: &Client, filter: TokenFilter) -> Result<Vec<ListedToken>, tokio_postgres::Error> {
    let sql = "SELECT id, name, role, created_at, created_by, expires_at, revoked_at, stated_costs FROM public.tallyd_tokens \
        WHERE ($1::int4 IS NULL OR id < $1) \
          AND (NOT $2::bool OR revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())) \
        ORDER BY id DESC LIMIT $3";
    let values: [super::Parameter<'_>; 3] =
        [(&filter.before, Type::INT4), (&filter.in_force, Type::BOOL), (&filter.limit, Type::INT8)];
    let rows = client.query_typed(sql, &values).await?;
    let read = |row: &tokio_postgres::Row| ListedToken {
        id: row.get(0),
        name: row.get(1),
        role: row.get(2),
        created_at: row.get(3),
        created_by: row.get(4),
        expires_at: row.get(5),
        revoked_at: row.get(6),
        stated_costs: row.get(7),
    };
    Ok(rows.iter().map(read).collect())
}

/// Creates a token with an audit entry: draws its number, calls `compose` for the digest of the text with that number,
/// and stores it.
///
/// # Errors
/// [`TokenError`]; nothing was created then.
pub async fn create(
    transaction: &Transaction<'_>,
    token: &NewToken,
    by: &Actor<'_>,
    digest_of: impl FnOnce(i32) -> [u8; 32],
) -> Result<i32, TokenError> {
    let name = &token.name;
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(TokenError::Name);
    }
    if token.stated_costs.is_some() && token.role != Role::Ingest {
        return Err(TokenError::StatedCosts);
    }
    let sql = "SELECT nextval(pg_get_serial_sequence('public.tallyd_tokens', 'id'))::int4";
    let id: i32 = transaction.query_typed(sql, &[]).await?[0].try_get(0)?;
    let digest = digest_of(id);
    let (digest, role) = (digest.as_slice(), token.role.name());
    let sql = "INSERT INTO public.tallyd_tokens (id, name, role, sha256, created_by, expires_at, stated_costs) \
        OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let stated_costs = token.stated_costs.map(StatedCosts::name);
    let values: [super::Parameter<'_>; 7] = [
        (&id, Type::INT4),
        (&token.name, Type::TEXT),
        (&role, Type::TEXT),
        (&digest, Type::BYTEA),
        (&by.name, Type::TEXT),
        (&token.expires_at, Type::TIMESTAMPTZ),
        (&stated_costs, Type::TEXT),
    ];
    transaction.query_typed(sql, &values).await?;
    let mut new = json!({ "name": token.name, "role": role, "expires_at": token.expires_at });
    if let Some(costs) = stated_costs {
        new["stated_costs"] = costs.into();
    }
    let object = format!("token {id}");
    let change = Change { new: Some(new), ..by.change("token.create", &object) };
    audit::write(transaction.client(), &change).await?;
    Ok(id)
}

/// Revokes a token with an audit entry. Returns false if no valid token has that number, or another author than
/// `created_by` made it.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn revoke(
    transaction: &Transaction<'_>,
    id: i32,
    created_by: Option<&str>,
    by: &Actor<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let sql = "UPDATE public.tallyd_tokens SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL \
        AND created_by = coalesce($2, created_by) RETURNING name, role";
    let rows = transaction.query_typed(sql, &[(&id, Type::INT4), (&created_by, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let old = json!({ "name": row.get::<_, String>(0), "role": row.get::<_, String>(1) });
    let object = format!("token {id}");
    let change = Change { old: Some(old), ..by.change("token.revoke", &object) };
    audit::write(transaction.client(), &change).await?;
    Ok(true)
}
