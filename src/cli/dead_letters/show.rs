//! Letters as text for people.

use std::fmt::Write;

use chrono::SecondsFormat;
use tallyd_model::json::{self, Value};

use crate::cli::output::{Table, count};
use tallyd_model::quote;
use tallyd_store::dead_letters::{DeadLetter, Group};

/// The most characters of a message in a list.
const MESSAGE_CHARS: usize = 80;

/// A line a letter.
pub(super) fn list(letters: &[DeadLetter]) -> Table {
    let mut table = Table::new(&["id", "arrived", "kind", "reason", "field", "provider"], &[]).with_text("message");
    for letter in letters {
        let at = letter.created_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let outcome = letter.outcome.as_deref().map_or_else(String::new, |outcome| format!("[{outcome}] "));
        let message = format!("{outcome}{}", short(&letter.message));
        let (id, provider) = (letter.id.to_string(), letter.payload.provider());
        let names = [&id, &at, &letter.kind, &letter.code, &letter.field, &provider].map(|name| or_dash(name));
        table.push([names.to_vec(), vec![message]].concat());
    }
    table
}

/// A line a group.
pub(super) fn groups(groups: &[Group]) -> Table {
    let mut table = Table::new(&["reason", "field", "sender"], &["refused", "counted", "open"]).with_text("message");
    for group in groups {
        let mut cells = [&group.code, &group.field, &group.producer].map(|name| or_dash(name)).to_vec();
        cells.extend([group.refused, group.only_counted, group.open].map(|number| count(number.unsigned_abs())));
        cells.push(short(group.message.as_deref().unwrap_or_default()));
        table.push(cells);
    }
    table
}

fn or_dash(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { name.to_owned() }
}

fn short(message: &str) -> String {
    let line = quote::line(message);
    let mut text: String = line.chars().take(MESSAGE_CHARS).collect();
    if text.len() < line.len() {
        text.push('…');
    }
    text
}

/// One letter in full.
///
/// # Errors
/// None in practice: JSON values serialize.
pub(super) fn whole(letter: &DeadLetter) -> anyhow::Result<String> {
    let mut text = String::new();
    let Value::Object(fields) = json::from_str(&json::to_string(letter)?)? else { return Ok(text) };
    writeln!(text, "dead letter {}", letter.id)?;
    for (name, value) in fields.iter().filter(|(name, _)| *name != "id" && *name != "record") {
        match value {
            Value::Null => {}
            Value::String(value) if value.is_empty() => {}
            Value::String(value) => writeln!(text, "  {name:<12} {}", quote::line(value))?,
            other => writeln!(text, "  {name:<12} {other}")?,
        }
    }
    match &fields["record"] {
        Value::String(raw) if raw.is_empty() => writeln!(text, "  record       deleted")?,
        Value::String(raw) => writeln!(text, "  record       not whole: {}", quote::line(raw))?,
        record => writeln!(text, "  record       {record}")?,
    }
    Ok(text)
}
