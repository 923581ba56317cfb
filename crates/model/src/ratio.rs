//! `amount` * `part` / `whole` with a product of 256 bits: an amount of money times a list's cost does not fit 128.

/// The amount in proportion, rounded half to even. None if `part` is negative, `whole` is not positive, or the result
/// needs more than 127 bits.
#[must_use]
pub fn proportion(amount: i128, part: i128, whole: i128) -> Option<i128> {
    if part < 0 || whole <= 0 {
        return None;
    }
    let (high, low) = product(amount.unsigned_abs(), part.unsigned_abs());
    let (quotient, rest) = quotient(high, low, whole.unsigned_abs())?;
    let half = rest.cmp(&(whole.unsigned_abs() - rest));
    let up = half.is_gt() || half.is_eq() && quotient % 2 == 1;
    let magnitude = i128::try_from(quotient.checked_add(u128::from(up))?).ok()?;
    Some(if amount < 0 { -magnitude } else { magnitude })
}

/// The product's upper and lower 128 bits.
fn product(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let low = a_low * b_low;
    let middle = a_high * b_low + (low >> 64);
    let other = a_low * b_high + (middle & LOW);
    (a_high * b_high + (middle >> 64) + (other >> 64), other << 64 | low & LOW)
}

/// The quotient by a divisor below 2^127, bit by bit, and the rest. None if the quotient needs more than 128 bits.
fn quotient(high: u128, low: u128, divisor: u128) -> Option<(u128, u128)> {
    if high >= divisor {
        return None;
    }
    if high == 0 {
        return Some((low / divisor, low % divisor));
    }
    let (mut rest, mut quotient) = (high, 0);
    for bit in (0..128).rev() {
        // The rest is below the divisor, so a bit more fits.
        rest = rest << 1 | low >> bit & 1;
        quotient <<= 1;
        if rest >= divisor {
            rest -= divisor;
            quotient |= 1;
        }
    }
    Some((quotient, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_are_rounded_to_even_and_a_large_product_is_exact() {
        for (amount, part, whole, expected) in
            [(5, 1, 2, 2), (-5, 1, 2, -2), (7, 1, 2, 4), (10, 2, 3, 7), (10, 1, 3, 3), (0, 5, 7, 0), (9, 0, 7, 0)]
        {
            assert_eq!(proportion(amount, part, whole), Some(expected), "{amount} * {part} / {whole}");
        }
        let large = 10_i128.pow(37);
        assert_eq!(proportion(large, large, large), Some(large));
        assert_eq!(proportion(-large, 3 * (large / 7), large / 7), Some(-3 * large));
        assert_eq!(proportion(large, large, 1), None);
        assert_eq!([proportion(1, 1, 0), proportion(1, -1, 1), proportion(1, 1, -1)], [None; 3]);
    }

    proptest! {
        #[test]
        fn a_product_is_divided_back(amount: i64, part in 1..i128::MAX, whole in 1..=i64::MAX) {
            let whole = i128::from(whole);
            // amount * whole * part / part
            prop_assert_eq!(proportion(i128::from(amount) * whole, part, part), Some(i128::from(amount) * whole));
            if let Some(product) = i128::from(amount).checked_mul(part) {
                let (down, rest) = (product.div_euclid(whole), product.rem_euclid(whole));
                let found = proportion(i128::from(amount), part, whole).unwrap();
                prop_assert!(found == down && rest * 2 <= whole || found == down + 1 && rest * 2 >= whole);
            }
        }
    }
}
