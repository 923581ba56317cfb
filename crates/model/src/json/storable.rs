//! Makes metadata acceptable to PostgreSQL.
//!
//! Metadata describes a call, and must never cause its loss. `jsonb` refuses NUL, half of a surrogate pair, and numbers
//! beyond `numeric`; it prints `1e131071` as 131,072 digits at each reading. So a NUL or half a pair becomes U+FFFD. A
//! number beyond [`NUMBER_BYTES`] or [`EXPONENT_MAX`], or a value nested beyond [`LEVELS`], becomes a string of its own
//! text. Nothing is lost, and a reader gets at most about 130 digits for 5 sent bytes.

use std::borrow::Cow;

use super::Error;
use super::scan::{Scanner, Token, is_storable, unquote};

/// Largest number of bytes of a number that stays a number.
pub const NUMBER_BYTES: usize = 64;
/// Largest exponent, of either sign, of a number that stays a number.
pub const EXPONENT_MAX: u32 = 64;
/// Levels of nesting that stay JSON, because readers in many languages recurse.
pub const LEVELS: usize = 64;

/// The text, changed where `jsonb` would refuse it. A changed text does not have white space.
///
/// # Errors
/// [`Error`] if it is not one JSON value.
pub fn storable(text: &str) -> Result<Cow<'_, str>, Error> {
    let (mut depth, mut is_fine) = (0usize, true);
    let mut scanner = Scanner::new(text);
    let walked = scanner.walk(|token, _| match token {
        Token::Open(_) => {
            depth += 1;
            is_fine &= depth <= LEVELS;
        }
        Token::Close(_) => depth -= 1,
        Token::String(quoted) => is_fine &= is_storable(quoted),
        Token::Number(digits) => is_fine &= is_small(digits),
        Token::Between(_) | Token::Literal(_) => {}
    });
    walked.and_then(|()| scanner.end()).map_err(|error| error.place(text))?;
    Ok(if is_fine { Cow::Borrowed(text) } else { Cow::Owned(rewritten(text, true)) })
}

/// The text of a checked value, without white space.
#[must_use]
pub fn compact(text: &str) -> String {
    rewritten(text, false)
}

/// As [`storable`], for people and for programs that recurse: strings are valid text and nesting is bounded, but
/// numbers keep their digits. The text must be JSON.
#[must_use]
pub fn shallow(text: &str) -> String {
    let mut depth = 0usize;
    let mut is_fine = true;
    // The caller has checked the text, so the walk does not fail.
    let _ = Scanner::new(text).walk(|token, _| match token {
        Token::Open(_) => {
            depth += 1;
            is_fine &= depth <= LEVELS;
        }
        Token::Close(_) => depth -= 1,
        Token::String(quoted) => is_fine &= is_storable(quoted),
        _ => {}
    });
    if is_fine { text.to_owned() } else { write(text, |_| true, LEVELS) }
}

fn rewritten(text: &str, for_jsonb: bool) -> String {
    if for_jsonb { write(text, is_small, LEVELS) } else { write(text, |_| true, usize::MAX) }
}

fn write(text: &str, keeps: impl Fn(&str) -> bool, levels: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut depth = 0usize;
    // The beginning of a value that is nested too deeply.
    let mut deep = None;
    // The caller has checked the text, so the walk does not fail.
    let _ = Scanner::new(text).walk(|token, at| {
        match token {
            Token::Open(_) => {
                depth += 1;
                if depth == levels.saturating_add(1) && deep.is_none() {
                    deep = Some(at);
                }
            }
            Token::Close(_) => {
                depth -= 1;
                if depth == levels
                    && let Some(start) = deep.take()
                {
                    push_string(&mut out, &text[start..=at]);
                    return;
                }
            }
            _ => {}
        }
        if deep.is_some() {
            return;
        }
        match token {
            Token::Open(bracket) | Token::Close(bracket) | Token::Between(bracket) => out.push(bracket as char),
            Token::String(quoted) if is_storable(quoted) => out.push_str(quoted),
            Token::String(quoted) => push_string(&mut out, &unquote(quoted).replace('\0', "\u{fffd}")),
            Token::Number(digits) if keeps(digits) => out.push_str(digits),
            Token::Number(digits) => push_string(&mut out, digits),
            Token::Literal(word) => out.push_str(word),
        }
    });
    out
}

fn push_string(out: &mut String, text: &str) {
    // A quoted and escaped text is JSON.
    out.push_str(&serde_json::to_string(text).expect("a text serializes"));
}

/// True if a number is short when written in full.
fn is_small(digits: &str) -> bool {
    let exponent = digits.split_once(['e', 'E']).map_or("0", |(_, exponent)| exponent.trim_start_matches(['+', '-']));
    digits.len() <= NUMBER_BYTES && exponent.parse().is_ok_and(|exponent: u32| exponent <= EXPONENT_MAX)
}
