//! Providers that bill by plan: a monthly fee, a number of included requests, and a price for each further one.
//!
//! There are two figures, and both are shown. A record's cost is *marginal*: the plan's overage rate, because a record
//! must be priced without counting the month's others. The plan's *bill* is the vendor's charge for the month,
//! including the fee: [`PlanTerms::bill`].

use serde::{Deserialize, Serialize};

use super::money::Usd;

/// RentCast's plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// No fee, a few requests included.
    #[default]
    Developer,
    /// The first plan with a fee.
    Foundation,
    /// The second.
    Growth,
    /// The largest.
    Scale,
}

impl Plan {
    /// Every plan; the catalog must have terms for each.
    pub const ALL: [Self; 4] = [Self::Developer, Self::Foundation, Self::Growth, Self::Scale];

    /// The name in configuration and catalog files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Developer => "developer",
            Self::Foundation => "foundation",
            Self::Growth => "growth",
            Self::Scale => "scale",
        }
    }
}

/// One plan's terms at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanTerms {
    /// The plan.
    pub plan: Plan,
    /// The price of its records.
    pub price_id: i32,
    /// The first instant of the terms, microseconds since 1970 UTC; 0 if no earlier ones are known.
    pub effective_from_us: i64,
    /// The fee for a month.
    pub monthly: Usd,
    /// Requests that the fee covers, a month.
    pub included_requests: u64,
    /// The price of each request beyond: the marginal cost of one record.
    pub overage: Usd,
}

impl PlanTerms {
    /// The vendor's bill for a month of `requests`: the fee, and the overage beyond the included requests. None if the
    /// sum does not fit [`Usd`].
    #[must_use]
    pub fn bill(&self, requests: u64) -> Option<Usd> {
        let beyond = requests.saturating_sub(self.included_requests);
        self.overage.checked_mul(i128::from(beyond))?.checked_add(self.monthly)
    }
}
