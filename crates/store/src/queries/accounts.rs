//! The application's own table of users, as `[users]` names it: its columns, and the query that reads them.
//!
//! The default is Supabase's `auth.users`; any table or view may be named. It is read with the session's own rights. If
//! the table is missing or may not be read, only the users in calls are known.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::QueryError;

/// The query of the table, and the shape of a user without a row in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// `SELECT` of `id` (text), `profile` (JSON object of the shown columns) and `shown` (the first one's text).
    pub select: String,
    /// SQL of the profile of a user who is not in the table: the placeholder of each column.
    pub unknown: String,
}

impl Accounts {
    /// The query without a table: it returns no users.
    #[must_use]
    pub fn none() -> Self {
        Self {
            select: "SELECT NULL::text AS id, NULL::jsonb AS profile, NULL::text AS shown WHERE false".into(),
            unknown: "jsonb_build_object()".into(),
        }
    }

    /// Looks for the table and its columns. None if it cannot be read.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn find(client: &Client, users: &tallyd_config::Users) -> Result<Option<Self>, QueryError> {
        let readable = readable(client, &users.table).await?;
        let kind = |column: &String| readable.iter().find(|(name, _)| name == column).map(|(_, kind)| kind.as_str());
        if kind(&users.id_column).is_none() {
            return Ok(None);
        }
        let shown: Vec<(&String, &str)> =
            users.columns.iter().filter_map(|column| Some((column, kind(column)?))).collect();
        let object = |value: &dyn Fn(&str, &str) -> String| {
            let pairs = shown.iter().map(|(column, kind)| {
                format!("{}, {}", literal(column), value(&format!("to_jsonb(p.{})", identifier(column)), missing(kind)))
            });
            format!("jsonb_build_object({})", pairs.collect::<Vec<_>>().join(", "))
        };
        let first = shown.first().map_or("NULL".to_owned(), |(column, _)| format!("p.{}::text", identifier(column)));
        // Supabase keeps the rows of deleted accounts.
        let there = if kind(&"deleted_at".to_owned()).is_some() { " WHERE p.deleted_at IS NULL" } else { "" };
        let select = format!(
            "SELECT p.{}::text AS id, {} AS profile, {first} AS shown FROM {} AS p{there}",
            identifier(&users.id_column),
            object(&|column, missing| format!("coalesce({column}, {missing}::jsonb)")),
            qualified(&users.table),
        );
        Ok(Some(Self { select, unknown: object(&|_, missing| format!("{missing}::jsonb")) }))
    }
}

/// The JSON of a missing value in a column of a category of types, as an SQL literal. Numbers and texts are never null,
/// because a page written for the table alone calls their methods. A missing time stays null, because no instant can
/// stand for it.
fn missing(category: &str) -> &'static str {
    match category {
        "N" => "'0'",
        "B" => "'false'",
        "S" | "E" => "'\"\"'",
        _ => "'null'",
    }
}

/// The columns of a table or view that this session may read, each with its type's category (`pg_type.typcategory`).
///
/// # Errors
/// PostgreSQL's.
pub async fn readable(client: &Client, table: &str) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    let (schema, table) = split(table);
    let sql = "SELECT a.attname::text, t.typcategory::text FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
        AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')";
    let rows = client.query_typed(sql, &[(&schema, Type::TEXT), (&table, Type::TEXT)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A table's name, quoted for SQL.
#[must_use]
pub fn qualified(table: &str) -> String {
    let (schema, table) = split(table);
    format!("{}.{}", identifier(schema), identifier(table))
}

/// A name, quoted.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn split(table: &str) -> (&str, &str) {
    table.split_once('.').unwrap_or(("public", table))
}

fn literal(text: &str) -> String {
    // Backslashes are plain characters: standard_conforming_strings has been on since PostgreSQL 9.1.
    format!("'{}'", text.replace('\'', "''"))
}
