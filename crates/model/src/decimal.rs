//! Exact decimal text, read into and written from an integer that counts the last kept decimal place.
//!
//! [`parse`] never rounds. It reads prices and budgets, whose authors meant every digit, so a number with more decimals
//! than are kept is an error. Trailing zeros do not count (`0.50000000000000000000` is one half). [`parse_rounded`]
//! reads numbers that programs computed in binary floats: the digits beyond the kept ones are noise, and are rounded
//! half to even.

use std::fmt;

/// Why a text cannot be read exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// The text is not a decimal number.
    #[error("not a decimal number (byte {at}); write digits with an optional sign, point and exponent, such as -1.05")]
    Syntax {
        /// The first byte that does not fit.
        at: usize,
    },
    /// There are more significant decimals than are kept.
    #[error("more than {kept} decimals; round it before sending it, tallyd does not")]
    TooPrecise {
        /// Decimals that are kept.
        kept: u8,
    },
    /// The magnitude is too large.
    #[error("too large a number")]
    OutOfRange,
    /// A quantity below zero.
    #[error("negative; a quantity is 0 or more")]
    Negative,
}

/// Largest number of digits of an exponent: more could only mean zero or a number out of range.
const EXPONENT_DIGITS: usize = 4;

/// Reads `text` as a multiple of 10^-`kept`.
pub(crate) fn parse(text: &str, kept: u8) -> Result<i128, DecimalError> {
    let bytes = text.as_bytes();
    let (negative, start) = match bytes.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let (mantissa, at) = Mantissa::read(bytes, start)?;
    let (exponent, end) = read_exponent(bytes, at)?;
    if end < bytes.len() {
        return Err(DecimalError::Syntax { at: end });
    }
    let magnitude = mantissa.scaled(exponent, kept)?;
    Ok(if negative { -magnitude } else { magnitude })
}

/// As [`parse`], but decimals beyond the kept ones are rounded half to even: `0.0016150000000000001` is a float's text
/// for `0.001615`.
pub(crate) fn parse_rounded(text: &str, kept: u8) -> Result<i128, DecimalError> {
    match parse(text, kept) {
        Err(DecimalError::TooPrecise { .. } | DecimalError::OutOfRange) => {}
        exact => return exact,
    }
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], read_exponent(text.as_bytes(), at)?.0),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if let Some(at) = digits.iter().position(|digit| !digit.is_ascii_digit()) {
        return Err(DecimalError::Syntax { at });
    }
    // The digits before this place are kept; unwritten places count as zeros.
    let place = whole.len() as i64 + exponent + i64::from(kept);
    let split = usize::try_from(place).unwrap_or(0).min(digits.len());
    let (kept_digits, rest) = digits.split_at(split);
    let mut value = 0i128;
    let zeros = usize::try_from(place).unwrap_or(0) - split;
    for digit in kept_digits.iter().copied().chain(std::iter::repeat_n(b'0', zeros)) {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(digit - b'0')))
            .ok_or(DecimalError::OutOfRange)?;
    }
    // Below the first place that is not kept, the rest is less than a half.
    let half = if place < 0 { b"0".as_slice() } else { rest };
    let rounds_up = match half.first() {
        Some(b'6'..) => true,
        Some(b'5') => half[1..].iter().any(|digit| *digit != b'0') || value % 2 == 1,
        _ => false,
    };
    let value = value.checked_add(i128::from(rounds_up)).ok_or(DecimalError::OutOfRange)?;
    Ok(if negative { -value } else { value })
}

/// Reads an integer in any spelling of a number: `1234`, `1234.0`, `1e3`. None for a fraction, and for other text. All
/// counts from outside are read with this, or with [`whole_float`].
#[must_use]
pub fn whole(text: &str) -> Option<i128> {
    parse(text, 0).ok()
}

/// The integer in a binary float. None for a fraction, NaN and infinities.
#[must_use]
pub fn whole_float(float: f64) -> Option<i128> {
    // No bound of a count reaches 10^30; below, the cast is exact.
    (float.fract() == 0.0 && float.abs() < 1e30).then_some(float as i128)
}

/// The digits without their leading and trailing zeros: the number is `value` * 10^`power`.
struct Mantissa {
    value: i128,
    power: i64,
}

impl Mantissa {
    /// Reads digits with at most one point, from `start`. Also returns their end.
    fn read(bytes: &[u8], start: usize) -> Result<(Self, usize), DecimalError> {
        let (mut value, mut zeros, mut decimals) = (0i128, 0u32, 0i64);
        let (mut point, mut digits, mut at) = (false, 0usize, start);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'0'..=b'9' => {
                    digits += 1;
                    decimals += i64::from(point);
                    if *byte == b'0' {
                        zeros += 1;
                    } else {
                        value = append(value, zeros, byte - b'0').ok_or(DecimalError::OutOfRange)?;
                        zeros = 0;
                    }
                }
                b'.' if !point => point = true,
                _ => break,
            }
            at += 1;
        }
        if digits == 0 {
            return Err(DecimalError::Syntax { at });
        }
        Ok((Self { value, power: i64::from(zeros) - decimals }, at))
    }

    fn scaled(&self, exponent: i64, kept: u8) -> Result<i128, DecimalError> {
        if self.value == 0 {
            return Ok(0);
        }
        let power = self.power + exponent + i64::from(kept);
        let power = u32::try_from(power).map_err(|_| DecimalError::TooPrecise { kept })?;
        let factor = 10i128.checked_pow(power).ok_or(DecimalError::OutOfRange)?;
        self.value.checked_mul(factor).ok_or(DecimalError::OutOfRange)
    }
}

/// `value`, then `zeros` zeros, then `digit`; none if that overflows.
fn append(value: i128, zeros: u32, digit: u8) -> Option<i128> {
    let factor = if value == 0 { 1 } else { 10i128.checked_pow(zeros.checked_add(1)?)? };
    value.checked_mul(factor)?.checked_add(i128::from(digit))
}

/// Reads an exponent (`e` or `E`, a sign and digits), if there is one. Also returns its end.
fn read_exponent(bytes: &[u8], at: usize) -> Result<(i64, usize), DecimalError> {
    if !matches!(bytes.get(at), Some(b'e' | b'E')) {
        return Ok((0, at));
    }
    let signed = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
    let negative = bytes.get(at + 1) == Some(&b'-');
    let start = at + 1 + signed;
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Err(DecimalError::Syntax { at: start });
    }
    if digits > EXPONENT_DIGITS {
        return Err(DecimalError::OutOfRange);
    }
    let end = start + digits;
    let exponent = bytes[start..end].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Ok((if negative { -exponent } else { exponent }, end))
}

/// Bytes of the longest number: a sign, 39 digits and a point.
const TEXT_BYTES: usize = 41;

/// Writes `value` * 10^-`kept` in full, without trailing zeros, never with an exponent.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, value: i128, kept: u8) -> fmt::Result {
    // Filled from the end, because division yields the last digit first.
    let mut text = [0u8; TEXT_BYTES];
    let mut start = TEXT_BYTES;
    let mut put = |byte: u8| {
        start -= 1;
        text[start] = byte;
    };
    let mut rest = value.unsigned_abs();
    let mut significant = false;
    for _ in 0..kept {
        let digit = digit(&mut rest);
        significant |= digit != 0;
        if significant {
            put(b'0' + digit);
        }
    }
    if significant {
        put(b'.');
    }
    put(b'0' + digit(&mut rest));
    while rest > 0 {
        put(b'0' + digit(&mut rest));
    }
    if value < 0 {
        put(b'-');
    }
    f.write_str(std::str::from_utf8(&text[start..]).map_err(|_| fmt::Error)?)
}

/// Removes the last digit of `rest` and returns it. Amounts below 18 USD fit 64 bits, where a division is many times
/// cheaper.
fn digit(rest: &mut u128) -> u8 {
    let (quotient, digit) = match u64::try_from(*rest) {
        Ok(small) => (u128::from(small / 10), small % 10),
        Err(_) => (*rest / 10, (*rest % 10) as u64),
    };
    *rest = quotient;
    digit as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_float_computed_is_rounded_half_to_even() {
        let cases = [
            ("0.0016150000000000001", "0.001615"),
            ("3.5250000000000003e-05", "0.00003525"),
            ("0.0000000000000000005", "0"),
            ("0.0000000000000000015", "0.000000000000000002"),
            ("0.0000000000000000025", "0.000000000000000002"),
            ("0.00000000000000000250000000000000000000000000000000000000000000000000000001", "0.000000000000000003"),
            ("-0.0000000000000000015", "-0.000000000000000002"),
            ("0.9999999999999999999", "1"),
            ("1.2345678901234567890123456789012345678901234567890", "1.234567890123456789"),
            ("5e-19", "0"),
            ("6e-19", "0.000000000000000001"),
            ("9e-20", "0"),
            ("9.9e-300", "0"),
            ("+1.50", "1.5"),
            (".25", "0.25"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_rounded(text, 18), parse(expected, 18), "{text}");
        }
        for text in ["", "-", "NaN", "inf", "1.2.3", "0.00000000000000000001x", "1,5", "--0.00000000000000000001", "1e"]
        {
            assert!(matches!(parse_rounded(text, 18), Err(DecimalError::Syntax { .. })), "{text:?}");
        }
        assert_eq!(parse_rounded("1e40", 18), Err(DecimalError::OutOfRange));
        assert_eq!(parse_rounded("1e99999", 18), Err(DecimalError::OutOfRange));
    }

    #[test]
    fn an_integer_may_be_spelt_as_a_float() {
        for (text, expected) in
            [("1234", 1234), ("1234.0", 1234), ("1e3", 1000), ("1.5e1", 15), ("-5.00", -5), ("0e9", 0)]
        {
            assert_eq!(whole(text), Some(expected), "{text}");
        }
        for text in ["12.5", "1e-1", "NaN", "", "1,200", " 1", "1e99", "0x10"] {
            assert_eq!(whole(text), None, "{text:?}");
        }
        assert_eq!([1234.0, -0.0, 1e17].map(whole_float), [Some(1234), Some(0), Some(100_000_000_000_000_000)]);
        for float in [f64::NAN, f64::INFINITY, 12.5, 1e300] {
            assert_eq!(whole_float(float), None, "{float}");
        }
    }
}
