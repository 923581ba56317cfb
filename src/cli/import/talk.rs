//! What an import says on standard error: how far it is, what it passes over, which rows were refused.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::output::{count, noun};

/// Refused rows that are told one by one.
const SHOWN: u64 = 20;
/// How often a line says how far the import is where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Says things on standard error, around a bar that is there only on a terminal.
pub(super) struct Talk {
    bar: ProgressBar,
    /// When the last line of progress was written; none where there are no such lines.
    last_line: Option<Instant>,
    quiet: bool,
    started: Instant,
    refused: u64,
    /// What was said, for tests to look at.
    #[cfg(test)]
    pub said: Vec<String>,
}

impl Talk {
    /// Progress through a file of so many bytes. If quiet, only refusals and troubles are told.
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

    /// Shows how far the import is: bytes of the file that were read, rows of this run that are on disk.
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

    /// Tells what is good to know.
    pub(super) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.say(&format!("note: {text}"));
        }
    }

    /// Tells of a trouble that is being dealt with.
    pub(super) fn trouble(&mut self, text: &str) {
        self.say(&format!("warning: {text}"));
    }

    /// Tells of a refused row, or counts it if many were told already.
    pub(super) fn refused(&mut self, row: u64, line: u64, reason: &str) {
        self.refused += 1;
        if self.refused <= SHOWN {
            self.say(&format!("row {row} (line {line}) was refused: {reason}"));
        }
    }

    /// How many rows were refused.
    pub(super) const fn refusals(&self) -> u64 {
        self.refused
    }

    /// Takes the bar away, and counts the refusals that were not told.
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
