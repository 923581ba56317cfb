//! The price catalog: every known price, and the one that applies to a call.
//!
//! *Which price.* The model is looked up by its exact name or alias, then without a date suffix, then by the meaning of its
//! spelling ([`names`]). The rest is a documented name, or the model is unknown. Nothing is guessed from
//! resemblance: `claude-sonnet-4-9` does not cost the same as `claude-sonnet-4` costs. Where a platform runs the model and bills
//! for it, the platform stands for the provider: a platform's prices have its name. A provider that prices all of its calls alike (its
//! entry has no model name) is found for any model of the call. Of the model's prices for the call's service tier,
//! the last one that took effect by the time of the call applies. Before the first one there is none: a call of that time is
//! unpriced. A price without an instant holds for all time.
//!
//! *How fast.* A record is priced while it is decoded, so a lookup hashes borrowed text, allocates nothing, and then
//! walks lists of one or two entries.
//!
//! *Layers.* Built-in prices, over them those of the configuration, over both those of `api_prices`. From the instant of
//! its first price on, a layer replaces the layers below it for that model and service tier, including their later prices. A
//! stated price must not give way to a change of the vendor's list. Before that instant, the layers below hold.
//!
//! *What changes it.* A catalog is immutable. A correction builds a new one and swaps it in; ids stay, because stored
//! rows refer to them.

mod amend;
pub mod entry;
mod error;
mod file;
mod price;
mod stored;

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use hashbrown::{Equivalent, HashMap};

pub use self::amend::{Amended, Unnamed};
pub use self::entry::{AboveEntry, ModelAlias, PriceEntry, PriceSpec, PricingOptions, TokenRates};
pub use self::error::CatalogError;
pub use self::price::{Price, PriceOrigin, Rates, SizeTier};
pub use self::stored::{Added, StoredPrice};
use super::names;
use super::plan::{Plan, PlanTerms};

/// The catalog that is compiled in: entries kept by people, and entries from public lists.
const BUILTIN: [&str; 2] = [include_str!("../catalog.toml"), include_str!("lists.toml")];

/// The catalog that is compiled in, read once: it has thousands of prices, and every change of a price makes a catalog.
static CONTENTS: LazyLock<Result<file::Contents, CatalogError>> = LazyLock::new(|| {
    let mut contents = file::Contents::default();
    BUILTIN.iter().try_for_each(|text| contents.add(text)).map(|()| contents)
});

/// Another name of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The provider's stored name.
    pub provider: String,
    /// The other name.
    pub alias: String,
    /// The name under which the model's prices stand.
    pub model: String,
}

/// Every known price. See the module's header for how one is chosen.
#[derive(Debug, Clone)]
pub struct Catalog {
    prices: Vec<Price>,
    plans: Vec<PlanTerms>,
    models: Vec<Vec<TierPrices>>,
    by_name: HashMap<Name, usize>,
    providers: HashSet<String>,
}

/// A model's prices for one service tier, by rising `effective_from_us`, as indices into [`Catalog::prices`].
#[derive(Debug, Clone)]
struct TierPrices {
    service_tier: String,
    prices: Vec<usize>,
}

/// The key of a model's look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    provider: String,
    model: String,
}

/// [`Name`], borrowed: the two hash alike.
struct NameRef<'a>(&'a str, &'a str);

impl Hash for NameRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NameRef(&self.provider, &self.model).hash(state);
    }
}

impl Equivalent<Name> for NameRef<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        // Model names are often empty, and an empty `String` points nowhere: libc's vectorised comparison of no bytes
        // there costs 130 ns on processors that have to suppress the fault.
        let same_model = self.1.len() == name.model.len() && (self.1.is_empty() || self.1 == name.model);
        self.0 == name.provider && same_model
    }
}

/// Why no price was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    Provider,
    Model,
    ServiceTier,
    Instant,
}

impl Catalog {
    /// The catalog that is compiled in, with the configured prices over it.
    ///
    /// # Errors
    /// Without configured prices none in a build that passed its tests: they build it for every plan.
    pub fn builtin(options: &PricingOptions) -> Result<Self, CatalogError> {
        Self::layered(options, &Added::default()).map(|(catalog, _)| catalog)
    }

    /// The built-in catalog, the configured prices and names over it, and over both the prices added at run time. Of stored prices
    /// that begin at the same instant the one with the highest id counts. A stored row that is not a price is left out,
    /// and returned with the reason: one bad row must not keep all others from being applied.
    ///
    /// # Errors
    /// [`CatalogError`] if the configured prices are wrong, or ids stand twice.
    pub fn layered(options: &PricingOptions, added: &Added) -> Result<(Self, Vec<CatalogError>), CatalogError> {
        let file::Contents { mut prices, aliases, plans } = CONTENTS.clone()?;
        let configured = options.prices.iter().map(|entry| entry.spec().map(PriceSpec::with_derived_id));
        let mut upper = configured.collect::<Result<Vec<_>, _>>()?;
        let mut faults = Vec::new();
        for row in &added.prices {
            match row.price() {
                Ok(price) => upper.push(price),
                Err(error) => faults.push(error),
            }
        }
        for price in &mut upper {
            if let Some(alias) = aliases.iter().find(|a| a.provider == price.provider && a.alias == price.model) {
                price.model.clone_from(&alias.model);
            }
        }
        let place = |price: &Price| (price.origin, price.effective_from_us);
        upper.sort_by_key(|price| (place(price), price.id));
        // Of the prices of one place, the last one stays.
        upper.reverse();
        let mut seen = HashSet::new();
        upper.retain(|p| seen.insert((place(p), p.provider.clone(), p.model.clone(), p.service_tier.clone())));
        upper.reverse();
        prices.extend(upper);
        let mut catalog = Self::new(prices, &aliases, plans, options)?;
        for alias in options.aliases.iter().chain(&added.aliases) {
            faults.extend(catalog.add_name(alias).err());
        }
        Ok((catalog, faults))
    }

    /// Reads a catalog file.
    ///
    /// # Errors
    /// [`CatalogError`] if the text does not have the file's form, or its entries contradict each other.
    pub fn parse(text: &str, options: &PricingOptions) -> Result<Self, CatalogError> {
        let mut contents = file::Contents::default();
        contents.add(text)?;
        let file::Contents { prices, aliases, plans } = contents;
        Self::new(prices, &aliases, plans, options)
    }

    /// Builds a catalog. Prices of one model and service tier must come in the order in which they took effect.
    ///
    /// # Errors
    /// [`CatalogError`] if the prices contradict each other.
    pub fn new(
        prices: Vec<Price>,
        aliases: &[Alias],
        plans: Vec<PlanTerms>,
        options: &PricingOptions,
    ) -> Result<Self, CatalogError> {
        let plan = options.rentcast_plan;
        let plans: Vec<_> = plans.into_iter().filter(|terms| terms.plan == plan).collect();
        if plans.is_empty() {
            return Err(CatalogError::MissingPlan { plan });
        }
        let mut catalog =
            Self { prices, plans, models: Vec::new(), by_name: HashMap::new(), providers: HashSet::new() };
        catalog.index(plan)?;
        for alias in aliases {
            catalog.add_alias(alias)?;
        }
        Ok(catalog)
    }

    /// Every price, those of other plans included: what `api_prices` holds.
    pub fn prices(&self) -> impl ExactSizeIterator<Item = &Price> {
        self.prices.iter()
    }

    /// The terms of the configured plan at an instant, in microseconds since 1970 UTC.
    #[must_use]
    pub fn plan_terms(&self, at_us: i64) -> &PlanTerms {
        let current = self.plans.iter().rev().find(|terms| terms.effective_from_us <= at_us);
        // `new` refuses a catalog without terms for the plan, so there is a first one.
        current.unwrap_or(&self.plans[0])
    }

    /// The price that applies to a call.
    pub(super) fn find(&self, provider: &str, model: &str, tier: &str, at_us: i64) -> Result<&Price, Miss> {
        let tiers = self
            .model(provider, model)
            .ok_or_else(|| if self.providers.contains(provider) { Miss::Model } else { Miss::Provider })?;
        let tier = if tier.is_empty() { names::STANDARD_TIER } else { tier };
        let tier = tiers.iter().find(|prices| prices.service_tier == tier).ok_or(Miss::ServiceTier)?;
        let holds = |price: &&usize| {
            let from_us = self.prices[**price].effective_from_us;
            // 0 is for all time, that before 1970 included.
            from_us == 0 || from_us <= at_us
        };
        let current = tier.prices.iter().rev().find(holds);
        current.map(|price| &self.prices[*price]).ok_or(Miss::Instant)
    }

    /// The price that applies to a call of a model at an instant, for views of prices. None where there is none.
    #[must_use]
    pub fn price_at(&self, provider: &str, model: &str, service_tier: &str, at_us: i64) -> Option<&Price> {
        self.find(provider, model, service_tier, at_us).ok()
    }

    /// The prices that are in force at some time, each model's service tiers by rising instant: what [`Catalog::prices`]
    /// has, without what a stronger layer masks and without other plans'.
    pub fn in_force(&self) -> impl Iterator<Item = &Price> {
        let tiers = self.models.iter().flatten();
        tiers.flat_map(|tier| tier.prices.iter().map(|price| &self.prices[*price]))
    }

    fn model(&self, provider: &str, model: &str) -> Option<&[TierPrices]> {
        let index = self.index_of(provider, model).or_else(|| self.by_name.get(&NameRef(provider, "")).copied())?;
        Some(&self.models[index])
    }

    fn index_of(&self, provider: &str, model: &str) -> Option<usize> {
        let named = |model| self.by_name.get(&NameRef(provider, model));
        let index = named(model)
            .or_else(|| names::without_date(model).and_then(named))
            .or_else(|| names::resolve(provider, model, |scope, name| self.by_name.get(&NameRef(scope, name))));
        index.copied()
    }

    /// Checks every price and files it under its model, except the prices of plans other than `plan`.
    fn index(&mut self, plan: Plan) -> Result<(), CatalogError> {
        let mut ids = HashSet::new();
        for (at, price) in self.prices.iter().enumerate() {
            check(price)?;
            if !ids.insert(price.id) {
                return Err(CatalogError::DuplicateId { id: price.id });
            }
            if price.plan.is_some_and(|other| other != plan) {
                continue;
            }
            self.providers.insert(price.provider.clone());
            let name = Name { provider: price.provider.clone(), model: price.model.clone() };
            let model = *self.by_name.entry(name).or_insert_with(|| {
                self.models.push(Vec::new());
                self.models.len() - 1
            });
            let tiers = &mut self.models[model];
            let Some(tier) = tiers.iter_mut().find(|tier| tier.service_tier == price.service_tier) else {
                tiers.push(TierPrices { service_tier: price.service_tier.clone(), prices: vec![at] });
                continue;
            };
            let is_masked = |before: &usize| {
                let before = &self.prices[*before];
                before.origin < price.origin && before.effective_from_us >= price.effective_from_us
            };
            while tier.prices.last().is_some_and(is_masked) {
                tier.prices.pop();
            }
            let follows = |before: &usize| self.prices[*before].effective_from_us < price.effective_from_us;
            if !tier.prices.last().is_none_or(follows) {
                return Err(CatalogError::Order { id: price.id });
            }
            tier.prices.push(at);
        }
        Ok(())
    }

    /// Adds a person's word that a name stands for a model. It wins over the catalog's own names.
    fn add_name(&mut self, alias: &ModelAlias) -> Result<(), CatalogError> {
        let provider = names::normalise_provider(&alias.provider);
        let fault = || CatalogError::NoModel { name: alias.name.clone(), model: alias.model.clone() };
        let index = self.index_of(&provider, &alias.model).ok_or_else(fault)?;
        if alias.name.trim().is_empty() {
            return Err(fault());
        }
        // As it was written for the usual look-up, and lowered as spellings are read.
        for model in [alias.name.clone(), alias.name.trim().to_ascii_lowercase()] {
            self.by_name.insert(Name { provider: provider.clone().into_owned(), model }, index);
        }
        Ok(())
    }

    fn add_alias(&mut self, alias: &Alias) -> Result<(), CatalogError> {
        let model = self.by_name.get(&NameRef(&alias.provider, &alias.model)).copied();
        let name = Name { provider: alias.provider.clone(), model: alias.alias.clone() };
        match model {
            Some(model) if !self.by_name.contains_key(&name) => {
                self.by_name.insert(name, model);
                Ok(())
            }
            _ => Err(CatalogError::AmbiguousName { provider: name.provider, name: name.model }),
        }
    }
}

pub(super) fn check(price: &Price) -> Result<(), CatalogError> {
    if price.rates.is_empty() {
        return Err(CatalogError::NoRates { id: price.id });
    }
    let rated = |rates: &Rates| rates.token_rates().map(|(_, rate)| rate.is_some());
    let mut largest = 0;
    for tier in &price.above {
        // A size without any rate has no known price: its calls are unpriced.
        let is_rated = tier.rates.token_rates().iter().any(|(_, rate)| rate.is_some());
        if tier.prompt_tokens <= largest || is_rated && rated(&tier.rates) != rated(&price.rates) {
            return Err(CatalogError::SizeTiers { id: price.id });
        }
        largest = tier.prompt_tokens;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
