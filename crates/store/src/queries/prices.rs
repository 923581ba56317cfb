//! Reads prices from `api_prices`, and adds prices of RentCast.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::audit::{self, Actor, Change};
use super::{Parameter, QueryError, Reading};
use crate::prices::{ChangeNote, add};
use tallyd_model::pricing::catalog::Rates;
use tallyd_model::pricing::{PriceSpec, Usd};

/// A price.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PriceRow {
    /// The number of the price; `price_id` of a record refers to it.
    pub id: i32,
    /// The provider.
    pub provider: String,
    /// The model; empty for a provider without models.
    pub model: String,
    /// `standard`, `batch` …
    pub service_tier: String,
    /// It holds from here on.
    pub effective_from: DateTime<Utc>,
    /// USD as decimal text: `per_million_tokens`, `per_unit`, and `above` for larger prompts.
    #[schema(value_type = Object)]
    pub rates: Value,
    /// Where the figures come from.
    pub source: String,
    /// Its origin: `builtin`, `manual` …
    pub origin: String,
}

/// Prices by provider and model, oldest first. An empty filter selects all.
///
/// # Errors
/// [`QueryError`].
pub async fn page(
    reading: &Reading,
    provider: Option<&str>,
    model: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<Vec<PriceRow>, QueryError> {
    let sql = "SELECT id, provider, model, service_tier, effective_from, rates, source, origin FROM public.api_prices \
        WHERE ($1 IS NULL OR provider = $1) AND ($2 IS NULL OR model = $2) \
        ORDER BY provider, model, service_tier, effective_from, id LIMIT $3 OFFSET $4";
    let values: [Parameter<'_>; 4] =
        [(&provider, Type::TEXT), (&model, Type::TEXT), (&limit, Type::INT8), (&offset, Type::INT8)];
    Ok(reading.query_typed(sql, &values).await?.iter().map(read).collect())
}

/// The prices in force at an instant, one for each provider, model and tier.
///
/// # Errors
/// [`QueryError`].
pub async fn in_force(reading: &Reading, at: DateTime<Utc>) -> Result<Vec<PriceRow>, QueryError> {
    let sql = "SELECT DISTINCT ON (provider, model, service_tier, rates -> 'plan') id, provider, model, service_tier, \
        effective_from, rates, source, origin FROM public.api_prices WHERE withdrawn_at IS NULL AND effective_from <= $1 \
        ORDER BY provider, model, service_tier, rates -> 'plan', effective_from DESC, id DESC";
    Ok(reading.query_typed(sql, &[(&at, Type::TIMESTAMPTZ)]).await?.iter().map(read).collect())
}

/// Adds a price of one RentCast request, in force from `from_us` on, with an audit entry. Returns the price's id. Every
/// daemon on the database applies it within seconds ([`crate::prices`]).
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn set_rentcast_request(
    client: &mut Client,
    cost: Usd,
    from_us: i64,
    by: &Actor<'_>,
) -> Result<i32, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let spec = PriceSpec {
        provider: "rentcast".to_owned(),
        model: String::new(),
        service_tier: "standard".to_owned(),
        effective_from_us: from_us,
        rates: Rates { request: Some(cost), ..Rates::default() },
        above: Vec::new(),
        source: format!("set by {}", by.name),
        source_date: String::new(),
    };
    let note = ChangeNote { by: *by, origin: "api", note: "" };
    let ids = add(&transaction, std::slice::from_ref(&spec), &note).await?;
    // One price was added.
    let id = ids.first().copied().unwrap_or_default();
    let (object, new) = (format!("price {id}"), Some(json!({ "per_unit": { "request": cost } })));
    audit::write(transaction.client(), &Change { new, ..by.change("price.add", &object) }).await?;
    transaction.commit().await?;
    Ok(id)
}

fn read(row: &tokio_postgres::Row) -> PriceRow {
    PriceRow {
        id: row.get(0),
        provider: row.get(1),
        model: row.get(2),
        service_tier: row.get(3),
        effective_from: row.get(4),
        rates: row.get(5),
        source: row.get(6),
        origin: row.get(7),
    }
}
