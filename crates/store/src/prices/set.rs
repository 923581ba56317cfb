//! Adds a price: rates that it does not name stay, and its effect on calls is reported before.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};
use utoipa::ToSchema;

use super::{ChangeNote, add, read_added};
use crate::queries::audit::{self, Change};
use crate::reprice::row::COMPUTED;
use tallyd_model::pricing::catalog::Amended;
use tallyd_model::pricing::{
    Catalog, CatalogError, PriceOrigin, PriceSpec, PricingOptions, StoredPrice, normalise_platform, normalise_provider,
    normalise_tier,
};

/// Days of calls in the report of a price's effect.
pub const RECENT_DAYS: i64 = 30;
const DAY_US: i64 = 86_400_000_000;

/// A rate, and how many calls of the last 30 days use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RateUse {
    /// `cache_read`, `web_search`, `above 200000: cache_read` …
    pub rate: String,
    /// Calls of the last 30 days that use its unit.
    pub calls: i64,
}

/// The effect of a new price.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PriceEffect {
    /// The rates that hold today at that instant, as `GET /api/v1/prices` has them; null if there are none.
    #[schema(value_type = Option<Object>)]
    pub old: Option<Value>,
    /// The rates as they will be.
    #[schema(value_type = Object)]
    pub new: Value,
    /// Rates that were not named, and stay.
    pub kept: Vec<String>,
    /// Rates that were not named, and are lost because the price was to be replaced.
    pub lost: Vec<RateUse>,
    /// Calls of the last 30 days that are of this model and service tier, at any cost. Calls whose cost was stated
    /// are not among them.
    pub recent_calls: i64,
    /// Units that those calls use and that will not have a rate: such a call will be unpriced.
    pub without_rate: Vec<RateUse>,
    /// Whether there is a price before that instant. If not, calls before it stay unpriced.
    pub priced_before: bool,
    /// Whether an added price takes the place of built-in or configured ones that would have taken effect later.
    pub replaces_later: bool,
    /// The price as it is to be added.
    #[serde(skip)]
    pub spec: PriceSpec,
    /// The prices with it.
    #[serde(skip)]
    pub after: Catalog,
}

/// Why a price was not added.
#[derive(Debug, thiserror::Error)]
pub enum SetPriceError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// It is not a valid price.
    #[error(transparent)]
    Price(#[from] CatalogError),
}

/// Computes the effect of a price. Changes nothing.
///
/// # Errors
/// [`SetPriceError`].
pub async fn effect(
    client: &Client,
    options: &PricingOptions,
    stated: &PriceSpec,
    replace: bool,
    now_us: i64,
) -> Result<PriceEffect, SetPriceError> {
    let mut added = read_added(client).await?;
    let before = Catalog::layered(options, &added)?.0;
    let Amended { spec, old, unnamed } = before.amend(stated, replace)?;
    let trial = StoredPrice::trial(&spec);
    added.prices.push(trial.clone());
    let after = Catalog::layered(options, &added)?.0;
    let (recent_calls, used) = recent(client, &after, &spec, trial.id, now_us).await?;
    let calls = |unit: &str| used.get(unit).copied().unwrap_or(0);
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for rate in &unnamed {
        match replace {
            true => lost.push(RateUse { rate: rate.to_string(), calls: calls(&rate.unit) }),
            false => kept.push(rate.to_string()),
        }
    }
    // Requests are free if they do not have a rate.
    let without = used.iter().filter(|(unit, _)| *unit != "request" && spec.rates.rate(unit).is_none());
    let without_rate = without.map(|(unit, calls)| RateUse { rate: unit.clone(), calls: *calls }).collect();
    let (from_us, is_of) = (spec.effective_from_us, |price: &tallyd_model::pricing::Price| {
        old.as_ref().is_some_and(|old| old.model == price.model)
            && (&price.provider, &price.service_tier) == (&spec.provider, &spec.service_tier)
    });
    let earlier = before.price_at(&spec.provider, &spec.model, &spec.service_tier, from_us - 1);
    Ok(PriceEffect {
        old: old.as_ref().map(tallyd_model::pricing::Price::rates_json),
        new: spec.clone().with_id(0, PriceOrigin::Stored).rates_json(),
        kept,
        lost,
        recent_calls,
        without_rate,
        priced_before: from_us <= 0 || earlier.is_some(),
        replaces_later: before
            .in_force()
            .any(|price| is_of(price) && price.origin != PriceOrigin::Stored && price.effective_from_us > from_us),
        spec,
        after,
    })
}

/// Adds a price with the effect from [`effect`], with an audit entry. Returns its id.
///
/// # Errors
/// PostgreSQL's.
pub async fn set(
    transaction: &Transaction<'_>,
    effect: &PriceEffect,
    note: &ChangeNote<'_>,
) -> Result<i32, tokio_postgres::Error> {
    let ids = add(transaction, std::slice::from_ref(&effect.spec), note).await?;
    // One price was added, so there is one id.
    let id = ids.first().copied().unwrap_or_default();
    let object = format!("price {id}");
    let (old, new) = (effect.old.clone(), Some(effect.new.clone()));
    let change = Change { old, new, ..note.by.change("price.add", &object) };
    audit::write(transaction.client(), &change).await?;
    Ok(id)
}

/// The number of calls of the last 30 days to which the price would apply, and how many of them use each unit.
async fn recent(
    client: &Client,
    after: &Catalog,
    spec: &PriceSpec,
    id: i32,
    now_us: i64,
) -> Result<(i64, BTreeMap<String, i64>), tokio_postgres::Error> {
    const UNITS: [&str; 6] = ["input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "request"];
    let since = chrono::DateTime::from_timestamp_micros(now_us - RECENT_DAYS * DAY_US).unwrap_or_default();
    let is_of = |row: &Row| {
        let provider = normalise_provider(row.get(0)).into_owned();
        let platform = normalise_platform(row.get(1), &provider).into_owned();
        let scope = if platform.is_empty() { &provider } else { &platform };
        let (model, tier): (&str, &str) = (row.get(2), row.get(3));
        let price = after.price_at(scope, model, &normalise_tier(tier), spec.effective_from_us);
        price.is_some_and(|price| price.id == id)
    };
    let from = format!("FROM public.api_usage_log AS l WHERE l.occurred_at >= $1{COMPUTED}");
    let sql = format!(
        "SELECT l.provider, l.platform, l.model, l.service_tier, count(*), \
         count(*) FILTER (WHERE input_tokens > 0), count(*) FILTER (WHERE output_tokens > 0), \
         count(*) FILTER (WHERE cache_read_tokens > 0), count(*) FILTER (WHERE cache_write_5m_tokens > 0), \
         count(*) FILTER (WHERE cache_write_1h_tokens > 0), count(*) FILTER (WHERE requests > 0) {from} GROUP BY 1, 2, 3, 4"
    );
    let (mut calls, mut used) = (0, BTreeMap::new());
    for row in client.query_typed(&sql, &[(&since, Type::TIMESTAMPTZ)]).await?.iter().filter(|row| is_of(row)) {
        calls += row.get::<_, i64>(4);
        for (at, unit) in UNITS.iter().enumerate() {
            *used.entry((*unit).to_owned()).or_insert(0) += row.get::<_, i64>(5 + at);
        }
    }
    let sql = format!(
        "SELECT l.provider, l.platform, l.model, l.service_tier, unit, count(*) FROM \
         (SELECT l.*, jsonb_object_keys(l.extra_units) AS unit {from} AND l.extra_units IS NOT NULL) AS l \
         GROUP BY 1, 2, 3, 4, 5"
    );
    for row in client.query_typed(&sql, &[(&since, Type::TIMESTAMPTZ)]).await?.iter().filter(|row| is_of(row)) {
        *used.entry(row.get::<_, String>(4)).or_insert(0) += row.get::<_, i64>(5);
    }
    used.retain(|_, calls| *calls > 0);
    Ok((calls, used))
}
