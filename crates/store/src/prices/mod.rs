//! Prices in `api_prices`: read, added, withdrawn, followed.
//!
//! The table has three kinds of rows. The daemon writes *built-in* and *configured* ones, so that SQL can look up a
//! stored `price_id`, and never reads them back. All other rows were *added*, by `tallyd prices`, over HTTP or with
//! SQL, and every daemon on the database applies them ([`feed`]). Triggers record the changes (`api_price_changes`) and
//! send the notification, so changes made with psql work the same way.
//!
//! [`cache`] keeps the added prices in the data folder, because records are priced before the database is reached.

pub mod aliases;
pub mod cache;
pub mod feed;
pub mod set;
pub mod sync;

use chrono::DateTime;
use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use crate::queries::audit::{self, Actor, Change};
use tallyd_model::pricing::{Added, Catalog, PriceOrigin, PriceSpec, StoredPrice};

/// Origin and author of added prices, for the audit log.
#[derive(Debug, Clone, Copy)]
pub struct ChangeNote<'a> {
    /// The author.
    pub by: Actor<'a>,
    /// The origin of the rows: `manual`, `import`, `api`.
    pub origin: &'a str,
    /// The author's reason; may be empty.
    pub note: &'a str,
}

/// One entry of the record of changes.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct PriceChange {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The author.
    pub actor: String,
    /// `insert`, `update` or `delete`.
    pub action: String,
    /// The price.
    pub price_id: i32,
    /// The row before.
    #[schema(value_type = Option<Object>)]
    pub old: Option<serde_json::Value>,
    /// The row after.
    #[schema(value_type = Option<Object>)]
    pub new: Option<serde_json::Value>,
}

/// Writes the built-in and the configured prices. Unchanged rows and added rows are not touched.
///
/// # Errors
/// PostgreSQL's.
pub async fn write_catalog(client: &Client, catalog: &Catalog) -> Result<(), tokio_postgres::Error> {
    let prices: Vec<_> = catalog.prices().filter(|price| price.origin != PriceOrigin::Stored).collect();
    let ids: Vec<i32> = prices.iter().map(|price| price.id).collect();
    let providers: Vec<&str> = prices.iter().map(|price| price.provider.as_str()).collect();
    let models: Vec<&str> = prices.iter().map(|price| price.model.as_str()).collect();
    let tiers: Vec<&str> = prices.iter().map(|price| price.service_tier.as_str()).collect();
    let starts: Vec<_> = prices.iter().map(|price| time(price.effective_from_us)).collect();
    let rates: Vec<_> = prices.iter().map(|price| price.rates_json()).collect();
    let sources: Vec<&str> = prices.iter().map(|price| price.source.as_str()).collect();
    let dates: Vec<&str> = prices.iter().map(|price| price.source_date.as_str()).collect();
    let origins: Vec<&str> = prices.iter().map(|price| price.origin.name()).collect();
    let sql = "INSERT INTO public.api_prices AS p \
         (id, provider, model, service_tier, effective_from, rates, source, source_date, origin) \
         SELECT * FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], \
         $6::jsonb[], $7::text[], $8::text[], $9::text[]) \
         ON CONFLICT (id) DO UPDATE SET provider = excluded.provider, model = excluded.model, \
         service_tier = excluded.service_tier, effective_from = excluded.effective_from, rates = excluded.rates, \
         source = excluded.source, source_date = excluded.source_date \
         WHERE p.origin = 'builtin' AND (p.provider, p.model, p.service_tier, p.effective_from, p.rates, p.source, \
         p.source_date) IS DISTINCT FROM (excluded.provider, excluded.model, excluded.service_tier, \
         excluded.effective_from, excluded.rates, excluded.source, excluded.source_date)";
    let parameters: [(&(dyn ToSql + Sync), Type); 9] = [
        (&ids, Type::INT4_ARRAY),
        (&providers, Type::TEXT_ARRAY),
        (&models, Type::TEXT_ARRAY),
        (&tiers, Type::TEXT_ARRAY),
        (&starts, Type::TIMESTAMPTZ_ARRAY),
        (&rates, Type::JSONB_ARRAY),
        (&sources, Type::TEXT_ARRAY),
        (&dates, Type::TEXT_ARRAY),
        (&origins, Type::TEXT_ARRAY),
    ];
    client.query_typed(sql, &parameters).await.map(drop)
}

/// Added prices and names of models that are in force.
///
/// # Errors
/// PostgreSQL's.
pub async fn read_added(client: &Client) -> Result<Added, tokio_postgres::Error> {
    Ok(Added { prices: read_prices(client).await?, aliases: aliases::read(client).await? })
}

async fn read_prices(client: &Client) -> Result<Vec<StoredPrice>, tokio_postgres::Error> {
    let sql = "SELECT id, provider, model, service_tier, (extract(epoch FROM effective_from) * 1000000)::int8, rates, \
         source, source_date FROM public.api_prices \
         WHERE origin NOT IN ('builtin', 'config') AND withdrawn_at IS NULL ORDER BY id";
    let rows = client.query_typed(sql, &[]).await?;
    let price = |row: &tokio_postgres::Row| StoredPrice {
        id: row.get(0),
        provider: row.get(1),
        model: row.get(2),
        service_tier: row.get(3),
        effective_from_us: row.get(4),
        rates: row.get(5),
        source: row.get(6),
        source_date: row.get(7),
    };
    Ok(rows.iter().map(price).collect())
}

/// Adds prices, all or none. Returns their ids, in order. The caller writes the audit entry.
///
/// # Errors
/// PostgreSQL's.
pub async fn add(
    transaction: &Transaction<'_>,
    specs: &[PriceSpec],
    note: &ChangeNote<'_>,
) -> Result<Vec<i32>, tokio_postgres::Error> {
    set_actor(transaction, note.by.name).await?;
    let sql = "INSERT INTO public.api_prices (provider, model, service_tier, effective_from, rates, source, source_date, \
         origin, note) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id";
    let mut ids = Vec::with_capacity(specs.len());
    for spec in specs {
        let rates = spec.clone().with_id(0, PriceOrigin::Stored).rates_json();
        let start = time(spec.effective_from_us);
        let parameters: [(&(dyn ToSql + Sync), Type); 9] = [
            (&spec.provider, Type::TEXT),
            (&spec.model, Type::TEXT),
            (&spec.service_tier, Type::TEXT),
            (&start, Type::TIMESTAMPTZ),
            (&rates, Type::JSONB),
            (&spec.source, Type::TEXT),
            (&spec.source_date, Type::TEXT),
            (&note.origin, Type::TEXT),
            (&note.note, Type::TEXT),
        ];
        ids.extend(transaction.query_typed(sql, &parameters).await?.iter().map(|row| row.get::<_, i32>(0)));
    }
    Ok(ids)
}

/// Adds the prices of a list, with an audit entry. Returns their ids, in order.
///
/// # Errors
/// PostgreSQL's.
pub async fn add_list(
    transaction: &Transaction<'_>,
    specs: &[PriceSpec],
    note: &ChangeNote<'_>,
) -> Result<Vec<i32>, tokio_postgres::Error> {
    let ids = add(transaction, specs, note).await?;
    if !ids.is_empty() {
        let change = Change {
            new: Some(json!({ "prices": ids.len(), "list": note.note })),
            ..note.by.change("price.import", note.note)
        };
        audit::write(transaction.client(), &change).await?;
    }
    Ok(ids)
}

/// Withdraws an added price, with an audit entry. Returns false if no added price with this id is in force.
///
/// # Errors
/// PostgreSQL's.
pub async fn withdraw(transaction: &Transaction<'_>, id: i32, by: &Actor<'_>) -> Result<bool, tokio_postgres::Error> {
    set_actor(transaction, by.name).await?;
    let sql = "UPDATE public.api_prices SET withdrawn_at = clock_timestamp() \
         WHERE id = $1 AND withdrawn_at IS NULL AND origin NOT IN ('builtin', 'config') RETURNING 1";
    if transaction.query_typed(sql, &[(&id, Type::INT4)]).await?.is_empty() {
        return Ok(false);
    }
    audit::write(transaction.client(), &by.change("price.withdraw", &format!("price {id}"))).await?;
    Ok(true)
}

/// The changes of added prices, newest first; those of one model if both names are given.
///
/// # Errors
/// PostgreSQL's.
pub async fn changes(
    client: &Client,
    model: Option<(&str, &str)>,
    limit: i64,
) -> Result<Vec<PriceChange>, tokio_postgres::Error> {
    let sql = "SELECT to_char(c.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), c.actor, c.action, c.price_id, \
         c.old, c.new FROM public.api_price_changes AS c \
         WHERE coalesce(c.new, c.old) ->> 'origin' NOT IN ('builtin', 'config') \
         AND ($1 = '' OR (coalesce(c.new, c.old) ->> 'provider' = $1 AND coalesce(c.new, c.old) ->> 'model' = $2)) \
         ORDER BY c.id DESC LIMIT $3";
    let (provider, model) = model.unwrap_or_default();
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&provider, Type::TEXT), (&model, Type::TEXT), (&limit, Type::INT8)];
    let rows = client.query_typed(sql, &parameters).await?;
    let change = |row: &tokio_postgres::Row| PriceChange {
        at: row.get(0),
        actor: row.get(1),
        action: row.get(2),
        price_id: row.get(3),
        old: row.get(4),
        new: row.get(5),
    };
    Ok(rows.iter().map(change).collect())
}

pub(super) async fn set_actor(transaction: &Transaction<'_>, actor: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT set_config('tallyd.actor', $1, true)";
    transaction.query_typed(sql, &[(&actor, Type::TEXT)]).await.map(drop)
}

fn time(us: i64) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or_default()
}
