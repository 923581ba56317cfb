//! `GET /api/admin/pricing` and `POST /api/admin/rentcast-cost`.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json, Number};
use crate::http::auth::Identity;
use crate::http::body::{Amount, JsonBody};
use crate::http::error::ApiError;
use crate::http::parameters::now;
use tallyd_model::pricing::{Catalog, Plan, PricingOptions, Usd};
use tallyd_store::queries::prices::{self, PriceRow};

/// The prices in force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Pricing {
    /// Claude's models: USD for a million tokens. Models without a rate for input and for output are left out;
    /// `/api/v1/prices` has them.
    pub claude: BTreeMap<String, ModelPrice>,
    /// RentCast.
    pub rentcast: RentcastPrice,
}

/// A model's price.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ModelPrice {
    /// The rates.
    #[serde(flatten)]
    pub rates: ModelRates,
    /// Rates of larger prompts, smallest bound first; usually none.
    pub above: Vec<AbovePrice>,
}

/// A model's rates for prompts of more than a number of tokens: they hold for the whole call.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AbovePrice {
    /// Input and cached tokens of the call, more than this many.
    pub prompt_tokens: u64,
    /// The rates.
    #[serde(flatten)]
    pub rates: ModelRates,
}

/// A model's rates, each for a million tokens. Null: the vendor quotes none.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ModelRates {
    /// Input.
    #[schema(value_type = Option<f64>)]
    #[serde(rename = "inputPerMToken")]
    pub input: Option<Number>,
    /// Output.
    #[schema(value_type = Option<f64>)]
    #[serde(rename = "outputPerMToken")]
    pub output: Option<Number>,
    /// Read from a cache.
    #[schema(value_type = Option<f64>)]
    #[serde(rename = "cacheReadPerMToken")]
    pub cache_read: Option<Number>,
    /// Written to a cache for five minutes.
    #[schema(value_type = Option<f64>)]
    #[serde(rename = "cacheWrite5mPerMToken")]
    pub cache_write_5m: Option<Number>,
    /// Written to a cache for an hour.
    #[schema(value_type = Option<f64>)]
    #[serde(rename = "cacheWrite1hPerMToken")]
    pub cache_write_1h: Option<Number>,
}

/// RentCast's price.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RentcastPrice {
    /// USD for one request beyond those that the plan includes.
    #[schema(value_type = f64)]
    pub cost_per_request: Number,
    /// The plans' terms, by name.
    pub plans: BTreeMap<&'static str, PlanPrice>,
}

/// A plan's terms.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanPrice {
    /// USD a month.
    #[schema(value_type = f64)]
    pub monthly: Number,
    /// Requests that the month's fee covers.
    pub included: u64,
    /// USD for each request beyond.
    #[schema(value_type = f64)]
    pub overage: Number,
}

/// The prices in force now, of the standard tier.
#[utoipa::path(get, path = "/api/admin/pricing", tag = "admin",
    responses((status = 200, description = "The prices", body = Pricing), Failures))]
pub(crate) async fn pricing(State(daemon): State<SharedDaemon>) -> Result<Json<Pricing>, ApiError> {
    let reading = daemon.reading().await?;
    let rows = prices::in_force(&reading, now(&daemon)).await?;
    reading.finish().await?;
    let claude = rows.iter().filter(|row| row.provider == "claude" && row.service_tier == "standard");
    let claude = claude.filter_map(|row| Some((row.model.clone(), model(row)?))).collect();
    let cost_per_request = Number(rentcast(&daemon, &rows));
    Ok(Json(Pricing { claude, rentcast: RentcastPrice { cost_per_request, plans: plans(&daemon)? } }))
}

/// None without a rate of input or of output: a page of the replaced system formats both.
fn model(row: &PriceRow) -> Option<ModelPrice> {
    let rates_of_all = rates(&row.rates["per_million_tokens"]);
    rates_of_all.input.and(rates_of_all.output)?;
    let above = row.rates["above"].as_array().into_iter().flatten();
    let above = above.filter_map(|tier| {
        Some(AbovePrice { prompt_tokens: tier["prompt_tokens"].as_u64()?, rates: rates(&tier["per_million_tokens"]) })
    });
    let mut above: Vec<_> = above.collect();
    above.sort_by_key(|tier| tier.prompt_tokens);
    Some(ModelPrice { rates: rates_of_all, above })
}

fn rates(per_million_tokens: &Value) -> ModelRates {
    let rate = |name: &str| amount(&per_million_tokens[name]).map(Number);
    ModelRates {
        input: rate("input"),
        output: rate("output"),
        cache_read: rate("cache_read"),
        cache_write_5m: rate("cache_write_5m"),
        cache_write_1h: rate("cache_write_1h"),
    }
}

/// The plans' terms that are in force now.
fn plans(daemon: &SharedDaemon) -> Result<BTreeMap<&'static str, PlanPrice>, ApiError> {
    let terms = |plan: Plan| {
        let options = PricingOptions { rentcast_plan: plan, ..daemon.config.pricing.clone() };
        // The daemon has started with these options, so they are valid.
        let catalog = Catalog::builtin(&options).map_err(|error| ApiError::unavailable(error.to_string()))?;
        let terms = catalog.plan_terms(daemon.clock.now_us());
        let (monthly, overage) = (Number(terms.monthly), Number(terms.overage));
        Ok((plan.name(), PlanPrice { monthly, included: terms.included_requests, overage }))
    };
    Plan::ALL.into_iter().map(terms).collect()
}

/// The price that somebody has set, or else the configured plan's.
fn rentcast(daemon: &SharedDaemon, rows: &[PriceRow]) -> Usd {
    let manual = rows.iter().filter(|row| row.provider == "rentcast" && row.origin != "builtin");
    let set = manual.filter_map(|row| Some((row.effective_from, amount(&row.rates["per_unit"]["request"])?)));
    let set = set.max_by_key(|(from, _)| *from).map(|(_, cost)| cost);
    let ingest = daemon.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let plan = ingest.as_ref().map(|context| context.catalog.load().plan_terms(daemon.clock.now_us()).overage);
    set.or(plan).unwrap_or_default()
}

fn amount(value: &Value) -> Option<Usd> {
    value.as_str().and_then(|text| Usd::parse(text).ok())
}

/// A price to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewRentcastCost {
    /// USD for one request, as a number or as decimal text; not negative.
    #[schema(value_type = f64, minimum = 0, maximum = 1_000_000_000, example = 0.2)]
    cost_per_request: Amount,
}

/// The price that was set.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RentcastCostSet {
    /// True.
    pub success: bool,
    /// USD for one request.
    #[schema(value_type = f64)]
    pub cost_per_request: Number,
    /// The price's id in `api_prices`.
    pub price_id: i32,
}

/// Sets the price of one RentCast request from now on. Earlier calls keep theirs.
#[utoipa::path(post, path = "/api/admin/rentcast-cost", tag = "admin", request_body = NewRentcastCost,
    responses((status = 200, description = "It is set", body = RentcastCostSet), Failures))]
pub(crate) async fn set_rentcast_cost(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(new): JsonBody<NewRentcastCost>,
) -> Result<Json<RentcastCostSet>, ApiError> {
    let cost = new.cost_per_request.not_negative("costPerRequest")?;
    let mut client = daemon.pool()?.get().await?;
    let price_id = prices::set_rentcast_request(&mut client, cost, daemon.clock.now_us(), &who.actor()).await?;
    tracing::info!(actor = who.actor, %cost, "the price of a RentCast request was set");
    Ok(Json(RentcastCostSet { success: true, cost_per_request: Number(cost), price_id }))
}
