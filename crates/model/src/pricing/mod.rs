//! Prices and costs. Pure: text and numbers in, numbers out; no clock, no file, no network.
//!
//! | module | content |
//! |---|---|
//! | [`money`] | [`Usd`] and [`Quantity`]: exact amounts as integers, and their text |
//! | [`pg_numeric`] | [`Usd`] as PostgreSQL's binary NUMERIC |
//! | [`names`] | names of providers, platforms, models and tiers |
//! | [`usage`] | [`Usage`]: the billed part of a record |
//! | [`plan`] | plans with a monthly fee and an overage rate |
//! | [`catalog`] | [`Catalog`]: effective-dated prices, and which of them applies; the figures are in `catalog.toml` and `catalog/lists.toml` |
//! | [`import`] | public price lists, read and compared |
//! | [`cost`] | [`Catalog::price`]: usage times rates |
//!
//! Rules for all modules here: no binary float touches an amount; rates are stored per unit and never derived from one
//! another; a call that cannot be priced completely is unpriced, not cheap.

pub mod catalog;
pub mod cost;
pub mod import;
pub mod money;
pub mod names;
pub mod pg_numeric;
pub mod plan;
pub mod usage;

pub use catalog::{
    Added, Catalog, CatalogError, ModelAlias, Price, PriceEntry, PriceOrigin, PriceSpec, PricingOptions, StoredPrice,
};
pub use cost::{Priced, UnpricedReason};
pub use money::{Quantity, Usd};
pub use names::{STANDARD_TIER, family, normalise_platform, normalise_provider, normalise_tier, provider_names};
pub use plan::{Plan, PlanTerms};
pub use usage::{Tokens, Usage};
