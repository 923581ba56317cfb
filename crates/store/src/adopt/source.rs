//! Finds the old tables, and their columns for each field.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{AdoptError, AdoptOptions, identifier};

/// Fields of a call, and usual names of their columns, the likeliest first.
const LOG_FIELDS: [(&str, &[&str]); 14] = [
    ("id", &["id"]),
    ("occurred_at", &["timestamp", "occurred_at", "created_at", "called_at", "time", "ts"]),
    ("date", &["date", "day"]),
    ("provider", &["api_type", "provider", "api", "service"]),
    ("model", &["model", "model_name"]),
    ("endpoint", &["endpoint", "path", "url"]),
    ("user_id", &["user_id", "userid"]),
    ("input_tokens", &["input_tokens", "prompt_tokens", "tokens_in"]),
    ("output_tokens", &["output_tokens", "completion_tokens", "tokens_out"]),
    ("cache_read_tokens", &["cache_read_tokens", "cache_read_input_tokens"]),
    ("cache_write_5m_tokens", &["cache_write_tokens", "cache_creation_input_tokens"]),
    ("status", &["status", "status_code"]),
    ("latency_ms", &["latency_ms", "duration_ms", "response_time_ms"]),
    ("cost_usd", &["cost_usd", "cost", "total_cost", "total_cost_usd"]),
];

/// The same for daily sums.
const DAILY_FIELDS: [(&str, &[&str]); 9] = [
    ("date", &["date", "day"]),
    ("provider", &["api_type", "provider", "api", "service"]),
    ("model", &["model", "model_name"]),
    (
        "calls",
        &["calls", "call_count", "total_calls", "api_calls", "request_count", "total_requests", "requests", "count"],
    ),
    ("input_tokens", &["input_tokens", "total_input_tokens"]),
    ("output_tokens", &["output_tokens", "total_output_tokens"]),
    ("cost_usd", &["cost_usd", "total_cost", "total_cost_usd", "cost"]),
    ("by_model", &["by_model"]),
    ("by_rentcast_endpoint", &["by_rentcast_endpoint", "by_rent_cast_endpoint"]),
];

/// A column of an old table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OldColumn {
    pub(super) name: String,
    /// PostgreSQL's internal name: `int4`, `timestamptz`.
    pub(super) type_name: String,
}

impl OldColumn {
    /// The column in SQL, of the table `s`.
    pub(super) fn sql(&self) -> String {
        format!("s.{}", identifier(&self.name))
    }
}

/// An old table.
#[derive(Debug, Clone)]
pub(super) struct OldTable {
    /// `schema.table`, quoted for SQL.
    pub(super) name: String,
    pub(super) oid: u32,
    /// Its columns by field.
    pub(super) fields: BTreeMap<&'static str, OldColumn>,
    /// For sums: columns of a single provider (`claude_calls`, `claude_cost`).
    pub(super) wide: Vec<Wide>,
    /// Columns that are not read.
    pub(super) unread: Vec<String>,
}

/// The columns of one provider, if a row of sums has several providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wide {
    pub(super) provider: String,
    pub(super) calls: OldColumn,
    pub(super) cost: OldColumn,
}

/// The old tables.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The old log.
    pub(super) log: Option<OldTable>,
    /// The old daily sums.
    pub(super) daily: Option<OldTable>,
}

impl Sources {
    /// Finds the named tables, or those with the usual names that are not tallyd's.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub async fn find(client: &Client, options: &AdoptOptions) -> Result<Self, AdoptError> {
        let is_named = options.log.is_some() || options.daily.is_some();
        let log = find(client, options.log.as_deref(), is_named, "api_usage_log", "rollup_other").await?;
        let daily = find(client, options.daily.as_deref(), is_named, "daily_api_costs", "unpriced_calls").await?;
        for field in options.columns.keys() {
            if !LOG_FIELDS.iter().chain(&DAILY_FIELDS).any(|(known, _)| known == field) {
                let known: Vec<_> = LOG_FIELDS.iter().map(|(name, _)| *name).collect();
                let reason = format!("fields are {}, and calls of the daily sums", known.join(", "));
                return Err(AdoptError::Map { field: field.clone(), column: options.columns[field].clone(), reason });
            }
        }
        let log = log.map(|found| found.into_table(&LOG_FIELDS, options)).transpose()?;
        let daily = daily.map(|found| found.into_table(&DAILY_FIELDS, options)).transpose()?.map(OldTable::with_wide);
        if log.is_none() && daily.is_none() {
            return Err(AdoptError::NothingFound);
        }
        if let Some(table) = &log {
            table.check(&["id", "occurred_at", "provider"])?;
        }
        if let Some(table) = &daily {
            table.check(if table.wide.is_empty() { &["date", "provider", "calls", "cost_usd"] } else { &["date"] })?;
        }
        Ok(Self { log, daily })
    }
}

impl OldTable {
    /// True if a column has the field.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    fn with_wide(mut self) -> Self {
        if self.has("provider") {
            return self;
        }
        let column = |name: String| self.unread.contains(&name).then_some(name);
        let mut wide = Vec::new();
        for name in &self.unread {
            let Some(provider) = name.strip_suffix("_calls").filter(|provider| *provider != "total") else { continue };
            let cost = ["cost_usd", "cost", "costs"].map(|suffix| column(format!("{provider}_{suffix}")));
            if let Some(cost) = cost.into_iter().flatten().next() {
                let numeric = |name: String| OldColumn { name, type_name: "numeric".into() };
                wide.push(Wide { provider: provider.into(), calls: numeric(name.clone()), cost: numeric(cost) });
            }
        }
        self.unread.retain(|name| !wide.iter().any(|w: &Wide| w.calls.name == *name || w.cost.name == *name));
        self.wide = wide;
        self
    }

    /// Checks that the required fields have columns, and that every column's type fits its field.
    fn check(&self, needed: &[&'static str]) -> Result<(), AdoptError> {
        for field in needed {
            if !self.has(field) {
                let known: Vec<_> = self.fields.values().map(|column| &*column.name).collect();
                let unread = self.unread.iter().map(String::as_str);
                let known = known.into_iter().chain(unread).collect::<Vec<_>>().join(", ");
                return Err(AdoptError::NoColumn { table: self.name.clone(), field, known });
            }
        }
        for (field, column) in &self.fields {
            let (types, wanted): (&[&str], _) = match *field {
                "id" | "provider" | "model" | "endpoint" | "user_id" => continue,
                "occurred_at" => (&["timestamptz", "timestamp"], "a timestamp, with or without time zone"),
                "date" => (&["date"], "a date"),
                "by_model" | "by_rentcast_endpoint" => (&["json", "jsonb"], "JSON of name to calls, cost and tokens"),
                "cost_usd" => (&["numeric", "float4", "float8", "int2", "int4", "int8"], "a number"),
                _ => (&["int2", "int4", "int8", "numeric"], "an integer or numeric"),
            };
            if !types.contains(&&*column.type_name) {
                let (table, column, type_name) = (self.name.clone(), column.name.clone(), column.type_name.clone());
                return Err(AdoptError::Type { table, column, field, type_name, wanted });
            }
        }
        Ok(())
    }
}

struct Found {
    name: String,
    oid: u32,
    columns: Vec<OldColumn>,
}

impl Found {
    fn into_table(self, fields: &[(&'static str, &[&str])], options: &AdoptOptions) -> Result<OldTable, AdoptError> {
        let Self { name, oid, columns } = self;
        let mut read = BTreeMap::new();
        for (field, usual) in fields {
            let by_name = |wanted: &str| columns.iter().find(|column| column.name == wanted).cloned();
            let column = match options.columns.get(*field) {
                Some(wanted) => by_name(wanted),
                None => usual.iter().find_map(|wanted| by_name(wanted)),
            };
            read.extend(column.map(|column| (*field, column)));
        }
        let unread = columns.iter().filter(|column| !read.values().any(|known| known == *column));
        let unread = unread.map(|column| column.name.clone()).collect();
        Ok(OldTable { name, oid, fields: read, wide: Vec::new(), unread })
    }
}

/// Looks a table up. Without a name: the usual one in the usual schemas, unless it is tallyd's own.
async fn find(
    client: &Client,
    named: Option<&str>,
    any_is_named: bool,
    usual: &str,
    own_column: &str,
) -> Result<Option<Found>, AdoptError> {
    if let Some(name) = named {
        let found = look(client, name).await?.ok_or_else(|| AdoptError::NoTable(name.into()))?;
        let is_own = found.columns.iter().any(|column| column.name == own_column);
        return if is_own { Err(AdoptError::Own(found.name)) } else { Ok(Some(found)) };
    }
    if any_is_named {
        return Ok(None);
    }
    for schema in ["public", "tallyd_adopted"] {
        let found = look(client, &format!("{schema}.{usual}")).await?;
        if let Some(found) = found.filter(|found| found.columns.iter().all(|column| column.name != own_column)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn look(client: &Client, name: &str) -> Result<Option<Found>, AdoptError> {
    let sql = "SELECT c.oid, format('%I.%I', n.nspname, c.relname), row_security_active(c.oid) \
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
        WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
    let rows = client.query_typed(sql, &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (oid, name): (u32, String) = (row.get(0), row.get(1));
    if row.get(2) {
        return Err(AdoptError::Hidden(name));
    }
    let sql = "SELECT a.attname::text, t.typname::text FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid \
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let rows = client.query_typed(sql, &[(&oid, Type::OID)]).await?;
    let columns = rows.iter().map(|row| OldColumn { name: row.get(0), type_name: row.get(1) }).collect();
    Ok(Some(Found { name, oid, columns }))
}
