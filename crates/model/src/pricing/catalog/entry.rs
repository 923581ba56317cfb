//! Prices without ids, as stated in configuration, in JSON and on the command line.
//!
//! All of them pass the same checks, so that an accepted price can be stored and applied exactly.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveTime};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::price::{MILLION, Price, PriceOrigin, Rates, SizeTier};
use super::{CatalogError, check};
use crate::pricing::money::Usd;
use crate::pricing::names::{STANDARD_TIER, normalise_provider, normalise_tier};
use crate::pricing::plan::Plan;

/// USD for a million tokens of each bucket; none where the vendor quotes no rate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenRates {
    /// Input tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "3")]
    pub input: Option<Usd>,
    /// Output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "3")]
    pub output: Option<Usd>,
    /// Tokens read from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "3")]
    pub cache_read: Option<Usd>,
    /// Tokens written to a cache for 5 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "3")]
    pub cache_write_5m: Option<Usd>,
    /// Tokens written to a cache for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "3")]
    pub cache_write_1h: Option<Usd>,
}

impl TokenRates {
    /// The rate of a bucket by its name; none for an unknown bucket.
    pub fn bucket_mut(&mut self, name: &str) -> Option<&mut Option<Usd>> {
        Some(match name {
            "input" => &mut self.input,
            "output" => &mut self.output,
            "cache_read" => &mut self.cache_read,
            "cache_write_5m" => &mut self.cache_write_5m,
            "cache_write_1h" => &mut self.cache_write_1h,
            _ => return None,
        })
    }
}

/// The rates of larger prompts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AboveEntry {
    /// The largest prompt to which these rates do *not* yet apply.
    pub prompt_tokens: u64,
    /// The rates above it.
    pub per_million: TokenRates,
    /// USD for one of any other unit above it; units that are not named cost the same as below.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub per_unit: BTreeMap<String, Usd>,
}

/// A price as an entry of `pricing.prices`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PriceEntry {
    /// The provider.
    pub provider: String,
    /// The model; empty for a provider that prices all of its calls alike.
    #[serde(default)]
    pub model: String,
    /// The service tier.
    #[serde(default = "standard")]
    pub service_tier: String,
    /// A date (midnight UTC) or an RFC 3339 time; none for all time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_from: Option<String>,
    /// Where the figures come from.
    #[serde(default)]
    pub source: String,
    /// USD for a million tokens.
    #[serde(default)]
    pub per_million: TokenRates,
    /// USD for one of any other unit; `request` is one.
    #[serde(default)]
    pub per_unit: BTreeMap<String, Usd>,
    /// The rates of larger prompts.
    #[serde(default)]
    pub above: Vec<AboveEntry>,
}

/// A person's word that a name stands for a model of the catalog: an ARN, the name of a deployment, a gateway's route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelAlias {
    /// The provider or platform that calls of the name are priced by.
    pub provider: String,
    /// The name that calls have as their model; case and surrounding space do not count.
    pub name: String,
    /// The model that it stands for, spelled in any way that the catalog reads.
    pub model: String,
}

/// The customer's side of the contracts, which the catalog cannot know.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PricingOptions {
    /// The RentCast plan that is paid for: `"developer"`, `"foundation"`, `"growth"` or `"scale"`.
    pub rentcast_plan: Plan,
    /// How often the prices in the database are looked at, where notifications do not come through (a pooler in transaction
    /// mode).
    pub refresh_ms: u64,
    /// Prices that win over the built-in ones from their instant on (none: always), and give way to those of `tallyd prices set`.
    /// Amounts are text:
    ///
    /// ```toml
    /// prices = [{ provider = "claude", model = "claude-sonnet-5", effective_from = "2026-12-01",
    ///             per_million = { input = "1.8", output = "9", cache_read = "0.18" }, per_unit = { web_search = "0.01" } }]
    /// ```
    pub prices: Vec<PriceEntry>,
    /// Names that stand for models: an ARN, the name of a deployment. `tallyd prices alias` adds others at run time.
    ///
    /// ```toml
    /// aliases = [{ provider = "azure", name = "my-deployment", model = "gpt-4o" }]
    /// ```
    pub aliases: Vec<ModelAlias>,
}

impl Default for PricingOptions {
    fn default() -> Self {
        Self { rentcast_plan: Plan::default(), refresh_ms: 5_000, prices: Vec::new(), aliases: Vec::new() }
    }
}

/// A price without an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceSpec {
    /// The provider's stored name.
    pub provider: String,
    /// The model; empty if the provider prices all of its calls alike.
    pub model: String,
    /// `standard`, `batch` …
    pub service_tier: String,
    /// The first instant of the price, microseconds since 1970 UTC; 0 for all time.
    pub effective_from_us: i64,
    /// The rates of prompts up to the first entry of `above`.
    pub rates: Rates,
    /// The rates of larger prompts, by rising size.
    pub above: Vec<SizeTier>,
    /// Where the figures come from.
    pub source: String,
    /// The date of that evidence, `YYYY-MM-DD`, or empty.
    pub source_date: String,
}

/// The service tier of an entry that does not state one.
pub(super) fn standard() -> String {
    STANDARD_TIER.to_owned()
}

impl PriceEntry {
    /// The entry as a price, with its rates per token.
    ///
    /// # Errors
    /// [`CatalogError`] if a rate does not fit exactly, or the rates contradict each other.
    pub fn spec(&self) -> Result<PriceSpec, CatalogError> {
        let spec = self.stated()?;
        check(&spec.clone().with_id(0, PriceOrigin::Config))?;
        Ok(spec)
    }

    /// The entry as a statement that may be incomplete: [`Catalog::amend`](super::Catalog::amend) completes it.
    ///
    /// # Errors
    /// [`CatalogError`] if a rate does not fit exactly.
    pub fn stated(&self) -> Result<PriceSpec, CatalogError> {
        let (rates, above) = all_rates(&self.per_million, &self.per_unit, &self.above, 0)?;
        Ok(PriceSpec {
            provider: normalise_provider(&self.provider).into_owned(),
            model: self.model.clone(),
            service_tier: normalise_tier(&self.service_tier).into_owned(),
            effective_from_us: effective_from(self.effective_from.as_deref(), &self.model)?,
            rates,
            above,
            source: self.source.clone(),
            source_date: String::new(),
        })
    }
}

impl PriceSpec {
    /// The price under an id.
    #[must_use]
    pub fn with_id(self, id: i32, origin: PriceOrigin) -> Price {
        Price {
            id,
            provider: self.provider,
            model: self.model,
            service_tier: self.service_tier,
            effective_from_us: self.effective_from_us,
            rates: self.rates,
            above: self.above,
            plan: None,
            source: self.source,
            source_date: self.source_date,
            origin,
        }
    }

    /// The price under an id that follows from its content: entries of the configuration do not have ids, and the same
    /// entry must have the same id after every restart. Negative, so that no other price has it.
    #[must_use]
    pub fn with_derived_id(self) -> Price {
        let mut price = self.with_id(0, PriceOrigin::Config);
        let text = format!(
            "{}\n{}\n{}\n{}\n{}",
            price.provider,
            price.model,
            price.service_tier,
            price.effective_from_us,
            price.rates_json()
        );
        // The set sign bit makes the id negative.
        price.id = (crc32c::crc32c(text.as_bytes()) | 1 << 31).cast_signed();
        price
    }

    /// True if it has the same charges as another price.
    #[must_use]
    pub fn charges_as(&self, price: &Price) -> bool {
        self.rates.same_as(&price.rates)
            && self.above.len() == price.above.len()
            && self
                .above
                .iter()
                .zip(&price.above)
                .all(|(mine, other)| mine.prompt_tokens == other.prompt_tokens && mine.rates.same_as(&other.rates))
    }
}

/// The rates of an entry, and those of its larger prompts. `per_unit` applies to these too, except for units that they
/// name.
pub(super) fn all_rates(
    per_million: &TokenRates,
    per_unit: &BTreeMap<String, Usd>,
    above: &[AboveEntry],
    id: i32,
) -> Result<(Rates, Vec<SizeTier>), CatalogError> {
    let above = above.iter().map(|above| {
        let named = above.per_unit.iter().map(|(unit, rate)| (unit.clone(), *rate));
        let units = per_unit.iter().map(|(unit, rate)| (unit.clone(), *rate)).chain(named).collect();
        Ok(SizeTier { prompt_tokens: above.prompt_tokens, rates: rates(&above.per_million, &units, id)? })
    });
    let above = above.collect::<Result<_, CatalogError>>()?;
    Ok((rates(per_million, per_unit, id)?, above))
}

/// Turns rates per million tokens into rates per token, exactly.
pub(super) fn rates(
    per_million: &TokenRates,
    per_unit: &BTreeMap<String, Usd>,
    id: i32,
) -> Result<Rates, CatalogError> {
    let token = |rate: Option<Usd>| rate.map(|rate| per_token(rate, id)).transpose();
    let mut request = None;
    let mut extra = Vec::new();
    for (unit, rate) in per_unit {
        let rate = not_negative(*rate, id)?;
        match unit.as_str() {
            "request" => request = Some(rate),
            _ => extra.push((unit.clone(), rate)),
        }
    }
    Ok(Rates {
        input: token(per_million.input)?,
        output: token(per_million.output)?,
        cache_read: token(per_million.cache_read)?,
        cache_write_5m: token(per_million.cache_write_5m)?,
        cache_write_1h: token(per_million.cache_write_1h)?,
        request,
        extra,
    })
}

fn per_token(rate: Usd, id: i32) -> Result<Usd, CatalogError> {
    let attos = not_negative(rate, id)?.attos();
    if attos % MILLION != 0 {
        return Err(CatalogError::RateTooPrecise { id, rate });
    }
    Ok(Usd::from_attos(attos / MILLION))
}

pub(super) fn not_negative(rate: Usd, id: i32) -> Result<Usd, CatalogError> {
    if rate < Usd::ZERO { Err(CatalogError::NegativeRate { id, rate }) } else { Ok(rate) }
}

/// Microseconds since 1970 of a date or an RFC 3339 time; 0 for none.
///
/// # Errors
/// [`CatalogError::Date`].
pub fn effective_from(text: Option<&str>, entry: &str) -> Result<i64, CatalogError> {
    let Some(text) = text else { return Ok(0) };
    let time = match text.parse::<NaiveDate>() {
        Ok(date) => Some(date.and_time(NaiveTime::MIN).and_utc()),
        Err(_) => DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()),
    };
    time.map(|time| time.timestamp_micros()).ok_or_else(|| date_error(text, entry))
}

pub(super) fn date_error(text: &str, entry: &str) -> CatalogError {
    CatalogError::Date { entry: entry.to_owned(), text: text.to_owned() }
}
