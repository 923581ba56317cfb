//! Units and revenue by day, as people and applications state them (`tallyd_units`), with costs beside.
//!
//! A statement is the whole value of its day, dimension, value and unit: stating it again replaces it. So a request or an import
//! may be repeated. A change leaves an entry in the audit log, in the same transaction; a repetition changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use crate::queries::audit::{self, Actor, Change};
use crate::queries::grouped::{Bucket, CostQuery, Dimension};
use crate::queries::sums::Sums;
use crate::queries::{Parameter, QueryError};
use crate::whole::Whole;
use tallyd_model::pricing::{Quantity, Usd};
use tallyd_model::units::{cost_per_unit, margin, margin_percent};

/// The largest number of statements of one request.
pub const STATEMENTS_MAX: usize = 1_000;
/// Groups that are joined with their costs.
pub const GROUPS_MAX: i64 = 10_000;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 512;
/// Bytes of a unit's name.
const UNIT_BYTES_MAX: usize = 64;
/// Statements that an audit entry lists.
const LISTED: usize = 100;

/// Units of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The day, in the reporting time zone.
    pub day: NaiveDate,
    /// `app`, `tag:NAME`, or empty for all calls.
    pub dimension: String,
    /// The value of the dimension; empty for calls without it.
    pub value: String,
    /// The unit's name.
    pub unit: String,
    /// How many.
    pub quantity: Quantity,
    /// The revenue; none if it is not stated.
    pub revenue_usd: Option<Usd>,
}

/// Why statements were not taken. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum UnitsError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A statement is invalid.
    #[error("statement {}: {message}", at + 1)]
    Invalid {
        /// Its place, from 0 on.
        at: usize,
        /// The fault.
        message: String,
    },
}

/// The result of stating units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Stated {
    /// Statements of new keys.
    pub added: u64,
    /// Statements that replaced a different one.
    pub replaced: u64,
    /// Statements that were there already.
    pub unchanged: u64,
}

impl Statement {
    /// The dimension's name in the table.
    fn dimension_name(&self) -> Result<String, String> {
        match Dimension::parse(&self.dimension) {
            _ if self.dimension.is_empty() => Ok(String::new()),
            Ok(dimension) => {
                dimension.rollup().map(str::to_owned).ok_or_else(|| "dimension: expected app or tag:NAME".to_owned())
            }
            Err(fault) => Err(format!("dimension: {fault}; expected app or tag:NAME")),
        }
    }

    fn fault(&self) -> Option<String> {
        let is_text = |text: &str, most: usize| text.len() <= most && !text.contains('\0');
        if !is_text(&self.value, VALUE_BYTES_MAX) {
            return Some(format!("value: at most {VALUE_BYTES_MAX} bytes, and no NUL character"));
        }
        if self.unit.is_empty() || !is_text(&self.unit, UNIT_BYTES_MAX) {
            return Some(format!("unit: a name of 1 to {UNIT_BYTES_MAX} bytes, such as order"));
        }
        if self.dimension.is_empty() && !self.value.is_empty() {
            return Some("value: it needs a dimension, such as tag:customer".to_owned());
        }
        let fits = self.revenue_usd.is_none_or(Usd::fits_a_record)
            && self.quantity.nanos() / Quantity::ONE.nanos() <= 1_000_000_000_000_000;
        (!fits).then(|| "quantity: at most 10^15; revenue_usd: at most 10^9, of either sign".to_owned())
    }
}

/// States units, with an audit entry for those that change something. Of two statements of one key in `statements` the last one counts.
///
/// # Errors
/// [`UnitsError`].
pub async fn state(client: &mut Client, statements: &[Statement], who: &Actor<'_>) -> Result<Stated, UnitsError> {
    let mut rows = BTreeMap::new();
    for (at, statement) in statements.iter().enumerate() {
        let invalid = |message| UnitsError::Invalid { at, message };
        if let Some(message) = statement.fault() {
            return Err(invalid(message));
        }
        let name = statement.dimension_name().map_err(invalid)?;
        rows.insert((name, statement.day, statement.value.clone(), statement.unit.clone()), statement);
    }
    let transaction = client.transaction().await?;
    let mut stated = Stated::default();
    let rows: Vec<_> = rows.into_iter().collect();
    for rows in rows.chunks(STATEMENTS_MAX) {
        state_some(transaction.client(), rows, who, &mut stated).await?;
    }
    transaction.commit().await?;
    Ok(stated)
}

type Row<'s> = ((String, NaiveDate, String, String), &'s Statement);

async fn state_some(
    client: &Client,
    rows: &[Row<'_>],
    who: &Actor<'_>,
    stated: &mut Stated,
) -> Result<(), tokio_postgres::Error> {
    let dimensions: Vec<&str> = rows.iter().map(|(key, _)| key.0.as_str()).collect();
    let days: Vec<NaiveDate> = rows.iter().map(|(key, _)| key.1).collect();
    let values: Vec<&str> = rows.iter().map(|(key, _)| key.2.as_str()).collect();
    let units: Vec<&str> = rows.iter().map(|(key, _)| key.3.as_str()).collect();
    let quantities: Vec<String> = rows.iter().map(|(_, row)| row.quantity.to_string()).collect();
    let revenues: Vec<Option<String>> =
        rows.iter().map(|(_, row)| row.revenue_usd.map(|usd| usd.to_string())).collect();
    let keys: [Parameter<'_>; 4] = [
        (&dimensions, Type::TEXT_ARRAY),
        (&days, Type::DATE_ARRAY),
        (&values, Type::TEXT_ARRAY),
        (&units, Type::TEXT_ARRAY),
    ];
    // Locked in the order of the key, so that two writers of the same keys wait for one another, and do not deadlock.
    let sql = "SELECT u.dimension, u.day, u.value, u.unit, trim_scale(u.quantity)::text, trim_scale(u.revenue_usd)::text \
        FROM public.tallyd_units AS u, unnest($1::text[], $2::date[], $3::text[], $4::text[]) AS n(dimension, day, value, unit) \
        WHERE u.dimension = n.dimension AND u.day = n.day AND u.value = n.value AND u.unit = n.unit \
        ORDER BY 1, 2, 3, 4 FOR UPDATE OF u";
    let before: BTreeMap<_, _> = client
        .query_typed(sql, &keys)
        .await?
        .iter()
        .map(|row| {
            let key =
                (row.get::<_, String>(0), row.get::<_, NaiveDate>(1), row.get::<_, String>(2), row.get::<_, String>(3));
            (key, (row.get::<_, String>(4), row.get::<_, Option<String>>(5)))
        })
        .collect();
    let sql = "INSERT INTO public.tallyd_units AS u (dimension, day, value, unit, quantity, revenue_usd, updated_at, actor) \
        SELECT n.dimension, n.day, n.value, n.unit, n.quantity::numeric, n.revenue_usd::numeric, clock_timestamp(), $7 \
        FROM unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::text[], $6::text[]) \
            AS n(dimension, day, value, unit, quantity, revenue_usd) \
        ORDER BY 1, 2, 3, 4 \
        ON CONFLICT (dimension, day, value, unit) DO UPDATE SET quantity = excluded.quantity, revenue_usd = excluded.revenue_usd, \
            updated_at = excluded.updated_at, actor = excluded.actor \
        WHERE u.quantity <> excluded.quantity OR u.revenue_usd IS DISTINCT FROM excluded.revenue_usd";
    let more: [Parameter<'_>; 3] =
        [(&quantities, Type::TEXT_ARRAY), (&revenues, Type::TEXT_ARRAY), (&who.name, Type::TEXT)];
    client.query_typed(sql, &[&keys[..], &more[..]].concat()).await?;
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for (at, (key, _)) in rows.iter().enumerate() {
        let named = |quantity: &str, revenue: Option<&str>| json!({"day": key.1, "dimension": key.0, "value_hash": value_hash(&key.2), "unit": key.3, "quantity": quantity, "revenue_usd": revenue});
        let known = before.get(key);
        if known.is_some_and(|(quantity, revenue)| *quantity == quantities[at] && *revenue == revenues[at]) {
            stated.unchanged += 1;
            continue;
        }
        if let Some((quantity, revenue)) = known {
            stated.replaced += 1;
            old.push(named(quantity, revenue.as_deref()));
        } else {
            stated.added += 1;
        }
        new.push(named(&quantities[at], revenues[at].as_deref()));
    }
    if new.is_empty() {
        return Ok(());
    }
    let object = format!("{} units", new.len());
    old.truncate(LISTED);
    new.truncate(LISTED);
    let change = who.change("units.state", &object);
    audit::write(client, &Change { old: Some(old.into()), new: Some(new.into()), ..change }).await
}

/// The value in the audit log, whose entries are never changed: a value may be the id of a user who is forgotten later.
fn value_hash(value: &str) -> String {
    hex::encode(&Sha256::digest(value)[..8])
}

/// A request for units with their costs.
#[derive(Debug, Clone)]
pub struct UnitQuery {
    /// The range, the zone and the bucket; `group_by` has the one dimension, or none for all calls.
    pub costs: CostQuery,
    /// Only this unit.
    pub unit: Option<String>,
}

/// Units of a value with their cost.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UnitRow {
    /// The bucket's first day; absent for the total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The value of the dimension; empty for calls without it, and without a dimension.
    pub value: String,
    /// The unit's name; null if no units are stated.
    pub unit: Option<String>,
    /// How many, exact decimal text; null if no units are stated.
    #[schema(value_type = Option<String>, example = "1200")]
    pub quantity: Option<String>,
    /// Their revenue; null if none is stated.
    #[schema(value_type = Option<String>, example = "480")]
    pub revenue_usd: Option<Usd>,
    /// The cost of the calls, all units together.
    #[schema(value_type = String, example = "120.5")]
    pub cost_usd: Usd,
    /// The calls.
    pub calls: Whole,
    /// Calls without a price: their cost is missing.
    pub unpriced_calls: Whole,
    /// Cost by quantity; null without units.
    #[schema(value_type = Option<String>, example = "0.1")]
    pub cost_per_unit_usd: Option<Usd>,
    /// Revenue less cost; null without a stated revenue.
    #[schema(value_type = Option<String>, example = "359.5")]
    pub margin_usd: Option<Usd>,
    /// The margin in percent of the revenue.
    #[schema(value_type = Option<String>, example = "74.9")]
    pub margin_percent: Option<Usd>,
}

/// The bucket, the value, the unit, its quantity and its revenue.
type Units = (Option<String>, String, String, Quantity, Option<Usd>);

impl UnitQuery {
    /// The units and the costs, the largest costs first within a bucket.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, client: &Client) -> Result<Vec<UnitRow>, QueryError> {
        let mut costs: BTreeMap<(Option<String>, String), Sums> = BTreeMap::new();
        for row in self.costs.ask(client).await?.rows {
            let value = row.app.or_else(|| row.tags.into_values().next()).unwrap_or_default();
            costs.insert((row.bucket, value), row.sums);
        }
        let mut rows = Vec::new();
        let mut told = BTreeSet::new();
        for (bucket, value, unit, quantity, revenue_usd) in self.units(client).await? {
            let key = (bucket, value);
            let sums = costs.get(&key).copied().unwrap_or_default();
            told.insert(key.clone());
            rows.push(row(key, sums, Some((unit, quantity, revenue_usd))));
        }
        if self.unit.is_none() {
            rows.extend(
                costs.into_iter().filter(|(key, _)| !told.contains(key)).map(|(key, sums)| row(key, sums, None)),
            );
        }
        rows.sort_by(|a, b| {
            a.bucket.cmp(&b.bucket).then(b.cost_usd.cmp(&a.cost_usd)).then_with(|| a.value.cmp(&b.value))
        });
        Ok(rows)
    }

    async fn units(&self, client: &Client) -> Result<Vec<Units>, QueryError> {
        let dimension = self.costs.group_by.first().and_then(Dimension::rollup).unwrap_or_default();
        let bucket = match self.costs.bucket {
            Bucket::Total | Bucket::Hour => "NULL::text",
            Bucket::Day => "to_char(day, 'YYYY-MM-DD')",
            Bucket::Week => "to_char(date_trunc('week', day), 'YYYY-MM-DD')",
            Bucket::Month => "to_char(date_trunc('month', day), 'YYYY-MM-DD')",
        };
        let sql = format!(
            "SELECT {bucket}, value, unit, trim_scale(round(sum(quantity), 9))::text, round(sum(revenue_usd), 18) FROM public.tallyd_units \
             WHERE dimension = $1 AND day BETWEEN $2 AND $3 AND ($4 = '' OR unit = $4) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT $5"
        );
        let unit = self.unit.as_deref().unwrap_or_default();
        let values: [Parameter<'_>; 5] = [
            (&dimension, Type::TEXT),
            (&self.costs.from, Type::DATE),
            (&self.costs.to, Type::DATE),
            (&unit, Type::TEXT),
            (&GROUPS_MAX, Type::INT8),
        ];
        let rows = client.query_typed(&sql, &values).await?;
        let read = |row: &tokio_postgres::Row| {
            // A sum of quantities within the statements' bounds can be read.
            let quantity = Quantity::parse(row.get(3)).unwrap_or_default();
            Ok((row.get(0), row.get(1), row.get(2), quantity, row.try_get(4)?))
        };
        rows.iter().map(read).collect()
    }
}

fn row(
    (bucket, value): (Option<String>, String),
    sums: Sums,
    stated: Option<(String, Quantity, Option<Usd>)>,
) -> UnitRow {
    let (unit, quantity, revenue_usd) = match stated {
        Some((unit, quantity, revenue)) => (Some(unit), Some(quantity), revenue),
        None => (None, None, None),
    };
    let cost_usd = sums.cost_usd;
    let margin_usd = revenue_usd.and_then(|revenue| margin(revenue, cost_usd));
    UnitRow {
        bucket,
        value,
        unit,
        quantity: quantity.map(|quantity| quantity.to_string()),
        revenue_usd,
        cost_usd,
        calls: sums.calls,
        unpriced_calls: sums.unpriced_calls,
        cost_per_unit_usd: quantity.and_then(|quantity| cost_per_unit(cost_usd, quantity)),
        margin_usd,
        margin_percent: revenue_usd.zip(margin_usd).and_then(|(revenue, margin)| margin_percent(revenue, margin)),
    }
}
