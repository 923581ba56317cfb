//! Numbers and amounts in messages and lists for people.

use crate::pricing::Usd;

/// A number with separated thousands.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and its noun: `1 alert`, `2 alerts`. The noun may include its verb: `1 call was`, `2 calls were`.
#[must_use]
pub fn noun(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    // Counts are not negative.
    let number = number.try_into().unwrap_or(0);
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// An amount for people: in cents, half a cent rounded up. An amount below a cent is shown as such, not as 0. `exact`
/// keeps every digit.
#[must_use]
pub fn usd(amount: Usd, exact: bool) -> String {
    const CENT: i128 = Usd::ONE.attos() / 100;
    if exact {
        return amount.to_string();
    }
    if amount != Usd::ZERO && amount.attos().abs() < CENT {
        return if amount.attos() < 0 { "> -0.01" } else { "< 0.01" }.to_owned();
    }
    let cents = (amount.attos() + CENT / 2).div_euclid(CENT);
    let (sign, cents) = (if cents < 0 { "-" } else { "" }, cents.unsigned_abs());
    let whole = u64::try_from(cents / 100).map_or_else(|_| (cents / 100).to_string(), count);
    format!("{sign}{whole}.{:02}", cents % 100)
}

/// The same for an amount in PostgreSQL's text. Adopted costs may have more decimals than a cost here: a digit beyond
/// the eighteenth only keeps the amount from counting as 0.
#[must_use]
pub fn usd_text(amount: &str) -> String {
    let decimals = amount.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let (kept, left) = amount.split_at_checked(amount.len() - decimals.saturating_sub(18)).unwrap_or((amount, ""));
    match Usd::parse(kept) {
        Ok(Usd::ZERO) if left.bytes().any(|digit| digit != b'0') => {
            usd(Usd::from_attos(if kept.starts_with('-') { -1 } else { 1 }), false)
        }
        Ok(amount) => usd(amount, false),
        Err(_) => amount.to_owned(),
    }
}

/// Characters of a name in a message.
const NAME_CHARS: usize = 100;

/// A name in a message: quoted, so that its end is visible, and cut if it is too long.
#[must_use]
pub fn named(name: &str) -> String {
    format!("\"{}\"", short(name, NAME_CHARS))
}

/// The beginning of a text, of at most `chars` characters.
#[must_use]
pub fn short(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

const UNPRICED: &str = "unpriced";

/// The cost of calls in a list. If all calls are unpriced, there is no amount.
#[must_use]
pub fn cost(amount: Usd, calls: u64, unpriced: u64, exact: bool) -> String {
    if unpriced > 0 && unpriced == calls { UNPRICED.to_owned() } else { usd(amount, exact) }
}

/// The same in a sentence: `1.20 USD`, `unpriced`.
#[must_use]
pub fn cost_in_usd(amount: Usd, calls: u64, unpriced: u64) -> String {
    match cost(amount, calls, unpriced, false) {
        cost if cost == UNPRICED => cost,
        cost => format!("{cost} USD"),
    }
}

/// Two different amounts, side by side: with all digits if they are equal in cents.
#[must_use]
pub fn amounts_apart(one: &str, other: &str) -> (String, String) {
    let shown = (usd_text(one), usd_text(other));
    if shown.0 == shown.1 && one != other { (one.to_owned(), other.to_owned()) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_for_reading() {
        assert_eq!([0, 999, 1_000, 28_185, 1_234_567].map(count), ["0", "999", "1,000", "28,185", "1,234,567"]);
        assert_eq!(
            [0, 1, 2_000].map(|number| noun(number, "alert", "alerts")),
            ["0 alerts", "1 alert", "2,000 alerts"]
        );
    }

    #[test]
    fn names_are_bounded() {
        assert_eq!(named("web"), "\"web\"");
        assert_eq!(named(&"ü".repeat(101)), format!("\"{}…\"", "ü".repeat(100)));
    }

    #[test]
    fn amounts_are_in_cents_and_a_small_one_is_not_nothing() {
        let amounts = ["0", "0.004", "-0.004", "0.005", "0.01", "1234.565", "-3", "1000000"];
        let shown = amounts.map(|text| usd(Usd::parse(text).unwrap(), false));
        assert_eq!(shown, ["0.00", "< 0.01", "> -0.01", "< 0.01", "0.01", "1,234.57", "-3.00", "1,000,000.00"]);
        assert_eq!(usd(Usd::parse("0.00000001").unwrap(), true), "0.00000001");
        assert_eq!(usd_text("12.3456"), "12.35");
        assert_eq!(usd_text("12.3456000000000000000001"), "12.35", "more decimals than a cost has");
        assert_eq!(usd_text(&format!("0.{}1", "0".repeat(19))), "< 0.01");
        assert_eq!(usd_text(&format!("-0.{}1", "0".repeat(19))), "> -0.01");
        assert_eq!(usd_text("NaN"), "NaN");
        assert_eq!(
            [(3, 3), (3, 1), (0, 0)].map(|(calls, n)| cost(Usd::ZERO, calls, n, false)),
            ["unpriced", "0.00", "0.00"]
        );
        assert_eq!(amounts_apart("1.001", "2"), ("1.00".into(), "2.00".into()));
        assert_eq!(amounts_apart("1.001", "1"), ("1.001".into(), "1".into()));
    }
}
