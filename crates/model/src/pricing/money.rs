//! Amounts of money and quantities of billed units, as integers.
//!
//! Why 10^-18 USD: vendors quote prices per million tokens, with up to three decimals today, so one token costs a
//! multiple of 10^-9 USD. The other nine decimals are room for future price lists, and for clients that state computed
//! costs. An `i128` reaches 1.7 * 10^20 USD, which sums do not approach.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::decimal::{self, DecimalError};

/// US dollars, exact, in attodollars (10^-18 USD).
///
/// Text is the shortest exact decimal (`0.2`, `0`, `-1.05`), never with an exponent; so is the serde form, a string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(i128);

impl Usd {
    /// Decimals that are kept.
    pub const DECIMALS: u8 = 18;
    /// No money.
    pub const ZERO: Self = Self(0);
    /// One dollar.
    pub const ONE: Self = Self(10i128.pow(Self::DECIMALS as u32));
    /// The largest cost, of either sign, that one record may have: 10^9 USD. [`Self::parse`] does not check it.
    pub const RECORD_MAX: Self = Self(Self::ONE.0 * tallyd_protocol::limits::COST_USD);

    /// An amount in attodollars.
    #[must_use]
    pub const fn from_attos(attos: i128) -> Self {
        Self(attos)
    }

    /// The amount in attodollars.
    #[must_use]
    pub const fn attos(self) -> i128 {
        self.0
    }

    /// Reads decimal text: an optional sign, digits, an optional point and exponent. Exact.
    ///
    /// # Errors
    /// [`DecimalError`] if the text is not a number, or needs more than 18 decimals or 128 bits.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        decimal::parse(text, Self::DECIMALS).map(Self)
    }

    /// As [`Self::parse`], for a cost that a program computed in floats: decimals beyond the 18th are rounded half to even.
    ///
    /// # Errors
    /// [`DecimalError`] if the text is not a number, or needs more than 128 bits.
    pub fn parse_rounded(text: &str) -> Result<Self, DecimalError> {
        decimal::parse_rounded(text, Self::DECIMALS).map(Self)
    }

    /// The sum, or none if it overflows.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(attos) => Some(Self(attos)),
            None => None,
        }
    }

    /// The difference, or none if it overflows.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(attos) => Some(Self(attos)),
            None => None,
        }
    }

    /// `count` times the amount, or none if it overflows.
    #[must_use]
    pub const fn checked_mul(self, count: i128) -> Option<Self> {
        match self.0.checked_mul(count) {
            Some(attos) => Some(Self(attos)),
            None => None,
        }
    }

    /// True if one record may cost this much: at most [`Self::RECORD_MAX`], of either sign.
    #[must_use]
    pub const fn fits_a_record(self) -> bool {
        self.0.unsigned_abs() <= Self::RECORD_MAX.0.unsigned_abs()
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write(f, self.0, Self::DECIMALS)
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Usd({self})")
    }
}

impl std::str::FromStr for Usd {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse(text)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(DecimalText)
    }
}

/// Accepts a string only: a number in a file's text would already have passed through a binary float.
struct DecimalText;

impl de::Visitor<'_> for DecimalText {
    type Value = Usd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount as decimal text, such as \"0.25\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
        Usd::parse(text).map_err(|error| E::custom(format_args!("{text:?}: {error}")))
    }
}

/// The used amount of a billed unit, in steps of 10^-9: 12.5 seconds of audio, 3 images. Never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity(i128);

impl Quantity {
    /// Decimals that are kept.
    pub const DECIMALS: u8 = 9;
    /// One unit, in the steps of [`Self::nanos`].
    pub const ONE: Self = Self(10i128.pow(Self::DECIMALS as u32));

    /// A quantity in billionths of the unit; none if it is negative.
    #[must_use]
    pub const fn from_nanos(nanos: i128) -> Option<Self> {
        if nanos < 0 { None } else { Some(Self(nanos)) }
    }

    /// The quantity in billionths of the unit, not negative.
    #[must_use]
    pub const fn nanos(self) -> i128 {
        self.0
    }

    /// Reads decimal text. Exact.
    ///
    /// # Errors
    /// [`DecimalError`] if the text is not a number, is below zero, or needs more than 9 decimals or 128 bits.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        Self::from_nanos(decimal::parse(text, Self::DECIMALS)?).ok_or(DecimalError::Negative)
    }

    /// As [`Self::parse`], but decimals beyond the 9th are rounded half to even.
    ///
    /// # Errors
    /// [`DecimalError`] if the text is not a number, is below zero, or needs more than 128 bits.
    pub fn parse_rounded(text: &str) -> Result<Self, DecimalError> {
        Self::from_nanos(decimal::parse_rounded(text, Self::DECIMALS)?).ok_or(DecimalError::Negative)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write(f, self.0, Self::DECIMALS)
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quantity({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attos(text: &str) -> i128 {
        Usd::parse(text).unwrap().attos()
    }

    #[test]
    fn text_is_read_exactly() {
        assert_eq!(attos("0.2"), 200_000_000_000_000_000);
        assert_eq!(attos("-1.05"), -1_050_000_000_000_000_000);
        assert_eq!(attos("+3"), 3 * Usd::ONE.attos());
        assert_eq!(attos("2.5e-6"), 2_500_000_000_000);
        assert_eq!(attos("25E+1"), 250 * Usd::ONE.attos());
        assert_eq!(attos(".5"), attos("0.50000000000000000000000000000"));
        assert_eq!(attos("0.000000000000000001"), 1);
        assert_eq!(attos("10e-19"), 1);
        assert_eq!(attos("-0"), 0);
        assert_eq!(attos("00000000000000000000000000000000000000000000007"), 7 * Usd::ONE.attos());
        assert_eq!(attos("1000000000"), Usd::RECORD_MAX.attos());
    }

    #[test]
    fn a_nineteenth_decimal_is_refused_not_rounded() {
        let too_precise = Err(DecimalError::TooPrecise { kept: 18 });
        assert_eq!(Usd::parse("0.0000000000000000001"), too_precise);
        assert_eq!(Usd::parse("1e-19"), too_precise);
        assert_eq!(Usd::parse("1.0000000000000000005"), too_precise);
        assert_eq!(Quantity::parse("0.0000000001"), Err(DecimalError::TooPrecise { kept: 9 }));
    }

    #[test]
    fn what_is_no_number_is_refused_at_its_byte() {
        let faults = [("", 0), ("-", 1), (".", 1), ("1.2.3", 3), ("0x1", 1), ("1e", 2), ("1e+", 3), ("1 ", 1)];
        for (text, at) in faults {
            assert_eq!(Usd::parse(text), Err(DecimalError::Syntax { at }), "{text:?}");
        }
        for text in ["NaN", "inf", "--1", "1,5", "٣", "1_000"] {
            assert!(matches!(Usd::parse(text), Err(DecimalError::Syntax { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_number_beyond_128_bits_is_refused() {
        for text in ["1e21", "1e99999", "1e9999", "999999999999999999999999999999999999999999", "200000000000000000000"]
        {
            assert_eq!(Usd::parse(text), Err(DecimalError::OutOfRange), "{text:?}");
        }
        assert_eq!(Usd::parse("0e9999"), Ok(Usd::ZERO));
    }

    #[test]
    fn text_is_the_shortest_exact_form() {
        for text in ["0", "0.2", "-1.05", "1000000000", "0.000000000000000001", "-170000000000000000000"] {
            assert_eq!(Usd::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Usd::from_attos(i128::MIN).to_string(), "-170141183460469231731.687303715884105728");
        assert_eq!(Quantity::parse("12.50").unwrap().to_string(), "12.5");
    }

    #[test]
    fn a_quantity_is_not_negative() {
        assert_eq!(Quantity::parse("-1"), Err(DecimalError::Negative));
        assert_eq!(Quantity::parse("-0"), Ok(Quantity::default()));
        assert_eq!(Quantity::from_nanos(-1), None);
    }

    #[test]
    fn the_serde_form_is_a_string_and_only_a_string() {
        let cost = Usd::parse("0.20").unwrap();
        assert_eq!(serde_json::to_string(&cost).unwrap(), "\"0.2\"");
        assert_eq!(serde_json::from_str::<Usd>("\"0.2\"").unwrap(), cost);
        assert!(serde_json::from_str::<Usd>("0.2").is_err());
    }

    proptest! {
        #[test]
        fn every_amount_survives_its_text(attos: i128) {
            // `i128::MIN` is written but not read, because its magnitude does not fit an `i128`.
            prop_assume!(attos != i128::MIN);
            prop_assert_eq!(Usd::parse(&Usd::from_attos(attos).to_string()), Ok(Usd::from_attos(attos)));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[-+]?[0-9.eE+-]{0,60}|.{0,20}") {
            if let Ok(amount) = Usd::parse(&text) {
                prop_assert_eq!(Usd::parse(&amount.to_string()), Ok(amount));
            }
        }
    }
}
