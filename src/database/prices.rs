//! The catalog's prices as rows of `api_prices`, so that a stored `price_id` can be looked up with SQL.

use chrono::DateTime;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::pricing::Catalog;

/// Writes the built-in catalog. Rows of other origins are left alone.
///
/// # Errors
/// PostgreSQL's.
pub async fn write_catalog(client: &Client, catalog: &Catalog) -> Result<(), tokio_postgres::Error> {
    let prices: Vec<_> = catalog.prices().collect();
    let ids: Vec<i32> = prices.iter().map(|price| price.id).collect();
    let providers: Vec<&str> = prices.iter().map(|price| price.provider.as_str()).collect();
    let models: Vec<&str> = prices.iter().map(|price| price.model.as_str()).collect();
    let tiers: Vec<&str> = prices.iter().map(|price| price.service_tier.as_str()).collect();
    let time = |us: i64| DateTime::from_timestamp_micros(us).unwrap_or_default();
    let starts: Vec<_> = prices.iter().map(|price| time(price.effective_from_us)).collect();
    let rates: Vec<_> = prices.iter().map(|price| price.rates_json()).collect();
    let sources: Vec<&str> = prices.iter().map(|price| price.source.as_str()).collect();
    let sql = "INSERT INTO api_prices (id, provider, model, service_tier, effective_from, rates, source, origin) \
         SELECT *, 'builtin' FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], \
         $6::jsonb[], $7::text[]) \
         ON CONFLICT (id) DO UPDATE SET provider = excluded.provider, model = excluded.model, \
         service_tier = excluded.service_tier, effective_from = excluded.effective_from, rates = excluded.rates, \
         source = excluded.source WHERE api_prices.origin = 'builtin'";
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&ids, Type::INT4_ARRAY),
        (&providers, Type::TEXT_ARRAY),
        (&models, Type::TEXT_ARRAY),
        (&tiers, Type::TEXT_ARRAY),
        (&starts, Type::TIMESTAMPTZ_ARRAY),
        (&rates, Type::JSONB_ARRAY),
        (&sources, Type::TEXT_ARRAY),
    ];
    client.query_typed(sql, &parameters).await.map(drop)
}
