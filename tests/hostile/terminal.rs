//! Terminals, logs and pipes: producers, models and users choose their names, and a reader may go away.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// Clears the screen by two kinds of control sequence, reverses the following text, forges a line.
const NAME: &str = "m\u{1b}[2J\u{9b}2J\u{202e}x\u{200b}\r\nFORGED everything is fine";

/// Commands of the program, with their input files: a bill, a price list and an import.
fn commands(bill: &str, list: &str, rows: &str, folder: &str) -> Vec<Vec<String>> {
    let day = ["--from", "2026-02-01", "--to", "2026-03-01"];
    let focus = &format!("{folder}.focus.csv");
