//! Public price lists: the two maps that most tools use, read exactly and compared before anything changes.
//!
//! | module | reads |
//! |---|---|
//! | [`litellm`] | LiteLLM's `model_prices_and_context_window.json`: USD per token |
//! | [`genai`] | genai-prices' `data.json`: USD per million tokens, tiers, start dates |
//! | [`diff`](mod@diff) | the changes of a list |
//!
//! Rates are read from the digits of the file, never through a binary float. Fields with unknown rates are reported,
//! each with its number of occurrences. Their units do not have a rate, so a call with such a unit is unpriced, and the
//! model's other calls are priced. Every model that cannot be imported is reported with the reason.
//!
//! A list has present prices without their start, so the caller states the first instant of the import.

pub mod diff;
mod genai;
mod litellm;

use std::collections::{BTreeMap, HashMap};

use crate::json::{self, Value};

pub use diff::{ChangeKind, ListChange, diff};

use super::catalog::{PriceOrigin, PriceSpec, Rates, SizeTier};
use super::{CatalogError, Usd};

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// LiteLLM's map.
    Litellm,
    /// genai-prices' list.
    Genai,
}

/// Options of an import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Providers, by the names that records are stored under; empty for all.
    pub providers: Vec<String>,
    /// The first instant of the prices, microseconds since 1970 UTC.
    pub from_us: i64,
    /// The list's address or file, stored as the prices' source.
    pub source: String,
    /// The date of the import, `YYYY-MM-DD`.
    pub source_date: String,
}

impl ImportOptions {
    fn wants(&self, provider: &str) -> bool {
        self.providers.is_empty() || self.providers.iter().any(|wanted| wanted == provider)
    }
}

/// The content of a list.
#[derive(Debug, Default)]
pub struct Imported {
    /// Models of the list with a price.
    pub priced: usize,
    /// Models with an imported price.
    pub taken: usize,
    /// The prices.
    pub specs: Vec<PriceSpec>,
    /// Unread fields, each with its number of models.
    pub unread: BTreeMap<String, usize>,
    /// Models that were left out, each with the reason.
    pub skipped: Vec<(String, String)>,
    /// The counts of the current model.
    counts: usize,
    /// The prices by key, each with whether the list names the provider before the model.
    by_key: HashMap<(String, String, String, i64), (usize, bool)>,
}

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The text is not JSON.
    #[error("the price list is not JSON: {0}")]
    Json(#[from] json::Error),
    /// It is neither of the known forms.
    #[error(
        "the price list is neither LiteLLM's map (an object of models) nor genai-prices' list (an array of providers)"
    )]
    Form,
}

/// Reads a list, whose form follows from its outermost bracket.
///
/// # Errors
/// [`ImportError`].
pub fn read(text: &str, options: &ImportOptions) -> Result<(ListFormat, Imported), ImportError> {
    match json::from_str(text)? {
        Value::Object(models) => Ok((ListFormat::Litellm, litellm::read(&models, options))),
        Value::Array(providers) => Ok((ListFormat::Genai, genai::read(&providers, options))),
        _ => Err(ImportError::Form),
    }
}

impl Imported {
    fn unread(&mut self, field: &str) {
        *self.unread.entry(field.to_owned()).or_default() += 1;
    }

    fn skip(&mut self, model: &str, reason: impl ToString) {
        self.skipped.push((model.to_owned(), reason.to_string()));
    }

    /// Begins a model.
    fn entry(&mut self, is_priced: bool) {
        self.counts = usize::from(is_priced);
        self.priced += self.counts;
    }

    /// Adds a price, or reports it as skipped. `is_named` is true if the list names the provider before the model. Such
    /// an entry is preferred; of other different entries the first is taken, and the second reported.
    fn take(&mut self, mut spec: PriceSpec, is_named: bool) {
        fill_tiers(&mut spec);
        let is_zero = |rates: &Rates| rates.iter().all(|(_, rate)| rate == Usd::ZERO);
        match super::catalog::check(&spec.clone().with_id(0, PriceOrigin::Stored)) {
            Err(CatalogError::NoRates { .. }) => {
                return self
                    .skip(&spec.model, format!("its {} tier has no rate that tallyd prices by", spec.service_tier));
            }
            Err(error) => return self.skip(&spec.model, error),
            Ok(()) if is_zero(&spec.rates) && spec.above.iter().all(|above| is_zero(&above.rates)) => {
                return self.skip(&spec.model, "each of its rates is 0, which lists write where no price is known");
            }
            Ok(()) => {}
        }
        self.taken += std::mem::take(&mut self.counts);
        let key = (spec.provider.clone(), spec.model.clone(), spec.service_tier.clone(), spec.effective_from_us);
        match self.by_key.get(&key) {
            None => {
                self.by_key.insert(key, (self.specs.len(), is_named));
                self.specs.push(spec);
            }
            Some((at, _)) if self.specs[*at].charges_as(&spec.clone().with_id(0, PriceOrigin::Stored)) => {}
            Some((at, false)) if is_named => {
                let at = *at;
                self.specs[at] = spec;
                self.by_key.insert(key, (at, true));
            }
            Some(_) => {
                self.skip(&spec.model, "the list has another price of it, under another spelling, which is taken");
            }
        }
    }
}

/// Both lists omit a tier's rate if it equals that of smaller prompts.
fn fill_tiers(spec: &mut PriceSpec) {
    let base = &spec.rates;
    for tier in &mut spec.above {
        let rates = &mut tier.rates;
        if rates.iter().next().is_none() {
            // This size has no known rates.
            continue;
        }
        for (mine, below) in [
            (&mut rates.input, base.input),
            (&mut rates.output, base.output),
            (&mut rates.cache_read, base.cache_read),
            (&mut rates.cache_write_5m, base.cache_write_5m),
            (&mut rates.cache_write_1h, base.cache_write_1h),
        ] {
            *mine = below.and_then(|below| mine.or(Some(below)));
        }
        rates.request = base.request;
        rates.extra.clone_from(&base.extra);
    }
    spec.above.sort_by_key(|tier| tier.prompt_tokens);
}

/// The rates above a prompt size, added if missing.
fn tier_mut(above: &mut Vec<SizeTier>, prompt_tokens: u64) -> &mut Rates {
    let at = above.iter().position(|tier| tier.prompt_tokens == prompt_tokens).unwrap_or_else(|| {
        above.push(SizeTier { prompt_tokens, rates: Rates::default() });
        above.len() - 1
    });
    &mut above[at].rates
}

/// A number's digits in the file, divided by a power of ten.
fn amount(text: &str, per: i128) -> Result<Usd, String> {
    let usd = Usd::parse(text).map_err(|error| format!("{text}: {error}"))?;
    if usd < Usd::ZERO || usd.attos() % per != 0 {
        return Err(format!("{text} divided by {per} cannot be held exactly, or is negative"));
    }
    Ok(Usd::from_attos(usd.attos() / per))
}

#[cfg(test)]
mod tests;
