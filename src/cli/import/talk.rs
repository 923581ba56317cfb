//! Messages of an import on standard error: progress, notes, and refused rows.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::output::{count, noun};

/// The most refused rows that are printed one by one.
const SHOWN: u64 = 20;
/// How often a line of progress is written without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Writes to standard error, around a bar that only a terminal shows.
pub(super) struct Talk {
    bar: ProgressBar,
    /// When the last line of progress was written; none if such lines are not wanted.
    last_line: Option<Instant>,
    quiet: bool,
    started: Instant,
    refused: u64,
    /// The messages so far, for tests.
    #[cfg(test)]
    pub said: Vec<String>,
}

impl Talk {
    /// Progress through a file of `bytes` bytes. If quiet, only refusals and troubles are printed.
    pub(super) fn new(bytes: u64, quiet: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal && !quiet { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  {elapsed} elapsed, {eta} to go");
        // The template is a constant.
        bar.set_style(style.expect("the template is right"));
        let started = Instant::now();
        Self {
            bar,
            last_line: (!on_terminal && !quiet).then_some(started),
            quiet,
            started,
            refused: 0,
            #[cfg(test)]
            said: Vec::new(),
        }
    }

    /// Shows the progress: bytes of the file that were read, rows of this run that are on disk.
    pub(super) fn progress(&mut self, bytes: u64, recorded: u64) {
        let rate = recorded as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let text = format!("{} on disk, {} a second", noun(recorded, "row", "rows"), count(rate as u64));
        self.bar.set_position(bytes);
        if self.last_line.is_some_and(|last| last.elapsed() >= LINE_INTERVAL) {
            self.last_line = Some(Instant::now());
            let percent = bytes.saturating_mul(100).checked_div(self.bar.length().unwrap_or(0)).unwrap_or(100);
            self.say(&format!("{percent} % read, {text}"));
        }
        self.bar.set_message(text);
    }

    /// Prints a note, unless quiet.
    pub(super) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.say(&format!("note: {text}"));
        }
    }

    /// Prints a warning about a trouble that is being dealt with.
    pub(super) fn trouble(&mut self, text: &str) {
        self.say(&format!("warning: {text}"));
    }

    /// Prints a refused row, or only counts it after the first [`SHOWN`].
    pub(super) fn refused(&mut self, row: u64, line: u64, reason: &str) {
        self.refused += 1;
        if self.refused <= SHOWN {
            self.say(&format!("row {row} (line {line}) was refused: {reason}"));
        }
    }

    pub(super) const fn refusals(&self) -> u64 {
        self.refused
    }

    /// Removes the bar, and prints the number of refusals that were not printed.
    pub(super) fn end(&mut self) {
        self.bar.finish_and_clear();
        if self.refused > SHOWN {
            self.say(&format!("… and {} more refused rows", count(self.refused - SHOWN)));
        }
    }

    fn say(&mut self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
        #[cfg(test)]
        self.said.push(text.to_owned());
    }
}
