//! Adds a batch's sums to the rollups. Those by user are appended to the deltas ([`crate::user_deltas`]); those by
//! model are upserted, with the keys as sorted arrays.
//!
//! The cost of an upsert grows with its keys, and with the arrays' elements. So a measure that is zero for every key of
//! a batch is left out of the statement, and a key column with one value is sent as a scalar.
//!
//! `updated_at` goes through `excluded`, so that the same statement runs on Citus.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::user_deltas::{self, Side};
use tallyd_model::pricing::Usd;
use tallyd_model::rollup::fold::Deltas;
use tallyd_model::rollup::measures::Measures;

type Parameter<'p> = (Box<dyn ToSql + Sync + Send + 'p>, Type);

/// One `INSERT … ON CONFLICT DO UPDATE`, column by column.
struct Upsert<'p> {
    table: &'static str,
    keys: Vec<&'static str>,
    columns: Vec<&'static str>,
    /// Each column's expression in the SELECT.
    selected: Vec<String>,
    /// The arrays, as `$n::type[]`, and the names of their elements.
    arrays: Vec<(String, String)>,
    updates: Vec<String>,
    parameters: Vec<Parameter<'p>>,
}

impl<'p> Upsert<'p> {
    fn new(table: &'static str) -> Self {
        Self {
            table,
            keys: Vec::new(),
            columns: Vec::new(),
            selected: Vec::new(),
            arrays: Vec::new(),
            updates: Vec::new(),
            parameters: Vec::new(),
        }
    }

    /// Adds a key column; call it in the keys' order.
    fn key<T>(&mut self, column: &'static str, sql_type: &str, (one, many): (Type, Type), values: Vec<T>)
    where
        T: ToSql + Sync + Send + PartialEq + Copy + 'p,
    {
        self.keys.push(column);
        match values.first() {
            Some(first) if values.iter().all(|value| value == first) => {
                self.parameters.push((Box::new(*first), one));
                self.columns.push(column);
                self.selected.push(format!("${}::{sql_type}", self.parameters.len()));
            }
            _ => self.array(column, sql_type, many, values),
        }
    }

    fn array<T: ToSql + Sync + Send + 'p>(&mut self, column: &'static str, sql_type: &str, many: Type, values: Vec<T>) {
        self.parameters.push((Box::new(values), many));
        let name = format!("c{}", self.parameters.len());
        self.columns.push(column);
        self.selected.push(name.clone());
        self.arrays.push((format!("${}::{sql_type}[]", self.parameters.len()), name));
    }

    /// Adds the measures that are not zero for every key.
    fn measures<'m>(&mut self, rows: impl Iterator<Item = &'m Measures> + Clone) {
        for (column, measure) in COUNTS {
            // Every row has calls; this keeps at least one array, without which the statement would have no rows.
            if *column == "calls" || rows.clone().any(|row| measure(row) != 0) {
                self.array(column, "int8", Type::INT8_ARRAY, rows.clone().map(measure).collect());
                self.updates.push(format!("{column} = t.{column} + excluded.{column}"));
            }
        }
        if rows.clone().any(|row| row.cost != Usd::ZERO) {
            self.array("cost_usd", "numeric", Type::NUMERIC_ARRAY, rows.map(|row| row.cost).collect());
            self.updates.push("cost_usd = t.cost_usd + excluded.cost_usd".into());
        }
    }

    fn sql(&self) -> String {
        let list = |parts: &mut dyn Iterator<Item = &str>| parts.collect::<Vec<_>>().join(", ");
        let columns = list(&mut self.columns.iter().copied());
        let selected = list(&mut self.selected.iter().map(String::as_str));
        let arrays = list(&mut self.arrays.iter().map(|(array, _)| array.as_str()));
        let names = list(&mut self.arrays.iter().map(|(_, name)| name.as_str()));
        let (table, keys) = (self.table, self.keys.join(", "));
        let mut sql = format!(
            "INSERT INTO public.{table} AS t ({columns}, updated_at) SELECT {selected}, clock_timestamp() \
             FROM unnest({arrays}) AS d ({names}) ON CONFLICT ({keys}) DO UPDATE SET "
        );
        for update in &self.updates {
            // Writing to a String does not fail.
            let _ = write!(sql, "{update}, ");
        }
        sql + "updated_at = excluded.updated_at"
    }

    /// Unnamed statements work behind a pooler in transaction mode.
    async fn run(self, client: &Client) -> Result<(), Error> {
        let sql = self.sql();
        let parameters = self.parameters.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()));
        client.query_typed(&sql, &parameters.collect::<Vec<_>>()).await.map(drop)
    }
}

pub(crate) type Count = fn(&Measures) -> i64;

/// The counted columns.
pub(crate) const COUNTS: &[(&str, Count)] = &[
    ("calls", |row| row.calls),
    ("errors", |row| row.errors),
    ("input_tokens", |row| row.units[0]),
    ("output_tokens", |row| row.units[1]),
    ("cache_read_tokens", |row| row.units[2]),
    ("cache_write_5m_tokens", |row| row.units[3]),
    ("cache_write_1h_tokens", |row| row.units[4]),
    ("requests", |row| row.units[5]),
    ("unpriced_calls", |row| row.unpriced),
];

const DATE: (Type, Type) = (Type::DATE, Type::DATE_ARRAY);
const TIME: (Type, Type) = (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY);
const TEXT: (Type, Type) = (Type::TEXT, Type::TEXT_ARRAY);

/// Adds the sums to the rollups in the order that every writer keeps: rows that all writers share come last, so that
/// others wait for them only until the COMMIT that follows. Runs in the caller's transaction, which has locked that
/// side of the deltas.
///
/// # Errors
/// PostgreSQL's.
pub async fn add(client: &Client, side: Side, deltas: &Deltas<'_>) -> Result<(), Error> {
    let Deltas { costs, dimensions, hours, users } = deltas;
    if costs.is_empty() {
        return Ok(());
    }
    user_deltas::append(client, side, users).await?;
    let mut upsert = Upsert::new("daily_dimension_costs");
    upsert.key("day", "date", DATE, dimensions.keys().map(|key| key.day).collect());
    upsert.key("dimension", "text", TEXT, dimensions.keys().map(|key| key.dimension).collect());
    upsert.key("value", "text", TEXT, dimensions.keys().map(|key| key.value).collect());
    upsert.key("provider", "text", TEXT, dimensions.keys().map(|key| key.provider).collect());
    upsert.key("model", "text", TEXT, dimensions.keys().map(|key| key.model).collect());
    upsert.measures(dimensions.values());
    upsert.run(client).await?;

    let mut upsert = Upsert::new("hourly_api_costs");
    upsert.key("hour", "timestamptz", TIME, hours.keys().map(|key| at(key.hour_us)).collect());
    upsert.key("provider", "text", TEXT, hours.keys().map(|key| key.provider).collect());
    upsert.key("model", "text", TEXT, hours.keys().map(|key| key.model).collect());
    upsert.measures(hours.values());
    upsert.run(client).await?;

    let mut upsert = Upsert::new("daily_api_costs");
    upsert.key("day", "date", DATE, costs.keys().map(|key| key.day).collect());
    upsert.key("provider", "text", TEXT, costs.keys().map(|key| key.provider).collect());
    upsert.key("model", "text", TEXT, costs.keys().map(|key| key.model).collect());
    upsert.key("endpoint", "text", TEXT, costs.keys().map(|key| key.endpoint).collect());
    upsert.measures(costs.values());
    upsert.run(client).await
}

/// An instant of microseconds since 1970.
fn at(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or_default()
}
