//! How commands speak: errors with their causes on stderr, numbers that a person can read.
//!
//! All that a command prints goes through here. Within `src/cli`, `println!`, `print!`, `eprintln!` and `eprint!` are the
//! macros below, not the standard library's:
//!
//! * Text of others (names of models, users, producers) cannot move the cursor, reorder text or forge a line: what
//!   `println!` prints is one line, [`quote::line`]. Text that has several lines goes through `print!`, [`quote::lines`].
//! * A reader that has gone away (`| head`, `| grep -q`) is not an error: the command goes on to its end, because it may
//!   change something, and prints nothing more. What streams data ([`Stream`]) ends instead.
//! * Output that cannot be written for another reason (a full disk) makes the command fail: [`failure`].

use std::fmt::Arguments;
use std::io::{BufWriter, ErrorKind, StdoutLock, Write};
use std::sync::OnceLock;

use crate::quote;

/// Prints a line of data.
macro_rules! println {
    ($($text:tt)*) => { $crate::cli::output::out(format_args!($($text)*), true) };
}

/// Prints data of several lines.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::out(format_args!($($text)*), false) };
}

/// Says a line to the person at the terminal.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::output::say(format_args!($($text)*), true) };
}

/// Says several lines.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::output::say(format_args!($($text)*), false) };
}

/// Why output was not written; the first reason.
static FAILURE: OnceLock<std::io::Error> = OnceLock::new();

/// Why data could not be printed, if it could not.
pub fn failure() -> Option<&'static std::io::Error> {
    FAILURE.get()
}

/// What `println!` and `print!` do.
pub fn out(text: Arguments<'_>, is_line: bool) {
    if let Err(error) = std::io::stdout().lock().write_all(shown(text, is_line).as_bytes())
        && error.kind() != ErrorKind::BrokenPipe
    {
        // The first reason is told.
        let _ = FAILURE.set(error);
    }
}

/// What `eprintln!` and `eprint!` do.
pub fn say(text: Arguments<'_>, is_line: bool) {
    // There is nowhere else to say it.
    let _ = std::io::stderr().lock().write_all(shown(text, is_line).as_bytes());
}

fn shown(text: Arguments<'_>, is_line: bool) -> String {
    let text = text.to_string();
    if is_line { format!("{}\n", quote::line(&text)) } else { quote::lines(&text).into_owned() }
}

/// Prints an error and its causes.
pub fn error(error: &anyhow::Error) {
    // A mistake in the configuration is shown with the lines around it.
    eprint!("error: {error}\n");
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors repeat their cause in their own text.
        if !said.contains(&cause) {
            eprint!("  because: {cause}\n");
        }
        said = cause;
    }
}

/// Prints what a person should do next.
pub fn hint(text: &str) {
    eprintln!("hint: {text}");
}

/// Prints data as JSON.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    json_text(&crate::json::to_string_pretty(value)?);
    Ok(())
}

/// Prints text that is JSON, and a line's end.
pub fn json_text(text: &str) {
    let text = quote::json(text);
    // Such characters are escapes of JSON by now, so nothing is left to quote.
    print!("{text}\n");
}

/// Data of any length, a line of JSON each.
pub struct Stream(BufWriter<StdoutLock<'static>>);

impl Stream {
    /// To standard output.
    pub fn new() -> Self {
        Self(BufWriter::new(std::io::stdout().lock()))
    }

    /// Prints a line. False if the reader has gone away: it has seen enough.
    ///
    /// # Errors
    /// If standard output cannot be written to, or the value not as JSON.
    pub fn line(&mut self, value: &impl serde::Serialize) -> anyhow::Result<bool> {
        let text = crate::json::to_string(value)?;
        is_read(writeln!(self.0, "{}", quote::json(&text)))
    }

    /// Prints what is buffered. False if the reader has gone away.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn flush(&mut self) -> anyhow::Result<bool> {
        is_read(self.0.flush())
    }
}

fn is_read(written: std::io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
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

/// A number and its noun: `1 alert`, `2 alerts`.
#[must_use]
pub fn noun(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
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
