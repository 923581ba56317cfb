//! Numbers in sentences, for every message that a person reads.

/// A number with its thousands set apart.
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

/// A number and its noun: `1 alert`, `2 alerts`. The noun may have its verb with it: `1 call was`, `2 calls were`.
#[must_use]
pub fn noun(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    // What is counted is not negative.
    let number = number.try_into().unwrap_or(0);
    format!("{} {}", count(number), if number == 1 { one } else { many })
}
