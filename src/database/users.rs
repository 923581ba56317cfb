//! Users with what their calls cost: the application's own table of users joined with the lifetime totals.
//!
//! Which table that is, and which of its columns are shown, is configured (`[users]`; Supabase's `auth.users` by default).
//! It is read with the session's own rights. Where it is not there or may not be read, users are those that the totals
//! name, and [`UserPage::source`] says so. Users whom only one side knows are in the list, too: nobody's costs disappear.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_postgres::GenericClient;
use tokio_postgres::types::{ToSql, Type};

use crate::config;

/// Which users, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserQuery {
    /// Text that the id or a shown column must contain, whatever the case; empty for all.
    pub search: String,
    /// What to sort by; the id decides among equals.
    pub sort: UserSort,
    /// Largest first. Users without a value come last either way.
    pub descending: bool,
    /// At most so many.
    pub limit: u32,
    /// After skipping so many.
    pub offset: u32,
}

impl Default for UserQuery {
    fn default() -> Self {
        Self { search: String::new(), sort: UserSort::Cost, descending: true, limit: 100, offset: 0 }
    }
}

/// What users can be sorted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserSort {
    /// The id.
    Id,
    /// Calls of all providers.
    Calls,
    /// Calls of Claude.
    ClaudeCalls,
    /// Calls of RentCast.
    RentcastCalls,
    /// The cost.
    Cost,
    /// The time of the last call.
    LastCall,
    /// A column of the users' table, by its name. One that is not shown sorts nobody.
    Column(String),
}

/// A page of users.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UserPage {
    /// Where users come from.
    pub source: UserSource,
    /// How many there are on all pages.
    pub total: i64,
    /// This page.
    pub users: Vec<User>,
}

/// Where users come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum UserSource {
    /// The configured table and the totals.
    Table {
        /// The table.
        table: String,
    },
    /// The totals alone: the configured table is not there, or may not be read.
    LogOnly {
        /// The table that was looked for.
        missing: String,
    },
}

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct User {
    /// The id, as calls name it.
    pub id: String,
    /// The shown columns; none if the table does not know the user.
    pub profile: Option<Map<String, Value>>,
    /// Lifetime calls of Claude.
    pub total_claude_calls: i64,
    /// Lifetime calls of RentCast.
    pub total_rentcast_calls: i64,
    /// Lifetime calls of all providers.
    pub total_calls: i64,
    /// What they cost in USD, as exact decimal text; without the unpriced ones.
    pub total_cost_usd: String,
    /// Calls without a known price.
    pub unpriced_calls: i64,
    /// The first call.
    pub first_call_at: Option<DateTime<Utc>>,
    /// The last call.
    pub last_call_at: Option<DateTime<Utc>>,
}

/// A page of users, with their lifetime totals.
///
/// # Errors
/// PostgreSQL's.
pub async fn users(
    client: &impl GenericClient,
    config: &config::Users,
    query: &UserQuery,
) -> Result<UserPage, tokio_postgres::Error> {
    let (people, source) = match people(client, config).await? {
        Some(people) => (people, UserSource::Table { table: config.table.clone() }),
        None => (
            "SELECT NULL::text AS id, NULL::jsonb AS profile WHERE false".to_owned(),
            UserSource::LogOnly { missing: config.table.clone() },
        ),
    };
    let column = match &query.sort {
        UserSort::Column(name) => name.as_str(),
        _ => "",
    };
    let (limit, offset) = (i64::from(query.limit), i64::from(query.offset));
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&query.search, Type::TEXT), (&column, Type::TEXT), (&limit, Type::INT8), (&offset, Type::INT8)];
    let rows = client.query_typed(&page(&people, query), &parameters).await?;
    let total = rows.first().map_or(0, |row| row.get(0));
    let users = rows.iter().filter(|row| row.get::<_, Option<String>>(1).is_some()).map(|row| User {
        id: row.get(1),
        profile: match row.get(2) {
            Some(Value::Object(profile)) => Some(profile),
            _ => None,
        },
        total_calls: row.get(3),
        total_claude_calls: row.get(4),
        total_rentcast_calls: row.get(5),
        total_cost_usd: row.get(6),
        unpriced_calls: row.get(7),
        first_call_at: row.get(8),
        last_call_at: row.get(9),
    });
    Ok(UserPage { source, total, users: users.collect() })
}

/// The query of the users' table with the columns that it has; none if it cannot be read.
async fn people(client: &impl GenericClient, config: &config::Users) -> Result<Option<String>, tokio_postgres::Error> {
    let (schema, table) = config.table.split_once('.').unwrap_or(("public", &config.table));
    let sql = "SELECT a.attname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
        AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')";
    let rows = client.query_typed(sql, &[(&schema, Type::TEXT), (&table, Type::TEXT)]).await?;
    let readable: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if !readable.contains(&config.id_column) {
        return Ok(None);
    }
    let shown = config.columns.iter().filter(|column| readable.contains(column));
    let pairs: Vec<String> = shown.map(|column| format!("{}, p.{}", literal(column), identifier(column))).collect();
    Ok(Some(format!(
        "SELECT p.{}::text AS id, jsonb_build_object({}) AS profile FROM {}.{} AS p",
        identifier(&config.id_column),
        pairs.join(", "),
        identifier(schema),
        identifier(table)
    )))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    // Backslashes mean nothing special in it: standard_conforming_strings has been on since PostgreSQL 9.1.
    format!("'{}'", text.replace('\'', "''"))
}

/// `$1` is searched, `$2` the column to sort by, `$3` the limit, `$4` the offset. The first column is the total, which comes
/// also where a page is empty.
fn page(people: &str, query: &UserQuery) -> String {
    let sort = match query.sort {
        UserSort::Id => "id",
        UserSort::Calls => "calls",
        UserSort::ClaudeCalls => "claude",
        UserSort::RentcastCalls => "rentcast",
        UserSort::Cost => "cost",
        UserSort::LastCall => "last_at",
        UserSort::Column(_) => "profile ->> $2",
    };
    let direction = if query.descending { "DESC" } else { "ASC" };
    // A statement names each parameter, or its type would have nothing to stand for.
    format!(
        "WITH people AS ({people}), totals AS ( \
            SELECT user_id, sum(calls)::int8 AS calls, \
                coalesce(sum(calls) FILTER (WHERE provider = 'claude'), 0)::int8 AS claude, \
                coalesce(sum(calls) FILTER (WHERE provider = 'rentcast'), 0)::int8 AS rentcast, \
                sum(cost_usd) AS cost, sum(unpriced_calls)::int8 AS unpriced, \
                min(first_call_at) AS first_at, max(last_call_at) AS last_at \
            FROM public.user_api_totals WHERE user_id <> '' GROUP BY user_id), \
        everybody AS ( \
            SELECT coalesce(p.id, t.user_id) AS id, p.profile, coalesce(t.calls, 0) AS calls, \
                coalesce(t.claude, 0) AS claude, coalesce(t.rentcast, 0) AS rentcast, coalesce(t.cost, 0) AS cost, \
                coalesce(t.unpriced, 0) AS unpriced, t.first_at, t.last_at \
            FROM people AS p FULL JOIN totals AS t ON t.user_id = p.id), \
        found AS ( \
            SELECT * FROM everybody WHERE $1 = '' OR strpos(lower(id), lower($1)) > 0 OR EXISTS ( \
                SELECT FROM jsonb_each_text(profile) AS v WHERE strpos(lower(v.value), lower($1)) > 0)) \
        SELECT c.total, f.id, f.profile, f.calls, f.claude, f.rentcast, f.cost::text, f.unpriced, f.first_at, f.last_at \
        FROM (SELECT count(*) AS total FROM found WHERE $2 IS NOT NULL) AS c LEFT JOIN LATERAL ( \
            SELECT *, row_number() OVER (ORDER BY {sort} {direction} NULLS LAST, id) AS place FROM found \
            ORDER BY place LIMIT $3 OFFSET $4) AS f ON true ORDER BY f.place"
    )
}
