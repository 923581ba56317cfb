//! The catalog file: its form, and the checks of a single entry.
//!
//! ```toml
//! [[model]]
//! provider = "claude"
//! name = "claude-example-1"          # the family name, without a date
//! aliases = ["claude-example-1-0"]   # other names of the same model
//! source = "where the figures come from"
//! source_date = "2026-10-24"         # a file may state one for all of its models, above them
//!
//! [[model.price]]
//! id = 9                             # never changed, never given to another price
//! service_tier = "batch"             # default: standard
//! effective_from = "2026-10-07"      # UTC midnight, or RFC 3339; default: no earlier price is known
//! per_million = { input = "3", output = "15" }   # USD for a million tokens
//! per_unit = { web_search = "0.01" }             # USD for one; `request` is a unit, too
//!
//! [[model.price.above]]              # larger prompts; per_unit holds for them as well, but for units in a per_unit of theirs
//! prompt_tokens = 200_000
//! per_million = { input = "6", output = "22.5" }
//!
//! [[plan]]                           # a provider that bills by plan
//! provider = "rentcast"
//! name = "growth"
//! …
//! ```

use std::collections::BTreeMap;
use std::io::Read;

use chrono::NaiveDate;
use serde::Deserialize;

use super::entry::{AboveEntry, TokenRates, all_rates, date_error, effective_from, not_negative, standard};
use super::price::{Price, PriceOrigin, Rates};
use super::{Alias, CatalogError};
use crate::pricing::money::Usd;
use crate::pricing::plan::{Plan, PlanTerms};

/// A catalog file's content, before checks across entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    pub prices: Vec<Price>,
    pub aliases: Vec<Alias>,
    pub plans: Vec<PlanTerms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Date of the models that do not state one.
    #[serde(default)]
    source_date: String,
    #[serde(default, rename = "model")]
    models: Vec<ModelEntry>,
    #[serde(default, rename = "plan")]
    plans: Vec<PlanEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    provider: String,
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    source: String,
    #[serde(default)]
    source_date: String,
    #[serde(rename = "price")]
    prices: Vec<PriceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceEntry {
    id: i32,
    #[serde(default = "standard")]
    service_tier: String,
    effective_from: Option<String>,
    #[serde(default)]
    per_million: TokenRates,
    #[serde(default)]
    per_unit: BTreeMap<String, Usd>,
    #[serde(default)]
    above: Vec<AboveEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanEntry {
    provider: String,
    name: Plan,
    id: i32,
    effective_from: Option<String>,
    monthly: Usd,
    included_requests: u64,
    request: Usd,
    source: String,
    source_date: String,
}

impl Contents {
    /// Adds a catalog file's content.
    pub(super) fn add(&mut self, text: &str) -> Result<(), CatalogError> {
        self.add_file(toml::from_str(text).map_err(|error| CatalogError::Toml(Box::new(error)))?)
    }

    /// Adds a built-in catalog file, as JSON in gzip.
    pub(super) fn add_packed(&mut self, packed: &[u8]) -> Result<(), CatalogError> {
        let mut json = Vec::new();
        let unpacked = flate2::read::GzDecoder::new(packed).read_to_end(&mut json);
        // A test reads both files.
        unpacked.expect("the build has packed it");
        self.add_file(serde_json::from_slice(&json).expect("a built-in catalog has the file's form"))
    }

    fn add_file(&mut self, file: File) -> Result<(), CatalogError> {
        for mut model in file.models {
            if model.source_date.is_empty() {
                model.source_date.clone_from(&file.source_date);
            }
            add_model(self, model)?;
        }
        file.plans.into_iter().try_for_each(|plan| add_plan(self, plan))
    }
}

fn add_model(contents: &mut Contents, model: ModelEntry) -> Result<(), CatalogError> {
    check_date(&model.source_date, &model.name)?;
    for entry in model.prices {
        let (rates, above) = all_rates(&entry.per_million, &entry.per_unit, &entry.above, entry.id)?;
        contents.prices.push(Price {
            id: entry.id,
            provider: model.provider.clone(),
            model: model.name.clone(),
            above,
            service_tier: entry.service_tier,
            effective_from_us: effective_from(entry.effective_from.as_deref(), &model.name)?,
            rates,
            plan: None,
            source: model.source.clone(),
            source_date: model.source_date.clone(),
            origin: PriceOrigin::Builtin,
        });
    }
    let provider = &model.provider;
    contents.aliases.extend(model.aliases.into_iter().map(|alias| Alias {
        provider: provider.clone(),
        alias,
        model: model.name.clone(),
    }));
    Ok(())
}

fn add_plan(contents: &mut Contents, plan: PlanEntry) -> Result<(), CatalogError> {
    let name = plan.name.name();
    check_date(&plan.source_date, name)?;
    let effective_from_us = effective_from(plan.effective_from.as_deref(), name)?;
    let overage = not_negative(plan.request, plan.id)?;
    contents.plans.push(PlanTerms {
        plan: plan.name,
        price_id: plan.id,
        effective_from_us,
        monthly: not_negative(plan.monthly, plan.id)?,
        included_requests: plan.included_requests,
        overage,
    });
    contents.prices.push(Price {
        id: plan.id,
        provider: plan.provider,
        model: String::new(),
        service_tier: standard(),
        effective_from_us,
        rates: Rates { request: Some(overage), ..Rates::default() },
        above: Vec::new(),
        plan: Some(plan.name),
        source: plan.source,
        source_date: plan.source_date,
        origin: PriceOrigin::Builtin,
    });
    Ok(())
}

fn check_date(text: &str, entry: &str) -> Result<(), CatalogError> {
    text.parse::<NaiveDate>().map(drop).map_err(|_| date_error(text, entry))
}
