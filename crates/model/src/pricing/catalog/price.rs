//! One price: the cost of each unit of one model, for one service tier, from one instant on.

use serde_json::{Map, Value, json};

use crate::pricing::money::Usd;
use crate::pricing::plan::Plan;

/// Token rates are quoted and shown per this number of tokens.
pub(super) const MILLION: i128 = 1_000_000;

/// One price of the catalog, in the form of `api_prices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Identifies the price in stored rows, and is never reused.
    pub id: i32,
    /// The provider's stored name.
    pub provider: String,
    /// The model's family name; empty if the provider prices all of its calls alike.
    pub model: String,
    /// `standard`, `batch` …
    pub service_tier: String,
    /// The first instant of the price, microseconds since 1970 UTC; 0 if no earlier one is known.
    pub effective_from_us: i64,
    /// The rates of prompts up to the first entry of `above`.
    pub rates: Rates,
    /// The rates of larger prompts, by rising size.
    pub above: Vec<SizeTier>,
    /// The plan of the price, if the provider bills by plan.
    pub plan: Option<Plan>,
    /// Where the figures come from.
    pub source: String,
    /// The date of that evidence, `YYYY-MM-DD`.
    pub source_date: String,
    /// Its origin.
    pub origin: PriceOrigin,
}

/// The origin of a price, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PriceOrigin {
    /// The catalog that is compiled in.
    Builtin,
    /// `pricing.prices` of the configuration.
    Config,
    /// A row that was added to `api_prices`.
    Stored,
}

impl PriceOrigin {
    /// The value of `api_prices.origin`; stored rows have more precise ones.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Config => "config",
            Self::Stored => "stored",
        }
    }
}

/// The cost of one unit; none without a rate. Never negative.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rates {
    /// One input token.
    pub input: Option<Usd>,
    /// One output token.
    pub output: Option<Usd>,
    /// One token read from a cache.
    pub cache_read: Option<Usd>,
    /// One token written to a cache for 5 minutes.
    pub cache_write_5m: Option<Usd>,
    /// One token written to a cache for an hour.
    pub cache_write_1h: Option<Usd>,
    /// One request. None: requests as such are not billed.
    pub request: Option<Usd>,
    /// One of any other unit, by its name.
    pub extra: Vec<(String, Usd)>,
}

/// Rates for the *whole* request if its prompt is larger than `prompt_tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeTier {
    /// The largest prompt to which these rates do *not* yet apply.
    pub prompt_tokens: u64,
    /// The rates above it.
    pub rates: Rates,
}

impl Price {
    /// The rates for a request, by the size of its prompt.
    #[must_use]
    pub fn rates_for(&self, prompt_tokens: u64) -> &Rates {
        let reached = self.above.iter().rev().find(|tier| prompt_tokens > tier.prompt_tokens);
        reached.map_or(&self.rates, |tier| &tier.rates)
    }

    /// The rates as the JSON of `api_prices.rates`; amounts are decimal text: `{"per_million_tokens": {"input": "3"},
    /// "per_unit": {"web_search": "0.01"}, "above": [{"prompt_tokens": 200000, "per_million_tokens": {…}}], "plan":
    /// "growth"}`. Empty parts are left off.
    #[must_use]
    pub fn rates_json(&self) -> Value {
        let mut object = self.rates.json();
        if !self.above.is_empty() {
            let above = self.above.iter().map(|tier| {
                let mut object = tier.rates.json();
                object.insert("prompt_tokens".into(), json!(tier.prompt_tokens));
                Value::Object(object)
            });
            object.insert("above".into(), above.collect());
        }
        if let Some(plan) = self.plan {
            object.insert("plan".into(), json!(plan.name()));
        }
        Value::Object(object)
    }
}

impl Rates {
    /// The token rates with their buckets' names.
    #[must_use]
    pub fn token_rates(&self) -> [(&'static str, Option<Usd>); 5] {
        // Exhaustive: a new bucket does not compile until it has a name here.
        let Self { input, output, cache_read, cache_write_5m, cache_write_1h, request: _, extra: _ } = self;
        [
            ("input", *input),
            ("output", *output),
            ("cache_read", *cache_read),
            ("cache_write_5m", *cache_write_5m),
            ("cache_write_1h", *cache_write_1h),
        ]
    }

    /// Every unit with a rate: the token buckets by their names, `request`, and the others.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Usd)> {
        let tokens = self.token_rates().into_iter().filter_map(|(name, rate)| Some((name, rate?)));
        let request = self.request.map(|rate| ("request", rate));
        tokens.chain(request).chain(self.extra.iter().map(|(unit, rate)| (unit.as_str(), *rate)))
    }

    /// The rate of a unit by its name.
    #[must_use]
    pub fn rate(&self, unit: &str) -> Option<Usd> {
        self.iter().find(|(name, _)| *name == unit).map(|(_, rate)| rate)
    }

    /// Sets the rate of a unit by its name.
    pub fn set(&mut self, unit: &str, rate: Usd) {
        match self.bucket_mut(unit) {
            Some(bucket) => *bucket = Some(rate),
            None => match self.extra.iter_mut().find(|(name, _)| name == unit) {
                Some((_, known)) => *known = rate,
                None => self.extra.push((unit.to_owned(), rate)),
            },
        }
    }

    /// Removes the rate of a unit.
    pub fn remove(&mut self, unit: &str) -> Option<Usd> {
        if let Some(bucket) = self.bucket_mut(unit) {
            return bucket.take();
        }
        let at = self.extra.iter().position(|(name, _)| name == unit)?;
        Some(self.extra.remove(at).1)
    }

    fn bucket_mut(&mut self, unit: &str) -> Option<&mut Option<Usd>> {
        Some(match unit {
            "input" => &mut self.input,
            "output" => &mut self.output,
            "cache_read" => &mut self.cache_read,
            "cache_write_5m" => &mut self.cache_write_5m,
            "cache_write_1h" => &mut self.cache_write_1h,
            "request" => &mut self.request,
            _ => return None,
        })
    }

    /// Mutable token rates.
    pub fn token_rates_mut(&mut self) -> [&mut Option<Usd>; 5] {
        [&mut self.input, &mut self.output, &mut self.cache_read, &mut self.cache_write_5m, &mut self.cache_write_1h]
    }

    /// True if no unit has a rate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// True if every unit costs the same; the order of `extra` does not count.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let extra = |rates: &Self| {
            let mut extra = rates.extra.clone();
            extra.sort();
            extra
        };
        self.token_rates() == other.token_rates() && self.request == other.request && extra(self) == extra(other)
    }

    fn json(&self) -> Map<String, Value> {
        let tokens = self.token_rates().into_iter().filter_map(|(name, rate)| {
            // The rate was quoted per million tokens, so this product is the quoted number.
            Some((name.to_owned(), json!(rate?.checked_mul(MILLION)?)))
        });
        let request = self.request.map(|rate| ("request".to_owned(), json!(rate)));
        let extra = self.extra.iter().map(|(unit, rate)| (unit.clone(), json!(rate)));
        let parts: [(&str, Map<String, Value>); 2] =
            [("per_million_tokens", tokens.collect()), ("per_unit", request.into_iter().chain(extra).collect())];
        let parts = parts.into_iter().filter(|(_, rates)| !rates.is_empty());
        parts.map(|(name, rates)| (name.to_owned(), Value::Object(rates))).collect()
    }
}
