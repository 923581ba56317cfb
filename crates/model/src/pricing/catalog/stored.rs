//! Prices added at run time, as rows of `api_prices`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{ModelAlias, PriceSpec, TokenRates, rates};
use super::price::{Price, PriceOrigin, SizeTier};
use super::{CatalogError, check};
use crate::pricing::money::Usd;
use crate::pricing::names::{normalise_provider, normalise_tier};

/// The form of `api_prices.rates`; see [`Price::rates_json`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RatesJson {
    #[serde(default)]
    per_million_tokens: TokenRates,
    #[serde(default)]
    per_unit: BTreeMap<String, Usd>,
    #[serde(default)]
    above: Vec<AboveJson>,
    #[serde(default)]
    plan: Option<crate::pricing::Plan>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AboveJson {
    prompt_tokens: u64,
    #[serde(default)]
    per_million_tokens: TokenRates,
    #[serde(default)]
    per_unit: BTreeMap<String, Usd>,
}

/// Prices and names added at run time: the content of `api_prices` and `tallyd_model_aliases`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Prices.
    pub prices: Vec<StoredPrice>,
    /// Names.
    #[serde(default)]
    pub aliases: Vec<ModelAlias>,
}

/// A row of `api_prices`, as read and cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPrice {
    /// The id.
    pub id: i32,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The service tier.
    pub service_tier: String,
    /// Microseconds since 1970 UTC.
    pub effective_from_us: i64,
    /// See [`Price::rates_json`].
    pub rates: serde_json::Value,
    /// Where the figures come from.
    pub source: String,
    /// The date of that evidence.
    pub source_date: String,
}

impl StoredPrice {
    /// A price as if it had just been stored, for a preview.
    #[must_use]
    pub fn trial(spec: &PriceSpec) -> Self {
        let id = i32::MAX;
        Self {
            id,
            provider: spec.provider.clone(),
            model: spec.model.clone(),
            service_tier: spec.service_tier.clone(),
            effective_from_us: spec.effective_from_us,
            rates: spec.clone().with_id(id, PriceOrigin::Stored).rates_json(),
            source: spec.source.clone(),
            source_date: spec.source_date.clone(),
        }
    }

    /// The row as a price.
    ///
    /// # Errors
    /// [`CatalogError`] if the row's rates are malformed, or contradict each other.
    pub fn price(&self) -> Result<Price, CatalogError> {
        let malformed = |error: serde_json::Error| CatalogError::Row { id: self.id, reason: error.to_string() };
        let json: RatesJson = serde_json::from_value(self.rates.clone()).map_err(malformed)?;
        let above = json.above.into_iter().map(|above| {
            let per_unit = if above.per_unit.is_empty() { &json.per_unit } else { &above.per_unit };
            Ok(SizeTier {
                prompt_tokens: above.prompt_tokens,
                rates: rates(&above.per_million_tokens, per_unit, self.id)?,
            })
        });
        let above = above.collect::<Result<_, CatalogError>>()?;
        let price = Price {
            id: self.id,
            provider: normalise_provider(&self.provider).into_owned(),
            model: self.model.clone(),
            service_tier: normalise_tier(&self.service_tier).into_owned(),
            effective_from_us: self.effective_from_us,
            rates: rates(&json.per_million_tokens, &json.per_unit, self.id)?,
            above,
            plan: json.plan,
            source: self.source.clone(),
            source_date: self.source_date.clone(),
            origin: PriceOrigin::Stored,
        };
        check(&price)?;
        Ok(price)
    }
}
