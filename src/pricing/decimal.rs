//! Exact decimal text: read into, and written from, an integer that counts the last kept decimal place.
//!
//! Nothing is ever rounded here. A number that has more decimals than are kept is an error, because whoever sent it
//! meant those digits; trailing zeros do not count (`0.50000000000000000000` is one half).

use std::fmt;

/// Why a text is not a number that can be held exactly.
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
    /// The magnitude cannot be held.
    #[error("too large a number")]
    OutOfRange,
    /// A quantity below zero.
    #[error("negative; a quantity counts what was used")]
    Negative,
}

/// The exponent may have so many digits: more could only spell zero or a number out of range.
const EXPONENT_DIGITS: usize = 4;

/// Reads `text` as a multiple of 10^-`kept`.
pub(super) fn parse(text: &str, kept: u8) -> Result<i128, DecimalError> {
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

/// The digits without their leading and trailing zeros: the number is `value` * 10^`power`.
struct Mantissa {
    value: i128,
    power: i64,
}

impl Mantissa {
    /// Reads digits with at most one point, from `start`. Returns where they end, too.
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

/// Reads `e` or `E`, a sign and digits, if an exponent is there. Returns where it ends, too.
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

/// Bytes that the longest number takes: a sign, 39 digits and a point.
const TEXT_BYTES: usize = 41;

/// Writes `value` * 10^-`kept` in full, without trailing zeros, never with an exponent.
pub(super) fn write(f: &mut fmt::Formatter<'_>, value: i128, kept: u8) -> fmt::Result {
    // Filled from the end, so that the digits come in the order in which division yields them.
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

/// Takes the last digit off `rest`. Amounts below 18 USD fit 64 bits, where a division is many times cheaper.
fn digit(rest: &mut u128) -> u8 {
    let (quotient, digit) = match u64::try_from(*rest) {
        Ok(small) => (u128::from(small / 10), small % 10),
        Err(_) => (*rest / 10, (*rest % 10) as u64),
    };
    *rest = quotient;
    digit as u8
}
