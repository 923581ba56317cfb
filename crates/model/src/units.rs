//! Unit economics: the cost of a unit, and the margin of revenue over cost. Exact: a quotient has 18 decimals, rounded half to even.

use crate::pricing::{Quantity, Usd};
use crate::ratio::proportion;

/// The cost of one unit. None without units.
#[must_use]
pub fn cost_per_unit(cost: Usd, quantity: Quantity) -> Option<Usd> {
    proportion(cost.attos(), Quantity::ONE.nanos(), quantity.nanos()).map(Usd::from_attos)
}

/// Revenue less cost. None if it overflows.
#[must_use]
pub fn margin(revenue: Usd, cost: Usd) -> Option<Usd> {
    revenue.checked_sub(cost)
}

/// The margin in percent of the revenue, with two decimals. None without revenue.
#[must_use]
pub fn margin_percent(revenue: Usd, margin: Usd) -> Option<Usd> {
    const HUNDREDTH: i128 = Usd::ONE.attos() / 100;
    Usd::from_attos(proportion(margin.attos(), 10_000, revenue.attos())?).checked_mul(HUNDREDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    #[test]
    fn quotients_are_exact_to_their_last_digit() {
        let per =
            |cost, quantity| cost_per_unit(usd(cost), Quantity::parse(quantity).unwrap()).map(|cost| cost.to_string());
        assert_eq!(per("10", "4").as_deref(), Some("2.5"));
        assert_eq!(per("10", "3").as_deref(), Some("3.333333333333333333"));
        assert_eq!(per("20", "3").as_deref(), Some("6.666666666666666667"));
        assert_eq!(per("100000000000", "0.000000001").as_deref(), Some("100000000000000000000"));
        assert_eq!(per("-1", "8").as_deref(), Some("-0.125"));
        assert_eq!(per("1", "0"), None);
        let percent = |revenue, cost| {
            let margin = margin(usd(revenue), usd(cost)).unwrap();
            margin_percent(usd(revenue), margin).map(|percent| percent.to_string())
        };
        assert_eq!(percent("3", "2").as_deref(), Some("33.33"));
        assert_eq!(percent("2", "5").as_deref(), Some("-150"));
        assert_eq!([percent("0", "5"), percent("-1", "5")], [None, None]);
    }
}
