//! The price catalog: every known price, and the choice of the price for a call.
//!
//! *Choice.* The model is looked up by its exact name or alias, then without a date suffix, then by the meaning of its
//! spelling ([`names`]). The rest is a documented name, or the model is unknown. Similar names do not count:
//! `claude-sonnet-4-9` does not cost the same as `claude-sonnet-4`. If a platform runs the model and bills for it, the
//! platform takes the provider's place: its prices are under its name. A provider with the same prices for all calls
//! (its entry does not have a model name) is found for any model. Of the model's prices for the call's service tier,
//! the last one that took effect by the time of the call applies. A call before the first one is unpriced. A price
//! without an instant applies at all times.
//!
//! *Speed.* A record is priced while it is decoded. So a lookup hashes borrowed text, does not allocate, and then walks
//! lists of one or two entries.
//!
//! *Layers.* The configuration's prices are above the built-in ones, and those of `api_prices` above both. From the
//! instant of its first price on, a layer replaces the layers below it for that model and service tier, including their
//! later prices. A stated price must not give way to a change of the vendor's list. Before that instant, the layers
//! below apply.
//!
//! *Changes.* A catalog is immutable. A correction builds a new one and swaps it in; ids stay, because stored rows
//! refer to them.

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

/// The built-in catalog: entries kept by people, and entries from public lists, as `build.rs` packs them.
const BUILTIN: [&[u8]; 2] = [
    include_bytes!(concat!(env!("OUT_DIR"), "/catalog.json.gz")),
    include_bytes!(concat!(env!("OUT_DIR"), "/catalog-lists.json.gz")),
];

/// The built-in catalog, parsed once: it has thousands of prices, and every change of a price makes a catalog.
static CONTENTS: LazyLock<Result<file::Contents, CatalogError>> = LazyLock::new(|| {
    let mut contents = file::Contents::default();
    BUILTIN.iter().try_for_each(|packed| contents.add_packed(packed)).map(|()| contents)
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

/// Every known price. The module's header describes the choice.
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

/// The key of a model's lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    provider: String,
    model: String,
}

/// [`Name`], borrowed, with the same hash.
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
        // Model names are often empty, and an empty `String` has a dangling pointer. libc's vectorised comparison of 0
        // bytes there costs 130 ns on processors that have to suppress the fault.
        let same_model = self.1.len() == name.model.len() && (self.1.is_empty() || self.1 == name.model);
        self.0 == name.provider && same_model
    }
}

/// Why a price was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    Provider,
    Model,
    ServiceTier,
    Instant,
}

impl Catalog {
    /// The built-in catalog, with the configured prices above it.
    ///
    /// # Errors
    /// [`CatalogError`] for wrong configured prices. Tests build the built-in catalog for every plan.
    pub fn builtin(options: &PricingOptions) -> Result<Self, CatalogError> {
        Self::layered(options, &Added::default()).map(|(catalog, _)| catalog)
    }

    /// The built-in catalog, the configured prices and names above it, and the prices added at run time above both. Of
    /// stored prices that begin at the same instant, the one with the highest id counts. An invalid stored row is left
    /// out, and returned with the reason, so that the others are applied.
    ///
    /// # Errors
    /// [`CatalogError`] if the configured prices are wrong, or ids are used twice.
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
        // Of several prices for the same instant, the last one stays.
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

    /// Builds a catalog. Prices of one model and service tier must be in the order of their instants.
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

    /// Every price, including those of other plans: the rows of `api_prices`.
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
        self.current(tier, at_us).ok_or(Miss::Instant)
    }

    /// The price of a service tier at an instant.
    fn current(&self, tier: &TierPrices, at_us: i64) -> Option<&Price> {
        // 0 means all time, including before 1970.
        let holds = |price: &&Price| price.effective_from_us == 0 || price.effective_from_us <= at_us;
        tier.prices.iter().rev().map(|price| &self.prices[*price]).find(holds)
    }

    /// The prices at an instant, one of each service tier: of a model, or of every model of the provider.
    pub fn prices_at(&self, provider: &str, model: Option<&str>, at_us: i64) -> impl Iterator<Item = &Price> {
        let models = match model {
            None => &self.models[..],
            Some(model) => self.place_of(provider, model).map_or(&[][..], |at| std::slice::from_ref(&self.models[at])),
        };
        let prices = models.iter().flatten().filter_map(move |tier| self.current(tier, at_us));
        prices.filter(move |price| model.is_some() || price.provider == provider)
    }

    /// The price for a call of a model at an instant, for lists of prices. None without one.
    #[must_use]
    pub fn price_at(&self, provider: &str, model: &str, service_tier: &str, at_us: i64) -> Option<&Price> {
        self.find(provider, model, service_tier, at_us).ok()
    }

    /// The prices that apply at some time, each model's service tiers by instant: [`Catalog::prices`] without masked
    /// prices of weaker layers and without those of other plans.
    pub fn in_force(&self) -> impl Iterator<Item = &Price> {
        let tiers = self.models.iter().flatten();
        tiers.flat_map(|tier| tier.prices.iter().map(|price| &self.prices[*price]))
    }

    fn model(&self, provider: &str, model: &str) -> Option<&[TierPrices]> {
        Some(&self.models[self.place_of(provider, model)?])
    }

    fn place_of(&self, provider: &str, model: &str) -> Option<usize> {
        self.index_of(provider, model).or_else(|| self.by_name.get(&NameRef(provider, "")).copied())
    }

    fn index_of(&self, provider: &str, model: &str) -> Option<usize> {
        let named = |model| self.by_name.get(&NameRef(provider, model));
        let index = named(model)
            .or_else(|| names::without_date(model).and_then(named))
            .or_else(|| names::resolve(provider, model, |scope, name| self.by_name.get(&NameRef(scope, name))));
        index.copied()
    }

    /// Checks every price and files it under its model, except those of plans other than `plan`.
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

    /// Adds a person's alias of a model. It wins over the catalog's own names.
    fn add_name(&mut self, alias: &ModelAlias) -> Result<(), CatalogError> {
        let provider = names::normalise_provider(&alias.provider);
        let fault = || CatalogError::NoModel { name: alias.name.clone(), model: alias.model.clone() };
        let index = self.index_of(&provider, &alias.model).ok_or_else(fault)?;
        if alias.name.trim().is_empty() {
            return Err(fault());
        }
        // As written, for the usual lookup, and in lower case, for the lookup of spellings.
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
        // A size without any rate is not priced: its calls are unpriced.
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
