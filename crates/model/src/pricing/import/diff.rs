//! The changes of a list: for each of its prices, the present and the new price at its instant.
//!
//! Rates that the list does not state stay. Size tiers do not stay: a list always states them, so a price without tiers
//! does not have any.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::pricing::catalog::{Catalog, Price, PriceOrigin, PriceSpec};

/// The change of a model's price for one service tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// There was none.
    Added,
    /// It differs.
    Changed,
}

/// One change of a list.
#[derive(Debug, Clone, Serialize)]
pub struct ListChange {
    /// The change.
    pub kind: ChangeKind,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The service tier.
    pub service_tier: String,
    /// The present price; none for [`ChangeKind::Added`]. In the form of `api_prices.rates`.
    pub old: Option<Value>,
    /// The new price.
    pub new: Value,
    /// The price to add.
    #[serde(skip)]
    pub spec: PriceSpec,
}

/// Compares a list with a catalog. Equal prices are left out.
#[must_use]
pub fn diff(catalog: &Catalog, specs: &[PriceSpec]) -> Vec<ListChange> {
    let changes = specs.iter().filter_map(|spec| {
        let at_us = spec.effective_from_us;
        let known = catalog.price_at(&spec.provider, &spec.model, &spec.service_tier, at_us);
        // A price of all of a provider's models does not count as this model's.
        let known = known.filter(|price| price.model.is_empty() == spec.model.is_empty());
        let mut spec = spec.clone();
        if let Some(price) = known {
            spec.complete(price);
        }
        if known.is_some_and(|price| spec.charges_as(price)) {
            return None;
        }
        Some(ListChange {
            kind: if known.is_some() { ChangeKind::Changed } else { ChangeKind::Added },
            provider: spec.provider.clone(),
            model: spec.model.clone(),
            service_tier: spec.service_tier.clone(),
            old: known.map(Price::rates_json),
            new: spec.clone().with_id(0, PriceOrigin::Stored).rates_json(),
            spec,
        })
    });
    changes.collect()
}
