//! The cost of a call: its usage times the rates of the price that applies, exactly.
//!
//! Every used unit must have a rate, or the call is *unpriced*: an incomplete amount would look like a complete one.
//! Requests are the exception. Every record counts one by default, and most vendors do not bill requests as such;
//! without a rate they are free.
//!
//! *Rounding.* Whole units times a rate are exact. A fractional quantity times a rate can need up to 27 decimals, and
//! 18 are kept: the record's total is then rounded once, half to even. Splitting one call's usage over several records
//! gives the same sum if nothing is rounded and no prompt size is crossed.

use super::catalog::{Catalog, Miss, Rates};
use super::money::{Quantity, Usd};
use super::usage::Usage;

/// The cost of a call by the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priced {
    /// It has a price.
    Catalog {
        /// The cost; may be 0.
        cost: Usd,
        /// The price that was applied.
        price_id: i32,
    },
    /// Its cost is unknown: never 0.
    Unpriced(UnpricedReason),
}

/// Why a call is unpriced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnpricedReason {
    /// The catalog has no price of this provider.
    UnknownProvider,
    /// The provider is known, the model is not.
    UnknownModel,
    /// The model is known, but has no price for this service tier.
    UnknownServiceTier,
    /// The first price of the model takes effect after the call.
    NoPriceYet,
    /// The price does not have a rate for a used unit.
    UnratedUnit,
    /// The cost exceeds [`Usd::RECORD_MAX`].
    Overflow,
}

impl UnpricedReason {
    /// A stable name, for metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownProvider => "unknown_provider",
            Self::UnknownModel => "unknown_model",
            Self::UnknownServiceTier => "unknown_service_tier",
            Self::NoPriceYet => "no_price_yet",
            Self::UnratedUnit => "unrated_unit",
            Self::Overflow => "overflow",
        }
    }
}

impl From<Miss> for UnpricedReason {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Provider => Self::UnknownProvider,
            Miss::Model => Self::UnknownModel,
            Miss::ServiceTier => Self::UnknownServiceTier,
            Miss::Instant => Self::NoPriceYet,
        }
    }
}

impl Catalog {
    /// Prices one call. Does not allocate.
    #[must_use]
    pub fn price(&self, usage: &Usage<'_>) -> Priced {
        match self.try_price(usage) {
            Ok((cost, price_id)) => Priced::Catalog { cost, price_id },
            Err(reason) => Priced::Unpriced(reason),
        }
    }

    fn try_price(&self, usage: &Usage<'_>) -> Result<(Usd, i32), UnpricedReason> {
        let price = self.find(usage.scope(), usage.model, usage.service_tier, usage.occurred_at_us)?;
        let prompt = if price.above.is_empty() { 0 } else { usage.prompt() };
        let rates = price.rates_for(prompt);
        let whole = whole_units(usage, rates)?;
        let total = if usage.extra_units.is_empty() { whole } else { with_extra_units(whole, usage, rates)? };
        let cost = i128::try_from(total).map(Usd::from_attos).ok().filter(|cost| cost.fits_a_record());
        Ok((cost.ok_or(UnpricedReason::Overflow)?, price.id))
    }
}

/// Attodollars of the token buckets and the requests.
fn whole_units(usage: &Usage<'_>, rates: &Rates) -> Result<u128, UnpricedReason> {
    let tokens = &usage.tokens;
    let buckets = [
        (tokens.input, rates.input),
        (tokens.output, rates.output),
        (tokens.cache_read, rates.cache_read),
        (tokens.cache_write_5m, rates.cache_write_5m),
        (tokens.cache_write_1h, rates.cache_write_1h),
        (usage.requests, rates.request.or(Some(Usd::ZERO))),
    ];
    let mut total = 0u128;
    for (count, rate) in buckets {
        if count > 0 {
            let rate = rate.ok_or(UnpricedReason::UnratedUnit)?;
            total = add_product(total, u128::from(count), rate).ok_or(UnpricedReason::Overflow)?;
        }
    }
    Ok(total)
}

/// Adds the extra units to `whole` attodollars, and rounds the total half to even if it has more than 18 decimals.
fn with_extra_units(whole: u128, usage: &Usage<'_>, rates: &Rates) -> Result<u128, UnpricedReason> {
    // In 10^-27 USD: a billionth of a unit times an attodollar.
    let mut fine = 0u128;
    for (unit, quantity) in usage.extra_units {
        if *quantity > Quantity::default() {
            let rate = rates.extra.iter().find(|(name, _)| name == unit);
            let (_, rate) = rate.ok_or(UnpricedReason::UnratedUnit)?;
            let quantity = quantity.nanos().unsigned_abs();
            fine = add_product(fine, quantity, *rate).ok_or(UnpricedReason::Overflow)?;
        }
    }
    let step = Quantity::ONE.nanos().unsigned_abs();
    let total = whole.checked_add(fine / step).ok_or(UnpricedReason::Overflow)?;
    let (rest, half) = (fine % step, step / 2);
    let up = rest > half || (rest == half && total % 2 == 1);
    total.checked_add(u128::from(up)).ok_or(UnpricedReason::Overflow)
}

/// `total` + `count` * `rate`. A rate is never negative.
fn add_product(total: u128, count: u128, rate: Usd) -> Option<u128> {
    count.checked_mul(rate.attos().unsigned_abs())?.checked_add(total)
}

#[cfg(test)]
mod tests;
