//! `tallyd_deploys`: deploys of applications, as CI jobs tell them. Charts of costs mark them.
//!
//! A deploy is the same if application, version and time are: telling it again changes nothing. The last [`KEPT`] of each sender
//! are kept, so that a token of the role `ingest` can neither fill the table nor push out another's deploys. `actor` has the sender;
//! only a removal leaves an audit entry, because it destroys something.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

use crate::queries::Parameter;
use crate::queries::audit::{self, Actor, Change};

/// Deploys of a sender that are kept.
const KEPT: i64 = 1_000;
/// Bytes of an application's name, as in a record.
const APP_BYTES_MAX: usize = 512;
/// Bytes of a version, and of an author's name.
const TEXT_BYTES_MAX: usize = 200;

/// A deploy to note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeploy {
    /// The application, as its records name it.
    pub app: String,
    /// The version.
    pub version: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The author; may be empty.
    pub by: String,
}

/// A deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Deploy {
    /// Its number.
    pub id: i64,
    /// The application.
    pub app: String,
    /// The version.
    pub version: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The author; empty if nothing was said.
    pub by: String,
    /// The sender, as the audit log names it.
    pub actor: String,
}

/// Why a deploy was not noted. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A text is missing, too long or not printable.
    #[error("{0}")]
    Invalid(String),
}

impl NewDeploy {
    fn check(&self) -> Result<(), DeployError> {
        for (name, text, least, most) in [
            ("app", &self.app, 1, APP_BYTES_MAX),
            ("version", &self.version, 1, TEXT_BYTES_MAX),
            ("by", &self.by, 0, TEXT_BYTES_MAX),
        ] {
            if text.len() < least || text.len() > most || text.chars().any(char::is_control) {
                return Err(DeployError::Invalid(format!(
                    "{name}: {least} to {most} bytes without control characters"
                )));
            }
        }
        Ok(())
    }
}

const COLUMNS: &str = "id, app, version, at, deployed_by, actor";

fn read(row: &Row) -> Deploy {
    Deploy { id: row.get(0), app: row.get(1), version: row.get(2), at: row.get(3), by: row.get(4), actor: row.get(5) }
}

/// Notes a deploy, or finds it if it was told before, and deletes the sender's beyond [`KEPT`].
///
/// # Errors
/// [`DeployError`].
pub async fn add(client: &mut Client, new: &NewDeploy, who: &Actor<'_>) -> Result<Deploy, DeployError> {
    new.check()?;
    let transaction = client.transaction().await?;
    let insert = format!(
        "INSERT INTO public.tallyd_deploys (app, version, at, deployed_by, actor) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (app, version, at) DO UPDATE SET app = excluded.app RETURNING {COLUMNS}"
    );
    let values: [Parameter<'_>; 5] = [
        (&new.app, Type::TEXT),
        (&new.version, Type::TEXT),
        (&new.at, Type::TIMESTAMPTZ),
        (&new.by, Type::TEXT),
        (&who.name, Type::TEXT),
    ];
    let rows = transaction.query_typed(&insert, &values).await?;
    // An upsert with RETURNING returns its row.
    let deploy = read(rows.first().expect("an upsert returns its row"));
    let expire = "DELETE FROM public.tallyd_deploys WHERE actor = $2 \
        AND id <= (SELECT id FROM public.tallyd_deploys WHERE actor = $2 ORDER BY id DESC OFFSET $1 LIMIT 1)";
    transaction.query_typed(expire, &[(&KEPT, Type::INT8), (&who.name, Type::TEXT)]).await?;
    transaction.commit().await?;
    Ok(deploy)
}

/// The deploys of days in a time zone, both included; the newest first.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(
    client: &Client,
    (from, to): (NaiveDate, NaiveDate),
    zone: tallyd_model::zone::Tz,
    app: Option<&str>,
    limit: i64,
) -> Result<Vec<Deploy>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM public.tallyd_deploys WHERE at >= $1::timestamp AT TIME ZONE $3 \
         AND at < ($2 + 1)::timestamp AT TIME ZONE $3 AND ($4::text IS NULL OR app = $4) ORDER BY at DESC, id DESC LIMIT $5"
    );
    let zone = zone.name();
    let values: [Parameter<'_>; 5] =
        [(&from, Type::DATE), (&to, Type::DATE), (&zone, Type::TEXT), (&app, Type::TEXT), (&limit, Type::INT8)];
    Ok(client.query_typed(&sql, &values).await?.iter().map(read).collect())
}

/// Removes a deploy, with an audit entry. Returns false if there is none of this number.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn remove(client: &mut Client, id: i64, who: &Actor<'_>) -> Result<bool, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let sql = format!("DELETE FROM public.tallyd_deploys WHERE id = $1 RETURNING {COLUMNS}");
    let rows = transaction.query_typed(&sql, &[(&id, Type::INT8)]).await?;
    let Some(Deploy { app, version, at, .. }) = rows.first().map(read) else { return Ok(false) };
    let object = format!("deploy {id}");
    let old = json!({ "app": app, "version": version, "at": at });
    let change = Change { old: Some(old), ..who.change("deploy.remove", &object) };
    audit::write(transaction.client(), &change).await?;
    transaction.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_printable() {
        let deploy = |app: &str, version: &str, by: &str| NewDeploy {
            app: app.into(),
            version: version.into(),
            at: DateTime::UNIX_EPOCH,
            by: by.into(),
        };
        assert!(deploy("web", "1.4.2", "").check().is_ok());
        assert!(deploy(&"a".repeat(512), &"é".repeat(100), &"b".repeat(200)).check().is_ok());
        for (app, version, by) in [
            ("", "1", ""),
            ("web", "", ""),
            ("we\nb", "1", ""),
            ("web", "1\0", ""),
            ("web", "1", "\u{7}"),
            ("web", &"é".repeat(101), ""),
        ] {
            assert!(
                matches!(deploy(app, version, by).check(), Err(DeployError::Invalid(_))),
                "{app:?} {version:?} {by:?}"
            );
        }
    }
}
