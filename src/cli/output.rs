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

use tallyd_model::pricing::Usd;
use tallyd_model::quote;
pub use tallyd_model::wording::{count, noun};

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
    json_text(&tallyd_model::json::to_string_pretty(value)?);
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
        let text = tallyd_model::json::to_string(value)?;
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

/// An amount as people read it: in cents, half a cent rounded up; more digits where cents would say nothing. `exact` keeps every digit.
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

/// The same of an amount as PostgreSQL writes it. One that is not read, because it has more digits than any cost, stays as it is.
#[must_use]
pub fn usd_text(amount: &str) -> String {
    Usd::parse(amount).map_or_else(|_| amount.to_owned(), |amount| usd(amount, false))
}

/// A list with headings. Names stand to the left, numbers to the right, and at the end there may be a text of any length.
pub struct Table {
    names: usize,
    numbers: usize,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns of names, and then of numbers.
    #[must_use]
    pub fn new(names: &[&str], numbers: &[&str]) -> Self {
        let headings = names.iter().chain(numbers).map(|heading| (*heading).to_owned()).collect();
        Self { names: names.len(), numbers: numbers.len(), lines: vec![headings] }
    }

    /// The same with a column of text at the end.
    #[must_use]
    pub fn with_text(mut self, heading: &str) -> Self {
        self.lines[0].push(heading.to_owned());
        self
    }

    /// Adds a line, a cell a column.
    pub fn push(&mut self, cells: Vec<String>) {
        // What is measured is what is printed: a control character is shown in several.
        self.lines.push(cells.iter().map(|cell| quote::line(cell).into_owned()).collect());
    }

    /// Prints it; nothing without a line.
    pub fn print(&self) {
        if self.lines.len() > 1 {
            self.lines().iter().for_each(|line| println!("{line}"));
        }
    }

    fn lines(&self) -> Vec<String> {
        let width =
            |at: usize| self.lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.lines[0].len()).map(|at| width(at).unwrap_or(0)).collect();
        let cell = |(at, text): (usize, &String)| {
            let wide = widths[at];
            if at < self.names || at >= self.names + self.numbers {
                format!("{text:<wide$}")
            } else {
                format!("{text:>wide$}")
            }
        };
        let line = |cells: &Vec<String>| cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        self.lines.iter().map(|cells| line(cells).trim_end().to_owned()).collect()
    }
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
        assert_eq!(
            [0, 1, 2_000].map(|number| noun(number, "alert", "alerts")),
            ["0 alerts", "1 alert", "2,000 alerts"]
        );
        let amounts = ["0", "0.004", "-0.004", "0.005", "0.01", "1234.565", "-3", "1000000"];
        let shown = amounts.map(|text| usd(Usd::parse(text).unwrap(), false));
        assert_eq!(shown, ["0.00", "< 0.01", "> -0.01", "< 0.01", "0.01", "1,234.57", "-3.00", "1,000,000.00"]);
        assert_eq!(usd(Usd::parse("0.00000001").unwrap(), true), "0.00000001");
        let mut table = Table::new(&["model"], &["calls"]);
        table.push(vec!["a\u{1b}".into(), "10".into()]);
        table.push(vec!["bc".into(), "7".into()]);
        assert_eq!(table.lines(), ["model    calls", "a\\u{1b}     10", "bc           7"]);
        let mut table = Table::new(&["id"], &["calls"]).with_text("why");
        table.push(vec!["1".into(), "10".into(), "so".into()]);
        table.push(vec!["2".into(), "7".into(), "because".into()]);
        assert_eq!(table.lines(), ["id  calls  why", "1      10  so", "2       7  because"]);
        assert_eq!([0, 1_023, 1_024, 1_572_864].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
    }
}
