//! [`Usd`] in PostgreSQL's binary NUMERIC format.
//!
//! The format (`numeric_send` in PostgreSQL's `src/backend/utils/adt/numeric.c`): four big-endian 16-bit fields, then
//! base-10000 digits, most significant first.
//!
//! | field | meaning |
//! |---|---|
//! | `ndigits` | number of digits that follow; 0 for zero |
//! | `weight` | the first digit counts 10000^weight |
//! | `sign` | 0x0000 positive, 0x4000 negative, 0xC000 NaN, 0xD000 and 0xF000 the infinities |
//! | `dscale` | number of displayed decimals |
//!
//! The digits are aligned at the decimal point, and 18 decimals are four digits and a half: two zeros fill the fifth.
//! `dscale` is the number of significant decimals, so PostgreSQL prints the same text as [`Usd`].
//!
//! Every record is encoded here. An amount below 18.4 USD needs 64-bit arithmetic only, and nothing is allocated beyond
//! the caller's buffer.

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::money::Usd;

/// 10^18 attodollars are a dollar.
const ONE: u64 = 1_000_000_000_000_000_000;
/// Bytes of the four fields before the digits.
const HEAD_BYTES: usize = 8;
/// Base-10000 digits before the point that an `i128` of attodollars can need: 1.7 * 10^20.
const WHOLE_DIGITS: usize = 6;
/// Base-10000 digits after the point: 18 decimals.
const FRACTION_DIGITS: usize = 5;
/// Bytes of the longest amount.
const MAX_BYTES: usize = HEAD_BYTES + 2 * (WHOLE_DIGITS + FRACTION_DIGITS);
const NEGATIVE: u16 = 0x4000;

/// Why a NUMERIC cannot be read exactly as an amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumericError {
    /// NaN or an infinity.
    #[error("the NUMERIC is NaN or infinite, which is not an amount of money")]
    NotFinite,
    /// It has more than 18 significant decimals.
    #[error("the NUMERIC has more than 18 decimals; round() it in the query")]
    TooPrecise,
    /// It needs more than 128 bits.
    #[error("the NUMERIC is beyond 1.7e20, the largest amount that can be held")]
    OutOfRange,
    /// The bytes are not PostgreSQL's format.
    #[error("the bytes are not a binary NUMERIC")]
    Malformed,
}

/// Appends `amount`: the value's bytes, without the length that COPY and the protocol put before them.
pub fn encode(amount: Usd, out: &mut Vec<u8>) {
    let (bytes, len) = to_bytes(amount);
    out.extend_from_slice(&bytes[..len]);
}

/// The encoded amount in a buffer, and its length.
fn to_bytes(amount: Usd) -> ([u8; MAX_BYTES], usize) {
    let digits = digits(amount.attos().unsigned_abs());
    let mut bytes = [0; MAX_BYTES];
    let Some(first) = digits.iter().position(|digit| *digit != 0) else {
        return (bytes, HEAD_BYTES);
    };
    // One digit is not 0, so the search from the end stops at `first` at the latest.
    let last = digits.iter().rposition(|digit| *digit != 0).unwrap_or(first);
    let sign = if amount.attos() < 0 { NEGATIVE } else { 0 };
    let head =
        [(last - first + 1) as u16, (WHOLE_DIGITS as i16 - 1 - first as i16) as u16, sign, dscale(&digits, last)];
    let used = head.iter().chain(&digits[first..=last]);
    for (slot, value) in bytes.chunks_exact_mut(2).zip(used) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
    (bytes, HEAD_BYTES + 2 * (last - first + 1))
}

/// Splits attodollars into base-10000 digits, aligned at the point.
fn digits(attos: u128) -> [u16; WHOLE_DIGITS + FRACTION_DIGITS] {
    let mut digits = [0; WHOLE_DIGITS + FRACTION_DIGITS];
    let fraction = match u64::try_from(attos) {
        Ok(small) => {
            digits[WHOLE_DIGITS - 1] = (small / ONE) as u16;
            small % ONE
        }
        Err(_) => {
            let mut whole = attos / u128::from(ONE);
            for digit in digits[..WHOLE_DIGITS].iter_mut().rev() {
                *digit = (whole % 10_000) as u16;
                whole /= 10_000;
            }
            (attos % u128::from(ONE)) as u64
        }
    };
    digits[WHOLE_DIGITS + 4] = (fraction % 100 * 100) as u16;
    let mut sixteen_decimals = fraction / 100;
    for digit in digits[WHOLE_DIGITS..WHOLE_DIGITS + 4].iter_mut().rev() {
        *digit = (sixteen_decimals % 10_000) as u16;
        sixteen_decimals /= 10_000;
    }
    digits
}

/// The number of decimals up to the last one that is not 0, in the digit at `last`.
fn dscale(digits: &[u16], last: usize) -> u16 {
    if last < WHOLE_DIGITS {
        return 0;
    }
    let zeros = match digits[last] {
        digit if digit % 10 != 0 => 0,
        digit if digit % 100 != 0 => 1,
        digit if digit % 1000 != 0 => 2,
        _ => 3,
    };
    4 * (last - WHOLE_DIGITS + 1) as u16 - zeros
}

/// Reads a value's bytes.
///
/// # Errors
/// [`NumericError`] if the value is not finite, does not fit [`Usd`] exactly, or the bytes are not a NUMERIC.
pub fn decode(bytes: &[u8]) -> Result<Usd, NumericError> {
    scaled(bytes, Usd::DECIMALS).map(Usd::from_attos)
}

/// Reads an integer's bytes.
///
/// # Errors
/// [`NumericError`] if the value is not an integer of 128 bits, or the bytes are not a NUMERIC.
pub fn decode_whole(bytes: &[u8]) -> Result<i128, NumericError> {
    scaled(bytes, 0)
}

/// The value * 10^`decimals`.
fn scaled(bytes: &[u8], decimals: u8) -> Result<i128, NumericError> {
    let (fields, []) = bytes.as_chunks::<2>() else {
        return Err(NumericError::Malformed);
    };
    let [ndigits, weight, sign, _dscale, digits @ ..] = fields else {
        return Err(NumericError::Malformed);
    };
    let negative = match u16::from_be_bytes(*sign) {
        0 => false,
        NEGATIVE => true,
        0xC000 | 0xD000 | 0xF000 => return Err(NumericError::NotFinite),
        _ => return Err(NumericError::Malformed),
    };
    if usize::from(u16::from_be_bytes(*ndigits)) != digits.len() {
        return Err(NumericError::Malformed);
    }
    let mut power = i32::from(i16::from_be_bytes(*weight)) * 4 + i32::from(decimals);
    let mut attos = 0i128;
    for digit in digits {
        let part = part(u16::from_be_bytes(*digit), power)?;
        // Subtraction, because the negative range is larger by one and includes `i128::MIN`.
        attos = attos.checked_sub(part).ok_or(NumericError::OutOfRange)?;
        power -= 4;
    }
    if negative { Ok(attos) } else { attos.checked_neg().ok_or(NumericError::OutOfRange) }
}

/// `digit` * 10^`power`, in attodollars.
fn part(digit: u16, power: i32) -> Result<i128, NumericError> {
    if digit >= 10_000 {
        return Err(NumericError::Malformed);
    }
    let digit = i128::from(digit);
    match u32::try_from(power) {
        _ if digit == 0 => Ok(0),
        Ok(power) => {
            10i128.checked_pow(power).and_then(|factor| digit.checked_mul(factor)).ok_or(NumericError::OutOfRange)
        }
        // The digit of decimals 17 to 20.
        Err(_) if power == -2 && digit % 100 == 0 => Ok(digit / 100),
        Err(_) => Err(NumericError::TooPrecise),
    }
}

impl ToSql for Usd {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let (bytes, len) = to_bytes(*self);
        out.put_slice(&bytes[..len]);
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Usd {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(decode(bytes)?)
    }

    accepts!(NUMERIC);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Output of `SELECT numeric_send('…'::numeric)` on PostgreSQL 15.
    const SENT_BY_POSTGRES: [(&str, &str); 15] = [
        ("0", "0000000000000000"),
        ("0.2", "0001ffff0000000107d0"),
        ("-1.05", "0002000040000002000101f4"),
        ("1", "00010000000000000001"),
        ("10000", "00010001000000000001"),
        ("1000000000", "0001000200000000000a"),
        ("100000000", "00010002000000000001"),
        ("0.0001", "0001ffff000000040001"),
        ("0.00012", "0002ffff00000005000107d0"),
        ("123456.7891", "0003000100000004000c0d801ed3"),
        ("0.1234567890123456", "0004ffff0000001004d2162e23340d80"),
        ("0.000000000000000001", "0001fffb000000120064"),
        ("9.223372036854775807", "0006000000000012000908b91c231ac61e4e02bc"),
        ("18.446744073709551616", "00060000000000120012117311370e7d158c0640"),
        ("-170141183460469231731.687303715884105727", "000b00054000001200011b66049f11fc1b0b06c31ad9017316fc04210a8c"),
    ];

    fn encoded(amount: Usd) -> Vec<u8> {
        let mut out = Vec::new();
        encode(amount, &mut out);
        out
    }

    #[test]
    fn the_bytes_are_those_that_postgres_sends() {
        for (text, hex) in SENT_BY_POSTGRES {
            let amount = Usd::parse(text).unwrap();
            assert_eq!(encoded(amount), hex::decode(hex).unwrap(), "{text}");
            assert_eq!(decode(&hex::decode(hex).unwrap()), Ok(amount), "{text}");
        }
    }

    #[test]
    fn a_wider_scale_reads_as_the_same_amount() {
        assert_eq!(decode(&hex::decode("0002000000000002000103e8").unwrap()), Ok(Usd::parse("1.1").unwrap()));
        assert_eq!(decode(&hex::decode("0000000000000002").unwrap()), Ok(Usd::ZERO));
    }

    #[test]
    fn what_is_no_exact_amount_is_refused() {
        for (hex, error) in [
            ("00000000c0000000", NumericError::NotFinite),
            ("00000000d0000020", NumericError::NotFinite),
            ("00000000f0000020", NumericError::NotFinite),
            ("0001fffb00000013000a", NumericError::TooPrecise),
            ("0001fffa000000180001", NumericError::TooPrecise),
            ("0001000500000000000a", NumericError::OutOfRange),
            ("00017fff000000000001", NumericError::OutOfRange),
            ("00010000000000002710", NumericError::Malformed),
            ("00020000000000000001", NumericError::Malformed),
            ("00000000000100", NumericError::Malformed),
            ("0000000012340000", NumericError::Malformed),
            ("", NumericError::Malformed),
        ] {
            assert_eq!(decode(&hex::decode(hex).unwrap()), Err(error), "{hex}");
        }
    }

    #[test]
    fn the_column_type_is_numeric_alone() {
        assert!(<Usd as ToSql>::accepts(&Type::NUMERIC));
        assert!(!<Usd as ToSql>::accepts(&Type::FLOAT8));
        let mut out = BytesMut::new();
        assert!(matches!(Usd::ONE.to_sql(&Type::NUMERIC, &mut out), Ok(IsNull::No)));
        assert_eq!(Usd::from_sql(&Type::NUMERIC, &out).unwrap(), Usd::ONE);
    }

    proptest! {
        #[test]
        fn every_amount_survives(attos: i128, shift in 0u32..127) {
            let amount = Usd::from_attos(attos >> shift);
            prop_assert_eq!(decode(&encoded(amount)), Ok(amount));
        }

        #[test]
        fn dscale_is_the_number_of_decimals_in_the_text(attos: i64, zeros in 0u32..19) {
            let amount = Usd::from_attos(i128::from(attos) * 10i128.pow(zeros));
            let text = amount.to_string();
            let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            let bytes = encoded(amount);
            prop_assert_eq!(usize::from(u16::from_be_bytes([bytes[6], bytes[7]])), decimals);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>) {
            if let Ok(amount) = decode(&bytes) {
                prop_assert_eq!(decode(&encoded(amount)), Ok(amount));
            }
        }
    }
}
