//! A price that states only changes: other rates come from the present price.
//!
//! Otherwise a statement of input and output alone would leave cached tokens without a rate, and make each call with
//! them unpriced. Rates of larger prompts work the same way: unnamed ones stay.

use super::{Catalog, CatalogError, Price, PriceOrigin, PriceSpec, Rates, SizeTier, check};

/// A stated price beside the price that it follows.
#[derive(Debug, Clone)]
pub struct Amended {
    /// The price as it is to be added.
    pub spec: PriceSpec,
    /// The present price at that instant; none if the model does not have one then.
    pub old: Option<Price>,
    /// The rates of `old` that the statement does not name, `cache_read` or `above 200000: cache_read`. They are kept,
    /// or lost if the statement replaces the price.
    pub unnamed: Vec<Unnamed>,
}

/// A rate that a statement does not name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnamed {
    /// The size of prompts beyond which the rate holds; none: it is the usual rate.
    pub above: Option<u64>,
    /// The token bucket, `request`, or another unit.
    pub unit: String,
}

impl std::fmt::Display for Unnamed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.above {
            Some(size) => write!(out, "above {size}: {}", self.unit),
            None => out.write_str(&self.unit),
        }
    }
}

impl Catalog {
    /// The stated price, with its missing rates from the present price at its instant. With `replace` the statement is
    /// the whole price.
    ///
    /// # Errors
    /// [`CatalogError`] if the result is not a valid price.
    pub fn amend(&self, stated: &PriceSpec, replace: bool) -> Result<Amended, CatalogError> {
        let old = self.price_at(&stated.provider, &stated.model, &stated.service_tier, stated.effective_from_us);
        let names_nothing = stated.rates.is_empty() && stated.above.iter().all(|tier| tier.rates.is_empty());
        if names_nothing {
            return Err(CatalogError::NoRates { id: 0 });
        }
        let mut spec = stated.clone();
        if let Some(old) = old.filter(|_| !replace) {
            for tier in &old.above {
                if spec.above.iter().all(|stated| stated.prompt_tokens != tier.prompt_tokens) {
                    spec.above.push(SizeTier { prompt_tokens: tier.prompt_tokens, rates: Rates::default() });
                }
            }
            spec.above.sort_by_key(|tier| tier.prompt_tokens);
            spec.complete(old);
            spec.check_sizes()?;
        }
        check(&spec.clone().with_id(0, PriceOrigin::Stored))?;
        let unnamed = old.map_or_else(Vec::new, |old| stated.unnamed_of(old));
        Ok(Amended { spec, old: old.cloned(), unnamed })
    }
}

impl PriceSpec {
    /// Takes missing rates from the present price. Sizes of prompts that it does not state are not added.
    pub fn complete(&mut self, price: &Price) {
        for tier in &mut self.above {
            // Stated units now cost the same for any prompt size.
            let stated = Rates { request: self.rates.request, extra: self.rates.extra.clone(), ..Rates::default() };
            complete(&mut tier.rates, &stated);
            complete(&mut tier.rates, price.rates_for(tier.prompt_tokens.saturating_add(1)));
        }
        complete(&mut self.rates, &price.rates);
    }

    /// Names the bucket that larger prompts do not have a rate for.
    fn check_sizes(&self) -> Result<(), CatalogError> {
        for tier in &self.above {
            let rates = tier.rates.token_rates().into_iter().zip(self.rates.token_rates());
            for ((bucket, above), (_, base)) in rates {
                if above.is_some() != base.is_some() {
                    let prompt_tokens = if above.is_some() { 0 } else { tier.prompt_tokens };
                    return Err(CatalogError::SizeLacks { prompt_tokens, bucket });
                }
            }
        }
        Ok(())
    }

    fn unnamed_of(&self, old: &Price) -> Vec<Unnamed> {
        let base = old.rates.iter().filter(|(unit, _)| self.rates.rate(unit).is_none());
        let mut unnamed: Vec<_> = base.map(|(unit, _)| Unnamed { above: None, unit: unit.to_owned() }).collect();
        for tier in &old.above {
            let stated = self.above.iter().find(|stated| stated.prompt_tokens == tier.prompt_tokens);
            // Units cost the same for any prompt size.
            let buckets = tier.rates.token_rates().into_iter().filter(|(_, rate)| rate.is_some());
            let lacks = |bucket: &str| stated.is_none_or(|stated| stated.rates.rate(bucket).is_none());
            let lacking = buckets.filter(|(bucket, _)| lacks(bucket));
            unnamed.extend(lacking.map(|(unit, _)| Unnamed { above: Some(tier.prompt_tokens), unit: unit.to_owned() }));
        }
        unnamed
    }
}

fn complete(rates: &mut Rates, known: &Rates) {
    for (mine, known) in [
        (&mut rates.input, known.input),
        (&mut rates.output, known.output),
        (&mut rates.cache_read, known.cache_read),
        (&mut rates.cache_write_5m, known.cache_write_5m),
        (&mut rates.cache_write_1h, known.cache_write_1h),
        (&mut rates.request, known.request),
    ] {
        *mine = mine.or(known);
    }
    for (unit, rate) in &known.extra {
        if !rates.extra.iter().any(|(mine, _)| mine == unit) {
            rates.extra.push((unit.clone(), *rate));
        }
    }
}
