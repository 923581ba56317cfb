//! Price lists of others: the two public maps that most tools use, read exactly and compared before anything changes.
//!
//! | module | reads |
//! |---|---|
//! | [`litellm`] | LiteLLM's `model_prices_and_context_window.json`: USD a token |
//! | [`genai`] | genai-prices' `data.json`: USD a million tokens, tiers, start dates |
//! | [`diff`](mod@diff) | the changes of a list |
//!
//! Rates are read from the digits of the file, never through a binary float. Fields of a list that tallyd does not price are not
//! dropped in silence: each is named with its number of occurrences. Its unit has no rate, so a call with the unit is unpriced,
//! and the model's other calls are priced. Every model that cannot be imported is
//! named with the reason.
//!
//! A list states present prices, not their start: the import names the instant from which they hold.

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

/// Prices taken from a list.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Providers, by the names that records are stored under; empty for all.
    pub providers: Vec<String>,
    /// From when on the prices hold, microseconds since 1970 UTC.
    pub from_us: i64,
    /// Where the list is from, for the record.
    pub source: String,
    /// The date at which it was read, `YYYY-MM-DD`.
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
    /// Models of the list that have a price.
    pub priced: usize,
    /// Those of them of which a price is taken.
    pub taken: usize,
    /// The prices.
    pub specs: Vec<PriceSpec>,
    /// Fields that were not read, and of how many models.
    pub unread: BTreeMap<String, usize>,
    /// Models that were not taken, and why.
    pub skipped: Vec<(String, String)>,
    /// The counts of the model that is being read.
    counts: usize,
    /// The prices by their keys, and whether the list names the provider before the model.
    by_key: HashMap<(String, String, String, i64), (usize, bool)>,
}

/// Why a list is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not JSON.
    #[error("the price list is not JSON: {0}")]
    Json(#[from] json::Error),
    /// It is neither of the known forms.
    #[error(
        "the price list is neither LiteLLM's map (an object of models) nor genai-prices' list (an array of providers)"
    )]
    Form,
}

/// Reads a list. Its form is told from its outermost bracket.
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

    /// Begins with a model.
    fn entry(&mut self, is_priced: bool) {
        self.counts = usize::from(is_priced);
        self.priced += self.counts;
    }

    /// Takes a price, or names it among the skipped. `is_named`: the list names the provider before the model. Such an
    /// entry is preferred to one without; of others that differ, the first is taken, and the second named.
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

/// Both lists leave a rate out of a tier where it is that of smaller prompts.
fn fill_tiers(spec: &mut PriceSpec) {
    let base = &spec.rates;
    for tier in &mut spec.above {
        let rates = &mut tier.rates;
        if rates.iter().next().is_none() {
            // Nothing is known of this size.
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

/// The rates above a prompt size, made if they are not there yet.
fn tier_mut(above: &mut Vec<SizeTier>, prompt_tokens: u64) -> &mut Rates {
    let at = above.iter().position(|tier| tier.prompt_tokens == prompt_tokens).unwrap_or_else(|| {
        above.push(SizeTier { prompt_tokens, rates: Rates::default() });
        above.len() - 1
    });
    &mut above[at].rates
}

/// The number as it is written in the file, divided by a power of ten.
fn amount(text: &str, per: i128) -> Result<Usd, String> {
    let usd = Usd::parse(text).map_err(|error| format!("{text}: {error}"))?;
    if usd < Usd::ZERO || usd.attos() % per != 0 {
        return Err(format!("{text} divided by {per} cannot be held exactly, or is negative"));
    }
    Ok(Usd::from_attos(usd.attos() / per))
}

#[cfg(test)]
mod tests;
