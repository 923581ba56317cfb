//! Unusual properties of an accepted call: unknown usage, and a stated cost that differs from the catalog's.
//!
//! Only calls without a catalog cost are examined, so the usual record is not slowed down.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Admission, not_understood};
use tallyd_model::call::{Call, Cost};
use tallyd_model::pricing::{Priced, Quantity, UnpricedReason, Usd};

/// Tolerated difference from the catalog's cost in percent: senders compute in floats, and some in whole cents.
const TOLERANCE_PERCENT: i128 = 1;
/// Smaller differences are ignored, too.
const TOLERANCE: Usd = Usd::from_attos(1_000_000_000_000);

impl Admission<'_> {
    /// The name of a call's unknown usage: from its metadata, or a service tier or unit without a rate. An unpriced
    /// model is listed by its name elsewhere.
    #[must_use]
    pub fn not_understood<'a>(&self, call: &Call<'a>) -> Option<Cow<'a, str>> {
        if let Some(name) = not_understood::of(call.metadata) {
            return Some(name);
        }
        if call.cost != Cost::Unpriced {
            return None;
        }
        let units = quantities(call)?;
        match self.look_up(call, &units) {
            Priced::Unpriced(UnpricedReason::UnknownServiceTier) => {
                Some(format!("service_tier {}", call.service_tier).into())
            }
            Priced::Unpriced(UnpricedReason::UnratedUnit) => {
                let unit = units.first().map_or("a token bucket", |(name, _)| name);
                Some(format!("{unit} of {}/{}", call.provider, call.model).into())
            }
            _ => None,
        }
    }

    /// True if a call's stated cost differs from the catalog's by more than the tolerance. A call that the catalog
    /// cannot price, or without usage, is not compared; neither are credits.
    #[must_use]
    pub fn stated_cost_differs(&self, call: &Call<'_>) -> bool {
        let Cost::Client(stated) = call.cost else { return false };
        let Some(units) = quantities(call) else { return false };
        match self.look_up(call, &units) {
            Priced::Catalog { cost, .. } if cost > Usd::ZERO && stated >= Usd::ZERO => differ(stated, cost),
            _ => false,
        }
    }
}

/// True if two costs of one call differ by more than the tolerance.
#[must_use]
pub fn differ(stated: Usd, ours: Usd) -> bool {
    let difference = stated.attos().abs_diff(ours.attos());
    let allowed = (ours.attos().unsigned_abs() / 100) * TOLERANCE_PERCENT.unsigned_abs();
    difference > allowed.max(TOLERANCE.attos().unsigned_abs())
}

/// The call's extra units, in the form of admission.
fn quantities<'a>(call: &Call<'_>) -> Option<Vec<(Cow<'a, str>, Quantity)>> {
    if call.extra_units.is_empty() {
        return Some(Vec::new());
    }
    let units: BTreeMap<String, String> = tallyd_model::json::from_str(call.extra_units).ok()?;
    units.into_iter().map(|(unit, text)| Some((Cow::Owned(unit), Quantity::parse(&text).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_differ_beyond_a_hundredth() {
        let usd = |text: &str| Usd::parse(text).unwrap();
        for (stated, ours, expected) in [
            ("1", "1", false),
            ("1.01", "1", false),
            ("1.0101", "1", true),
            ("0.98", "1", true),
            ("0.0000015", "0.000001", false),
            ("0.000003", "0.000001", true),
        ] {
            assert_eq!(differ(usd(stated), usd(ours)), expected, "{stated} {ours}");
        }
    }
}
