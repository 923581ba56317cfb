//! Letters in a form for people.

use std::fmt::Write;

use crate::json::{self, Value};
use chrono::SecondsFormat;

use crate::dead_letters::{DeadLetter, Group};
use crate::quote;

/// Characters of a message in a list.
const MESSAGE_CHARS: usize = 80;

/// A letter in a line.
pub fn line(letter: &DeadLetter) -> String {
    let at = letter.created_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let field = if letter.field.is_empty() { String::new() } else { format!(" ({})", letter.field) };
    let outcome = letter.outcome.as_deref().map_or_else(String::new, |outcome| format!("[{outcome}] "));
    let mut message: String = quote::line(&letter.message).chars().take(MESSAGE_CHARS).collect();
    if message.len() < letter.message.len() {
        message.push('…');
    }
    let provider = letter.payload.provider();
    let provider = if provider.is_empty() { "-" } else { &provider };
    format!("{:>8}  {at}  {:<8} {}{}  {}  {outcome}{message}", letter.id, letter.kind, letter.code, field, provider)
}

/// A group in a line.
pub fn group(group: &Group) -> String {
    let field = if group.field.is_empty() { "-" } else { &group.field };
    let producer = if group.producer.is_empty() { "-" } else { &group.producer };
    let message =
        quote::line(group.message.as_deref().unwrap_or_default()).chars().take(MESSAGE_CHARS).collect::<String>();
    let code = &group.code;
    let (refused, counted, open) = (group.refused, group.only_counted, group.open);
    format!("{refused:>10}  {counted:>10}  {open:>10}  {code}  {field}  {producer}  {message}")
}

/// A letter whole.
///
/// # Errors
/// None in practice: JSON values serialize.
pub fn whole(letter: &DeadLetter) -> anyhow::Result<String> {
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
