//! The application's own table of users, as `[users]` names it: its columns, and the queries that read them.
//!
//! The default is Supabase's `auth.users`; any table or view may be named. It is read with the session's own rights. If
//! the table is missing or may not be read, only the users in calls are known.
//!
//! Ids are compared in the column's own type, so that the table's index finds them. An id of a call that is not a value of
//! that type is in no row of the table.

use std::collections::HashMap;

use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::users::Profile;
use super::{Parameter, QueryError};

/// A user's row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The shown columns.
    pub profile: Profile,
    /// The first one's text.
    pub shown: Option<String>,
}

/// The table of users, where it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// The table, as SQL.
    table: String,
    /// The column of ids, as SQL.
    id: String,
    key: Key,
    /// The profile of a row, as SQL.
    profile: String,
    /// The first shown column's text, as SQL.
    shown: String,
    /// The texts of the shown columns, as SQL.
    texts: Vec<String>,
    /// The condition that leaves out rows without an id, and accounts that were deleted.
    there: String,
    /// SQL of the profile of a user whom the table does not know: the placeholder of each column.
    unknown: String,
}

/// How ids are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Text,
    Uuid,
    Integer,
    /// By their text, without an index.
    Other,
}

impl Key {
    fn of(type_name: &str) -> Self {
        match type_name {
            "text" | "varchar" => Self::Text,
            "uuid" => Self::Uuid,
            "int2" | "int4" | "int8" => Self::Integer,
            _ => Self::Other,
        }
    }

    /// Whether the text is how PostgreSQL writes a value of the type.
    fn has(self, id: &str) -> bool {
        match self {
            Self::Text | Self::Other => true,
            Self::Uuid => Uuid::parse_str(id).is_ok_and(|uuid| uuid.hyphenated().to_string() == id),
            Self::Integer => id.parse::<i64>().is_ok_and(|number| number.to_string() == id),
        }
    }

    const fn type_name(self) -> &'static str {
        match self {
            Self::Text | Self::Other => "text",
            Self::Uuid => "uuid",
            Self::Integer => "int8",
        }
    }
}

/// A search: the beginning of an id, or a part of a shown column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    /// For LIKE.
    pub(super) beginning: String,
    /// For ILIKE.
    pub(super) part: String,
    /// The ids of some rows of the table that have the part.
    pub(super) ids: Vec<String>,
}

impl Accounts {
    /// Looks for the table and its columns. None if it cannot be read.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn find(client: &Client, users: &tallyd_config::Users) -> Result<Option<Self>, QueryError> {
        let readable = readable(client, &users.table).await?;
        let column = |name: &str| readable.iter().find(|column| column.name == name);
        let Some(id) = column(&users.id_column) else { return Ok(None) };
        let shown: Vec<&Readable> = users.columns.iter().filter_map(|name| column(name)).collect();
        let object = |value: &dyn Fn(&str, &str) -> String| {
            let pairs = shown.iter().map(|of| {
                let json = format!("to_jsonb(p.{})", identifier(&of.name));
                format!("{}, {}", literal(&of.name), value(&json, missing(&of.category)))
            });
            format!("jsonb_build_object({})", pairs.collect::<Vec<_>>().join(", "))
        };
        let texts: Vec<String> = shown.iter().map(|of| format!("p.{}::text", identifier(&of.name))).collect();
        let key = Key::of(&id.type_name);
        let name = identifier(&users.id_column);
        Ok(Some(Self {
            table: qualified(&users.table),
            id: if key == Key::Other { format!("(p.{name}::text)") } else { format!("p.{name}") },
            key,
            profile: object(&|column, missing| format!("coalesce({column}, {missing}::jsonb)")),
            shown: texts.first().cloned().unwrap_or_else(|| "NULL".into()),
            texts,
            // Supabase keeps the rows of accounts that were deleted.
            there: format!(
                "p.{name}::text <> ''{}",
                if column("deleted_at").is_some() { " AND p.deleted_at IS NULL" } else { "" }
            ),
            unknown: object(&|_, missing| format!("{missing}::jsonb")),
        }))
    }

    /// The rows of these users. Users without a row are left out.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(super) async fn of(&self, client: &Client, ids: &[&str]) -> Result<HashMap<String, Account>, QueryError> {
        let ids: Vec<&str> = ids.iter().copied().filter(|id| self.key.has(id)).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT {id}::text, ({profile})::text, {shown} FROM {table} AS p WHERE {there} AND {id} = ANY ($1::text[]::{kind}[])",
            id = self.id,
            profile = self.profile,
            shown = self.shown,
            table = self.table,
            there = self.there,
            kind = self.key.type_name(),
        );
        let rows = client.query_typed(&sql, &[(&ids, Type::TEXT_ARRAY)]).await?;
        let account = |row: &tokio_postgres::Row| Account { profile: Profile(row.get(1)), shown: row.get(2) };
        Ok(rows.iter().map(|row| (row.get(0), account(row))).collect())
    }

    /// The profile of a user whom the table does not know.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(super) async fn unknown(&self, client: &Client) -> Result<Profile, QueryError> {
        let rows = client.query_typed(&format!("SELECT ({})::text", self.unknown), &[]).await?;
        Ok(rows.first().map_or_else(Profile::empty, |row| Profile(row.get(0))))
    }

    /// The ids of some rows that have the part in a shown column. Reading ends when `most` are found; no index of the table helps.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(super) async fn with_part(&self, client: &Client, part: &str, most: i64) -> Result<Vec<String>, QueryError> {
        let sql = format!(
            "SELECT {id}::text FROM {table} AS p WHERE {there} AND {part} LIMIT {most}",
            id = self.id,
            table = self.table,
            there = self.there,
            part = self.has_part("$1")
        );
        let rows = client.query_typed(&sql, &[(&part, Type::TEXT)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The condition of a search, whose beginning is `$1` and whose part is `$2`.
    fn found(&self, search: Option<&Search>) -> String {
        match search {
            Some(_) => format!("({}::text LIKE $1 OR {})", self.id, self.has_part("$2")),
            None => "true".into(),
        }
    }

    fn has_part(&self, parameter: &str) -> String {
        let any: Vec<String> = self.texts.iter().map(|text| format!("{text} ILIKE {parameter}")).collect();
        if any.is_empty() { "false".into() } else { format!("({})", any.join(" OR ")) }
    }

    /// Ids of the table, those of a search if there is one, after an id, in the order of ids: at most `most`.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(super) async fn ids(
        &self,
        client: &Client,
        search: Option<&Search>,
        (after, descending): (Option<&str>, bool),
        most: usize,
    ) -> Result<Vec<String>, QueryError> {
        let (beginning, part) = (search.map(|search| &search.beginning), search.map(|search| &search.part));
        let after = after.filter(|id| self.key.has(id));
        let (comparison, direction) = if descending { ("<", "DESC") } else { (">", "ASC") };
        let sql = format!(
            "SELECT {id}::text FROM {table} AS p WHERE {there} AND {found} AND ($3::text IS NULL OR {id} {comparison} $3::text::{kind}) \
             ORDER BY {id} {direction} LIMIT {most}",
            id = self.id,
            table = self.table,
            there = self.there,
            found = self.found(search),
            kind = self.key.type_name(),
        );
        let values: [Parameter<'_>; 3] = [(&beginning, Type::TEXT), (&part, Type::TEXT), (&after, Type::TEXT)];
        let rows = client.query_typed(&sql, &values).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// How many rows the table has by PostgreSQL's estimate. 0 without an estimate.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(super) async fn estimate(&self, client: &Client) -> Result<i64, QueryError> {
        let sql = "SELECT greatest(c.reltuples, 0)::int8 FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass($1)";
        let rows = client.query_typed(sql, &[(&self.table, Type::TEXT)]).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
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

/// A column of a table that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// Its name.
    pub name: String,
    /// Its type's category, as `pg_type.typcategory` has it.
    pub category: String,
    /// Its type.
    pub type_name: String,
}

/// The columns of a table or view that this session may read.
///
/// # Errors
/// PostgreSQL's.
pub async fn readable(client: &Client, table: &str) -> Result<Vec<Readable>, tokio_postgres::Error> {
    let (schema, table) = split(table);
    let sql = "SELECT a.attname::text, t.typcategory::text, t.typname::text FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
        AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')";
    let rows = client.query_typed(sql, &[(&schema, Type::TEXT), (&table, Type::TEXT)]).await?;
    let column = |row: &tokio_postgres::Row| Readable { name: row.get(0), category: row.get(1), type_name: row.get(2) };
    Ok(rows.iter().map(column).collect())
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
