//! How commands speak: errors with their causes on stderr, numbers that a person can read.

use std::io::Write;

/// Prints an error and its causes.
pub fn error(error: &anyhow::Error) {
    eprintln!("error: {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors repeat their cause in their own text.
        if !said.contains(&cause) {
            eprintln!("  because: {cause}");
        }
        said = cause;
    }
}

/// Prints what a person should do next.
pub fn hint(text: &str) {
    eprintln!("hint: {text}");
}

/// Prints data as JSON. A reader that has gone away is no error.
///
/// # Errors
/// If standard output cannot be written to.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

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

/// Bytes in the largest unit that keeps one digit before the point.
#[must_use]
pub fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_for_reading() {
        assert_eq!([0, 999, 1_000, 28_185, 1_234_567].map(count), ["0", "999", "1,000", "28,185", "1,234,567"]);
        assert_eq!([0, 1_023, 1_024, 1_572_864].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
    }
}
