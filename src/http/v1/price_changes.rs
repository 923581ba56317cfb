//! `POST /api/v1/prices` and `/api/v1/prices/preview`, `GET /api/v1/unpriced`: prices are changed by adding one that holds
//! from an instant on. What was recorded keeps its cost until `tallyd reprice`.
//!
//! A preview holds the new rates against what was used in the last [`PREVIEW_DAYS`] days, from the rollups: cheap whatever
//! the traffic. They do not tell batches and large prompts apart, so both sides are at the ordinary rates.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::{Extension, Json};
use chrono::Days;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use crate::database::prices::{ChangeNote, add, read_added};
use crate::database::queries::Reading;
use crate::database::queries::audit::{self, Change};
use crate::database::queries::sums::{OF_ROLLUP, Sums};
use crate::database::unpriced::{UnpricedModel, unpriced as find_unpriced};
use crate::http::answer::{Failures, add as sum};
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::ApiError;
use crate::http::parameters::{text, today};
use crate::http::router::Handle;
use crate::pricing::catalog::Rates;
use crate::pricing::{Catalog, Origin, PriceEntry, PriceSpec, StoredPrice, Usd};

/// Days of usage that a preview looks at.
const PREVIEW_DAYS: u64 = 30;
/// A preview's price has a number that no row has.
const PREVIEW_ID: i32 = i32::MAX;

/// A price to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceToSet {
    /// As an entry of `pricing.prices` in the configuration: `provider`, `model`, `service_tier`, `effective_from`,
    /// `per_million` and `per_unit` (USD as decimal text), `above`, `source`.
    #[schema(value_type = Object, example = json!({"provider": "claude", "model": "claude-sonnet-5",
        "effective_from": "2026-12-01", "per_million": {"input": "1.80", "output": "9"}}))]
    price: PriceEntry,
    /// Why, for the record.
    #[serde(default)]
    #[schema(max_length = 512)]
    note: String,
}

impl PriceToSet {
    fn checked(self) -> Result<(PriceSpec, String), ApiError> {
        let (provider, model) = (self.price.provider.clone(), self.price.model.clone());
        for (name, value) in [("provider", provider), ("model", model), ("source", self.price.source.clone())] {
            text(name, Some(value))?;
        }
        let note = text("note", Some(self.note))?.unwrap_or_default();
        let hint = "rates are USD as decimal text: {\"price\": {\"per_million\": {\"input\": \"3\"}, …}}";
        let spec = self.price.spec().map_err(|error| ApiError::body(error.to_string(), hint))?;
        if spec.provider.is_empty() {
            return Err(ApiError::body("price.provider: it is empty", "name the provider: claude, rentcast, openai …"));
        }
        Ok((spec, note))
    }
}

/// The price that was added.
#[derive(Debug, Serialize, ToSchema)]
pub struct PriceSet {
    /// Its number in `api_prices`.
    id: i32,
}

/// Adds a price. Every daemon on the database applies it within seconds, to calls from its instant on.
#[utoipa::path(post, path = "/api/v1/prices", tag = "prices", request_body = PriceToSet,
    responses((status = 200, description = "It is added", body = PriceSet), Failures))]
pub async fn set(
    State(view): State<Handle>,
    Extension(who): Extension<Identity>,
    JsonBody(new): JsonBody<PriceToSet>,
) -> Result<Json<PriceSet>, ApiError> {
    let (spec, note) = new.checked()?;
    let mut client = view.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let change = ChangeNote { actor: &who.actor, origin: "api", note: &note };
    let ids = add(&transaction, std::slice::from_ref(&spec), &change).await?;
    // One was added.
    let id = ids.first().copied().unwrap_or_default();
    let object = format!("price {id}");
    let rates = spec.clone().with_id(id, Origin::Stored).rates_json();
    let new = Some(json!({ "provider": spec.provider, "model": spec.model, "rates": rates }));
    let (actor, address) = (who.actor.as_str(), who.address.as_str());
    let change = Change { actor, address, action: "price.set", object: &object, old: None, new };
    audit::write(&transaction, &change).await?;
    transaction.commit().await?;
    Ok(Json(PriceSet { id }))
}

/// What a price would come to.
#[derive(Debug, Serialize, ToSchema)]
pub struct PricePreview {
    /// Days of usage that were looked at.
    days: u64,
    /// The price in force now, as `rates` of GET /api/v1/prices; null if there is none.
    #[schema(value_type = Option<Object>)]
    old_rates: Option<Value>,
    /// The new one.
    #[schema(value_type = Object)]
    new_rates: Value,
    /// The models that it would apply to, those with the most calls first.
    models: Vec<ModelEffect>,
    /// What they would have cost at the rates in force.
    #[schema(value_type = String)]
    old_usd: Usd,
    /// What they would have cost at the new rates.
    #[schema(value_type = String)]
    new_usd: Usd,
}

/// What a price would mean for a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelEffect {
    /// As it stands in the rollup.
    model: String,
    /// Its calls in those days.
    calls: i64,
    /// At the rates in force; null if there are none.
    #[schema(value_type = Option<String>)]
    old_usd: Option<Usd>,
    /// At the new rates.
    #[schema(value_type = String)]
    new_usd: Usd,
}

/// What the last 30 days' usage would have cost at these rates. Changes nothing.
#[utoipa::path(post, path = "/api/v1/prices/preview", tag = "prices", request_body = PriceToSet,
    responses((status = 200, description = "The effect", body = PricePreview), Failures))]
pub async fn preview(
    State(view): State<Handle>,
    JsonBody(new): JsonBody<PriceToSet>,
) -> Result<Json<PricePreview>, ApiError> {
    let (spec, _) = new.checked()?;
    let from = today(&view) - Days::new(PREVIEW_DAYS - 1);
    let reading = view.reading().await?;
    let mut added = read_added(&reading).await?;
    let usage = usage(&reading, &spec.provider, from).await?;
    reading.finish().await?;
    let build = |added: &[StoredPrice]| Catalog::layered(&view.config.pricing, added).map(|(catalog, _)| catalog);
    let broken = |error: crate::pricing::CatalogError| ApiError::body(error.to_string(), "correct the price");
    let now_us = view.clock.now_us();
    let at_us = now_us.max(spec.effective_from_us);
    let old = build(&added).map_err(broken)?;
    let new_rates = spec.clone().with_id(PREVIEW_ID, Origin::Stored).rates_json();
    added.push(StoredPrice {
        id: PREVIEW_ID,
        provider: spec.provider.clone(),
        model: spec.model.clone(),
        service_tier: spec.service_tier.clone(),
        effective_from_us: spec.effective_from_us,
        rates: new_rates.clone(),
        source: String::new(),
        source_date: String::new(),
    });
    let next = build(&added).map_err(broken)?;
    let in_force = |catalog: &Catalog, model: &str, at_us| {
        catalog.price_at(&spec.provider, model, &spec.service_tier, at_us).cloned()
    };
    let old_rates = in_force(&old, &spec.model, now_us).map(|price| price.rates_json());
    let mut answer = PricePreview {
        days: PREVIEW_DAYS,
        old_rates,
        new_rates,
        models: Vec::new(),
        old_usd: Usd::ZERO,
        new_usd: Usd::ZERO,
    };
    for (model, used) in usage {
        let Some(price) = in_force(&next, &model, at_us).filter(|price| price.id == PREVIEW_ID) else { continue };
        let new_usd = cost(&price.rates, &used)?;
        let old_usd = in_force(&old, &model, now_us).map(|price| cost(&price.rates, &used)).transpose()?;
        answer.old_usd = sum(answer.old_usd, old_usd.unwrap_or_default())?;
        answer.new_usd = sum(answer.new_usd, new_usd)?;
        answer.models.push(ModelEffect { model, calls: used.calls, old_usd, new_usd });
    }
    answer.models.sort_by_key(|model| std::cmp::Reverse(model.calls));
    Ok(Json(answer))
}

/// What each model of a provider has used since a day.
async fn usage(reading: &Reading, provider: &str, from: chrono::NaiveDate) -> Result<BTreeMap<String, Sums>, ApiError> {
    let sql = format!(
        "SELECT model, {OF_ROLLUP} FROM public.daily_api_costs WHERE provider = $1 AND day >= $2 GROUP BY 1 LIMIT 1000"
    );
    let rows = reading.query_typed(&sql, &[(&provider, Type::TEXT), (&from, Type::DATE)]).await?;
    rows.iter().map(|row| Ok((row.get(0), Sums::read(row, 1)?))).collect()
}

/// What usage comes to at rates; units without a rate count nothing.
fn cost(rates: &Rates, used: &Sums) -> Result<Usd, ApiError> {
    let buckets = [
        (used.input_tokens, rates.input),
        (used.output_tokens, rates.output),
        (used.cache_read_tokens, rates.cache_read),
        (used.cache_write_5m_tokens, rates.cache_write_5m),
        (used.cache_write_1h_tokens, rates.cache_write_1h),
        (used.requests, rates.request),
    ];
    let mut total = Usd::ZERO;
    for (count, rate) in buckets {
        let part = rate.and_then(|rate| rate.checked_mul(i128::from(count))).unwrap_or_default();
        total = sum(total, part)?;
    }
    Ok(total)
}

/// Models without a price.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unpriced {
    /// Those with the most calls first, at most 200.
    models: Vec<UnpricedModel>,
}

/// Models with calls that no price was known for: no cost includes them.
#[utoipa::path(get, path = "/api/v1/unpriced", tag = "prices",
    responses((status = 200, description = "The models", body = Unpriced), Failures))]
pub async fn unpriced(State(view): State<Handle>) -> Result<Json<Unpriced>, ApiError> {
    let reading = view.reading().await?;
    let added = read_added(&reading).await?;
    let catalog = Catalog::layered(&view.config.pricing, &added).map_err(|error| {
        tracing::error!(%error, "the price catalog cannot be built");
        ApiError::unavailable("the price catalog cannot be built; the daemon's log says why")
    })?;
    let models = find_unpriced(&reading, &catalog.0).await?;
    reading.finish().await?;
    Ok(Json(Unpriced { models }))
}
