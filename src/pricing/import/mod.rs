//! Price lists of others: the two public maps that most tools use, read exactly and compared before anything changes.
//!
//! | module | reads |
//! |---|---|
//! | [`litellm`] | LiteLLM's `model_prices_and_context_window.json`: USD a token |
//! | [`genai`] | genai-prices' `data.json`: USD a million tokens, tiers, start dates |
//! | [`diff`](mod@diff) | what a list would change |
//!
//! Rates are read from the digits of the file, never through a binary float. What a list has beyond what tallyd prices
//! (images, audio, regions) is not dropped in silence: every field that is not read is named, with how often it occurs,
//! and every model that cannot be imported, with the reason.
//!
//! A list states what holds now, not since when: whoever imports says from which instant on its prices are to hold.

pub mod diff;
mod genai;
mod litellm;

use std::collections::BTreeMap;

use serde_json::{Number, Value};

pub use diff::{Change, ChangeKind, diff};

use super::catalog::{Origin, PriceSpec, Rates, SizeTier};
use super::{CatalogError, Usd};

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// LiteLLM's map.
    Litellm,
    /// genai-prices' list.
    Genai,
}

/// What is taken from a list.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Providers, by the names that records are stored under.
    pub providers: Vec<String>,
    /// From when on the prices hold, microseconds since 1970 UTC.
    pub from_us: i64,
    /// Where the list is from, for the record.
    pub source: String,
    /// The date at which it was read, `YYYY-MM-DD`.
    pub source_date: String,
}

/// What a list says.
#[derive(Debug, Default)]
pub struct Imported {
    /// The prices.
    pub specs: Vec<PriceSpec>,
    /// Fields that were not read, and of how many models.
    pub unread: BTreeMap<String, usize>,
    /// Models that were not taken, and why.
    pub skipped: Vec<(String, String)>,
}

/// Why a list is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not JSON.
    #[error("the price list is not JSON: {0}")]
    Json(#[from] serde_json::Error),
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
pub fn read(text: &str, options: &ImportOptions) -> Result<(Format, Imported), ImportError> {
    match serde_json::from_str(text)? {
        Value::Object(models) => Ok((Format::Litellm, litellm::read(&models, options))),
        Value::Array(providers) => Ok((Format::Genai, genai::read(&providers, options))),
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

    /// Takes a price, or names it among the skipped.
    fn take(&mut self, mut spec: PriceSpec) {
        fill_tiers(&mut spec);
        match super::catalog::check(&spec.clone().with_id(0, Origin::Stored)) {
            Ok(()) => self.specs.push(spec),
            Err(CatalogError::NoRates { .. }) => self.skip(&spec.model, "it has no rate that tallyd prices by"),
            Err(error) => self.skip(&spec.model, error),
        }
    }
}

/// Both lists leave a rate out of a tier where it is that of smaller prompts.
fn fill_tiers(spec: &mut PriceSpec) {
    let base = &spec.rates;
    for tier in &mut spec.above {
        let rates = &mut tier.rates;
        for (mine, below) in [
            (&mut rates.input, base.input),
            (&mut rates.output, base.output),
            (&mut rates.cache_read, base.cache_read),
            (&mut rates.cache_write_5m, base.cache_write_5m),
            (&mut rates.cache_write_1h, base.cache_write_1h),
        ] {
            *mine = mine.or(below);
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
fn amount(number: &Number, per: i128) -> Result<Usd, String> {
    let text = number.to_string();
    let usd = Usd::parse(&text).map_err(|error| format!("{text}: {error}"))?;
    if usd < Usd::ZERO || usd.attos() % per != 0 {
        return Err(format!("{text} divided by {per} cannot be held exactly, or is negative"));
    }
    Ok(Usd::from_attos(usd.attos() / per))
}

#[cfg(test)]
mod tests;
