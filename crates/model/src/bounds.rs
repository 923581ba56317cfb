//! The bounds of the cost of unpriced calls: the cheapest and the dearest price that might apply to them.
//!
//! *Prices.* Those of the model itself, if the catalog has them for the day; otherwise those of every model of the provider.
//! All service tiers and prompt sizes count, because the sums of calls have neither. A price must have a rate for each used
//! unit. So calls with output are not compared with models of embeddings, which have a rate for input alone.
//!
//! *Limits.* Units other than tokens and requests are not in the sums: the caller must know that the calls do not have them.

use crate::change::list_cost;
use crate::pricing::{Catalog, Usd};

/// A cost, and the model whose price it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The cost.
    pub usd: Usd,
    /// The model; empty for a provider with one price for all calls.
    pub model: String,
}

/// The least and the largest cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// By the cheapest price.
    pub low: Bound,
    /// By the dearest price.
    pub high: Bound,
}

/// The bounds of usage at an instant, with tokens in the order of [`Rates::token_rates`](crate::pricing::catalog::Rates::token_rates).
/// None if no price of the provider has a rate for each used unit.
#[must_use]
pub fn bounds(
    catalog: &Catalog,
    (provider, model): (&str, &str),
    at_us: i64,
    (tokens, requests): (&[i128; 5], i128),
) -> Option<Bounds> {
    let of = |model: Option<&str>| {
        let mut found: Option<Bounds> = None;
        for price in catalog.prices_at(provider, model, at_us) {
            for rates in price.above.iter().map(|tier| &tier.rates).chain([&price.rates]) {
                let Some(usd) = list_cost(rates, tokens, requests) else { continue };
                let bound = || Bound { usd, model: price.model.clone() };
                let Bounds { low, high } = found.get_or_insert_with(|| Bounds { low: bound(), high: bound() });
                if usd < low.usd {
                    *low = bound();
                }
                if usd > high.usd {
                    *high = bound();
                }
            }
        }
        found
    };
    of(Some(model)).or_else(|| of(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::PricingOptions;

    const PRICES: &str = r#"
        [[model]]
        provider = "p"
        name = "small"
        source = "s"
        source_date = "2026-01-01"
        [[model.price]]
        id = 1
        per_million = { input = "1", output = "2" }
        [[model.price]]
        id = 2
        service_tier = "batch"
        per_million = { input = "0.5", output = "1" }

        [[model]]
        provider = "p"
        name = "large"
        source = "s"
        source_date = "2026-01-01"
        [[model.price]]
        id = 3
        per_million = { input = "10", output = "20" }
        [[model.price.above]]
        prompt_tokens = 200000
        per_million = { input = "20", output = "40" }

        [[model]]
        provider = "p"
        name = "embedding"
        source = "s"
        source_date = "2026-01-01"
        [[model.price]]
        id = 4
        per_million = { input = "0.01" }

        [[plan]]
        provider = "rentcast"
        name = "developer"
        id = 5
        monthly = "0"
        included_requests = 50
        request = "0.20"
        source = "s"
        source_date = "2026-01-01"
    "#;

    #[test]
    fn unpriced_usage_lies_between_the_cheapest_and_the_dearest_price_that_rates_its_units() {
        let catalog = Catalog::parse(PRICES, &PricingOptions::default()).unwrap();
        let of = |provider: &str, model: &str, input: i128, output: i128, cache_read: i128| {
            let tokens = [input, output, cache_read, 0, 0];
            let found = bounds(&catalog, (provider, model), 1, (&tokens, 1))?;
            let told = |bound: Bound| format!("{} {}", bound.usd, bound.model);
            Some((told(found.low), told(found.high)))
        };
        let expected = |low: &str, high: &str| Some((low.to_owned(), high.to_owned()));
        // A model of embeddings does not have a price of output, and large prompts have their own.
        assert_eq!(of("p", "new", 1_000_000, 1_000_000, 0), expected("1.5 small", "60 large"));
        assert_eq!(of("p", "new", 1_000_000, 0, 0), expected("0.01 embedding", "20 large"));
        // The model's own prices are nearer.
        assert_eq!(of("p", "small", 1_000_000, 0, 0), expected("0.5 small", "1 small"));
        // Its prices do not rate output, but those of others do.
        assert_eq!(of("p", "embedding", 0, 1_000_000, 0), expected("1 small", "40 large"));
        assert_eq!(of("p", "new", 1, 0, 1), None);
        assert_eq!(of("q", "new", 1, 0, 0), None);
        assert_eq!(of("rentcast", "", 0, 0, 0), expected("0.2 ", "0.2 "));
    }
}
