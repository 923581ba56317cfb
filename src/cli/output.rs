//! Output of commands: data, messages, errors with their causes, numbers for people.
//!
//! All output of commands goes through here. Within `src/cli`, `println!`, `print!`, `eprintln!` and `eprint!` are the
//! macros below, not the standard library's:
//!
//! * Foreign text (names of models, users, producers) cannot move the cursor, reorder text or forge a line: `println!`
//!   prints exactly one line ([`quote::line`]). Text of several lines goes through `print!` ([`quote::lines`]).
//! * A reader that has gone away (`| head`, `| grep -q`) is not an error: the command goes on to its end, because it
//!   may change something, and prints nothing more. A stream of data ([`Stream`]) ends instead.
//! * If output cannot be written for another reason (a full disk), the command fails: [`failure`].

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

/// Prints a message of one line.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::output::say(format_args!($($text)*), true) };
}

/// Prints a message of several lines.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::output::say(format_args!($($text)*), false) };
}

/// The first error of writing data.
static FAILURE: OnceLock<std::io::Error> = OnceLock::new();

/// The first error of writing data, if there was one.
pub(super) fn failure() -> Option<&'static std::io::Error> {
    FAILURE.get()
}

/// Implements `println!` and `print!`.
pub(super) fn out(text: Arguments<'_>, is_line: bool) {
    if let Err(error) = std::io::stdout().lock().write_all(shown(text, is_line).as_bytes())
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Fails if an earlier error is already kept.
        let _ = FAILURE.set(error);
    }
}

/// Implements `eprintln!` and `eprint!`.
pub(super) fn say(text: Arguments<'_>, is_line: bool) {
    // An error of stderr cannot be reported anywhere.
    let _ = std::io::stderr().lock().write_all(shown(text, is_line).as_bytes());
}

fn shown(text: Arguments<'_>, is_line: bool) -> String {
    let text = text.to_string();
    if is_line { format!("{}\n", quote::line(&text)) } else { quote::lines(&text).into_owned() }
}

/// Prints an error and its causes.
pub(super) fn error(error: &anyhow::Error) {
    // `print`, because an error of the configuration shows the lines around it.
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

/// Says how old an answer is.
pub(super) fn loading(at: chrono::DateTime<chrono::Utc>) {
    hint(&format!("many calls are being loaded: those after {} may be missing", at.format("%H:%M:%S UTC")));
}

/// Prints a hint: the person's next step.
pub(super) fn hint(text: &str) {
    eprintln!("hint: {text}");
}

/// Prints a value as JSON.
///
/// # Errors
/// If it cannot be written as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    json_text(&tallyd_model::json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a text that is JSON, as a line.
pub(super) fn json_text(text: &str) {
    let text = quote::json(text);
    // `quote::json` has escaped the characters that `print!` would quote.
    print!("{text}\n");
}

/// Data of any length, a line of JSON for each value.
pub(super) struct Stream(BufWriter<StdoutLock<'static>>);

impl Stream {
    pub(super) fn new() -> Self {
        Self(BufWriter::new(std::io::stdout().lock()))
    }

    /// Prints a line. False if the reader has gone away.
    ///
    /// # Errors
    /// If standard output cannot be written to, or the value does not serialize.
    pub(super) fn line(&mut self, value: &impl serde::Serialize) -> anyhow::Result<bool> {
        let text = tallyd_model::json::to_string(value)?;
        is_read(writeln!(self.0, "{}", quote::json(&text)))
    }

    /// Writes the buffer out. False if the reader has gone away.
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

/// A list with headings. Names are aligned left, numbers right; the last column may be text of any length.
pub(super) struct Table {
    names: usize,
    numbers: usize,
    lines: Vec<Vec<String>>,
    /// Notes, each with the number of lines before it.
    notes: Vec<(usize, String)>,
}

impl Table {
    /// A table with these columns of names, and then of numbers.
    #[must_use]
    pub(super) fn new(names: &[&str], numbers: &[&str]) -> Self {
        let headings = names.iter().chain(numbers).map(|heading| (*heading).to_owned()).collect();
        Self { names: names.len(), numbers: numbers.len(), lines: vec![headings], notes: Vec::new() }
    }

    /// Adds a last column of text.
    #[must_use]
    pub(super) fn with_text(mut self, heading: &str) -> Self {
        self.lines[0].push(heading.to_owned());
        self
    }

    /// Adds a line, with one cell for each column.
    pub(super) fn push(&mut self, cells: Vec<String>) {
        // Quoted before columns are measured: a control character is printed as several characters.
        self.lines.push(cells.iter().map(|cell| quote::line(cell).into_owned()).collect());
    }

    /// Adds a sentence about the line before, below that line's first name and across the columns.
    pub(super) fn note(&mut self, text: &str) {
        self.notes.push((self.lines.len(), quote::line(text).into_owned()));
    }

    /// Prints the table; nothing if it has no lines.
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
