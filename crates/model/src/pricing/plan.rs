//! Providers that bill by plan: a monthly fee, a number of requests included in it, and a price for each one beyond.
//!
//! Two figures follow, and both are shown. A record's cost is *marginal*: what one more request costs, which is the
//! plan's overage rate, because a record must be priced without counting the month's others. The plan's *bill* is what
//! the vendor charges for the month, fee included: [`PlanTerms::bill`].

use serde::{Deserialize, Serialize};

use super::catalog::{ModelAlias, PriceEntry};
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

/// What the catalog cannot know: the customer's side of the contracts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PricingOptions {
    /// The RentCast plan that is paid for: `"developer"`, `"foundation"`, `"growth"` or `"scale"`.
    pub rentcast_plan: Plan,
    /// How often the prices in the database are looked at, where notifications do not come through (a pooler in transaction
    /// mode).
    pub refresh_ms: u64,
    /// Prices that win over the built-in ones from their instant on (none: always), and give way to those of `tallyd prices set`.
    /// Amounts are text:
    ///
    /// ```toml
    /// prices = [{ provider = "claude", model = "claude-sonnet-5", effective_from = "2026-12-01",
    ///             per_million = { input = "1.8", output = "9", cache_read = "0.18" }, per_unit = { web_search = "0.01" } }]
    /// ```
    pub prices: Vec<PriceEntry>,
    /// Names that stand for models: an ARN, the name of a deployment. `tallyd prices alias` adds others at run time.
    ///
    /// ```toml
    /// aliases = [{ provider = "azure", name = "my-deployment", model = "gpt-4o" }]
    /// ```
    pub aliases: Vec<ModelAlias>,
}

impl Default for PricingOptions {
    fn default() -> Self {
        Self { rentcast_plan: Plan::default(), refresh_ms: 5_000, prices: Vec::new(), aliases: Vec::new() }
    }
}

/// One plan's terms, as of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanTerms {
    /// The plan.
    pub plan: Plan,
    /// The price that its records carry.
    pub price_id: i32,
    /// The terms hold from here on, microseconds since 1970 UTC; 0 if no earlier ones are known.
    pub effective_from_us: i64,
    /// The fee for a month.
    pub monthly: Usd,
    /// Requests that the fee covers, a month.
    pub included_requests: u64,
    /// The price of each request beyond: the marginal cost of one record.
    pub overage: Usd,
}

impl PlanTerms {
    /// The vendor's bill for a month of `requests`: the fee, and the overage beyond what it includes. None if the sum
    /// is beyond what [`Usd`] holds.
    #[must_use]
    pub fn bill(&self, requests: u64) -> Option<Usd> {
        let beyond = requests.saturating_sub(self.included_requests);
        self.overage.checked_mul(i128::from(beyond))?.checked_add(self.monthly)
    }
}
