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

use tallyd_model::quote;
pub(super) use tallyd_model::wording::{amounts_apart, cost, cost_in_usd, count, noun, usd, usd_text};

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
pub(super) fn failure() -> Option<&'static std::io::Error> {
    FAILURE.get()
}

/// What `println!` and `print!` do.
pub(super) fn out(text: Arguments<'_>, is_line: bool) {
    if let Err(error) = std::io::stdout().lock().write_all(shown(text, is_line).as_bytes())
        && error.kind() != ErrorKind::BrokenPipe
    {
        // The first reason is told.
        let _ = FAILURE.set(error);
    }
}

/// What `eprintln!` and `eprint!` do.
pub(super) fn say(text: Arguments<'_>, is_line: bool) {
    // There is nowhere else to say it.
    let _ = std::io::stderr().lock().write_all(shown(text, is_line).as_bytes());
}

fn shown(text: Arguments<'_>, is_line: bool) -> String {
    let text = text.to_string();
    if is_line { format!("{}\n", quote::line(&text)) } else { quote::lines(&text).into_owned() }
}

/// Prints an error and its causes.
pub(super) fn error(error: &anyhow::Error) {
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
pub(super) fn hint(text: &str) {
    eprintln!("hint: {text}");
}

/// Prints data as JSON.
///
/// # Errors
/// If it cannot be written as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    json_text(&tallyd_model::json::to_string_pretty(value)?);
    Ok(())
}

/// Prints text that is JSON, and a line's end.
pub(super) fn json_text(text: &str) {
    let text = quote::json(text);
    // Such characters are escapes of JSON by now, so nothing is left to quote.
    print!("{text}\n");
}

/// Data of any length, a line of JSON each.
pub(super) struct Stream(BufWriter<StdoutLock<'static>>);

impl Stream {
    /// To standard output.
    pub(super) fn new() -> Self {
        Self(BufWriter::new(std::io::stdout().lock()))
    }

    /// Prints a line. False if the reader has gone away: it has seen enough.
    ///
    /// # Errors
    /// If standard output cannot be written to, or the value not as JSON.
    pub(super) fn line(&mut self, value: &impl serde::Serialize) -> anyhow::Result<bool> {
        let text = tallyd_model::json::to_string(value)?;
        is_read(writeln!(self.0, "{}", quote::json(&text)))
    }

    /// Prints what is buffered. False if the reader has gone away.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub(super) fn flush(&mut self) -> anyhow::Result<bool> {
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

/// A list with headings. Names stand to the left, numbers to the right, and at the end there may be a text of any length.
pub(super) struct Table {
    names: usize,
    numbers: usize,
    lines: Vec<Vec<String>>,
    /// Each with the number of lines before it.
    notes: Vec<(usize, String)>,
}

impl Table {
    /// A table with these columns of names, and then of numbers.
    #[must_use]
    pub(super) fn new(names: &[&str], numbers: &[&str]) -> Self {
        let headings = names.iter().chain(numbers).map(|heading| (*heading).to_owned()).collect();
        Self { names: names.len(), numbers: numbers.len(), lines: vec![headings], notes: Vec::new() }
    }

    /// The same with a column of text at the end.
    #[must_use]
    pub(super) fn with_text(mut self, heading: &str) -> Self {
        self.lines[0].push(heading.to_owned());
        self
    }

    /// Adds a line, a cell a column.
    pub(super) fn push(&mut self, cells: Vec<String>) {
        // What is measured is what is printed: a control character is shown in several.
        self.lines.push(cells.iter().map(|cell| quote::line(cell).into_owned()).collect());
    }

    /// Adds a sentence about the line before. It stands below that line's first name, across the columns.
    pub(super) fn note(&mut self, text: &str) {
        self.notes.push((self.lines.len(), quote::line(text).into_owned()));
    }

    /// Prints it; nothing without a line.
    pub(super) fn print(&self) {
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
        let mut notes = self.notes.iter().peekable();
        let mut printed = Vec::with_capacity(self.lines.len() + self.notes.len());
        for (index, cells) in self.lines.iter().enumerate() {
            printed.push(line(cells).trim_end().to_owned());
            while let Some((_, note)) = notes.next_if(|(before, _)| *before == index + 1) {
                printed.push(format!("{:indent$}{note}", "", indent = widths[0] + 2));
            }
        }
        printed
    }
}

/// Bytes in the largest unit that keeps one digit before the point.
#[must_use]
pub(super) fn bytes(number: u64) -> String {
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
    fn lists_have_columns_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["model"], &["calls"]);
        table.push(vec!["a\u{1b}".into(), "10".into()]);
        table.push(vec!["bc".into(), "7".into()]);
        assert_eq!(table.lines(), ["model    calls", "a\\u{1b}     10", "bc           7"]);
        let mut table = Table::new(&["id"], &["calls"]).with_text("why");
        table.push(vec!["1".into(), "10".into(), "so".into()]);
        table.push(vec!["2".into(), "7".into(), "because".into()]);
        assert_eq!(table.lines(), ["id  calls  why", "1      10  so", "2       7  because"]);
        table.note("a sentence\u{1b} that is longer than any column");
        table.push(vec!["333".into(), "1".into()]);
        let below = table.lines();
        assert_eq!(below[3..], ["     a sentence\\u{1b} that is longer than any column", "333      1"]);
        assert_eq!([0, 1_023, 1_024, 1_572_864].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
    }
}
