//! `tallyd_audit_log`: changes and their authors.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Parameter, QueryError, Reading};
use tallyd_model::json::Text;
use tallyd_model::pricing::Usd;

/// Credits of one request that an entry lists.
const CREDITS_NAMED: usize = 100;

/// The author of a change. Every operation that changes something takes one, and writes the audit entry itself.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// `user:<sub>`, `token:<id> <name>` or `<user> (command line)`.
    pub name: &'a str,
    /// The author's network address; empty on the command line.
    pub address: &'a str,
}

impl<'a> Actor<'a> {
    /// The user who has given a command.
    #[must_use]
    pub const fn at_the_command_line(name: &'a str) -> Self {
        Self { name, address: "" }
    }

    /// A change by this author, without the values before and after.
    #[must_use]
    pub const fn change(&self, action: &'a str, object: &'a str) -> Change<'a> {
        Change { actor: self.name, address: self.address, action, object, old: None, new: None }
    }
}

/// A change for the audit log, written in the transaction that makes it.
#[derive(Debug)]
pub struct Change<'a> {
    /// The author.
    pub actor: &'a str,
    /// The author's network address.
    pub address: &'a str,
    /// The action.
    pub action: &'a str,
    /// The changed object.
    pub object: &'a str,
    /// The value before.
    pub old: Option<Value>,
    /// The value after.
    pub new: Option<Value>,
}

/// A change that was noted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Its number, rising.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The actor: `user:<sub>`, `token:<id> <name>` or `<user> (command line)`.
    pub actor: String,
    /// The address that the request came from; empty on the command line.
    pub address: String,
    /// The action.
    pub action: String,
    /// To what.
    pub object: String,
    /// Before.
    #[schema(value_type = Option<Object>)]
    pub old_value: Option<Text>,
    /// After.
    #[schema(value_type = Option<Object>)]
    pub new_value: Option<Text>,
}

/// Writes an entry.
///
/// # Errors
/// PostgreSQL's.
pub async fn write(transaction: &Client, change: &Change<'_>) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO public.tallyd_audit_log (actor, address, action, object, old_value, new_value) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    let values: [Parameter<'_>; 6] = [
        (&change.actor, Type::TEXT),
        (&change.address, Type::TEXT),
        (&change.action, Type::TEXT),
        (&change.object, Type::TEXT),
        (&change.old, Type::JSONB),
        (&change.new, Type::JSONB),
    ];
    transaction.query_typed(sql, &values).await.map(drop)
}

/// Writes an entry for credits (records with a negative cost). It lists at most 100 of them; beyond, it has their
/// number and sum.
///
/// # Errors
/// PostgreSQL's.
pub async fn note_credits(
    client: &Client,
    credits: &[(Uuid, Usd)],
    by: &Actor<'_>,
) -> Result<(), tokio_postgres::Error> {
    let object = match credits {
        [(id, _)] => id.to_string(),
        credits => format!("{} records", credits.len()),
    };
    let sum = credits.iter().try_fold(Usd::ZERO, |sum, (_, usd)| sum.checked_add(*usd));
    let ids: Vec<Uuid> = credits.iter().take(CREDITS_NAMED).map(|(id, _)| *id).collect();
    let new = Some(json!({ "cost_usd": sum, "ids": ids }));
    write(client, &Change { new, ..by.change("credit.record", &object) }).await
}

/// The entries before `before` (or the newest ones), newest first.
///
/// # Errors
/// [`QueryError`].
pub async fn page(reading: &Reading, before: Option<i64>, limit: i64) -> Result<Vec<AuditEntry>, QueryError> {
    let sql = "SELECT id, at, actor, address, action, object, old_value, new_value FROM public.tallyd_audit_log \
        WHERE id < coalesce($1, 9223372036854775807) ORDER BY id DESC LIMIT $2";
    let rows = reading.query_typed(sql, &[(&before, Type::INT8), (&limit, Type::INT8)]).await?;
    let read = |row: &tokio_postgres::Row| AuditEntry {
        id: row.get(0),
        at: row.get(1),
        actor: row.get(2),
        address: row.get(3),
        action: row.get(4),
        object: row.get(5),
        old_value: row.get(6),
        new_value: row.get(7),
    };
    Ok(rows.iter().map(read).collect())
}
