//! JSON from outside: one reader for all sources.
//!
//! Constraints: the bytes are not trusted. A number keeps its digits, because it may be money. Nesting must not exhaust
//! the stack. Half of a surrogate pair, which JavaScript's and Python's truncation produce, must not cost a record.
//!
//! `serde_json` keeps digits and slices only with its features `arbitrary_precision` and `raw_value`, which mark
//! numbers and slices by *names of keys*. A sender who writes such a key has its text read again, with a new depth
//! limit, until the stack ends. Both features are off in the whole program, and a test in `tests/house/` checks that.
//! This reader marks a slice by its *type* ([`Raw`]), which input cannot choose.
//!
//! | module | content |
//! |---|---|
//! | [`scan`] | the grammar: validates and skips without recursion; strings and their escapes |
//! | [`reader`] | a serde deserializer on it, at most [`DEPTH_MAX`] levels deep |
//! | [`value`] | [`Value`], a tree whose numbers are text |
//! | [`storable`](mod@storable) | makes any JSON text acceptable to `jsonb` |
//! | [`write`] | writes answers, with each [`Raw`] unchanged |
//!
//! Errors have a line and a column. `serde_json` still reads the daemon's own files and answers.

pub mod reader;
pub mod scan;
pub mod storable;
pub mod value;
pub mod write;

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

pub use scan::{elements, mended};
pub use storable::{shallow, storable};
pub use value::Value;
pub use write::{to_string, to_string_pretty, to_vec, to_writer};

/// Levels of arrays and objects for typed reading. Skipping and [`storable`] are not limited.
pub const DEPTH_MAX: usize = 128;

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
    is_data: bool,
    /// The byte of the error, until [`Error::place`] turns it into a line and a column.
    at: usize,
    line: usize,
    column: usize,
}

impl Error {
    fn syntax(message: impl Into<String>, at: usize) -> Self {
        Self { message: message.into(), is_data: false, at, line: 0, column: 0 }
    }

    /// Adds line and column, from the text that was read.
    fn place(mut self, text: &str) -> Self {
        let before = &text.as_bytes()[..self.at.min(text.len())];
        self.line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        self.column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        self
    }

    /// True if the text is JSON, and the error concerns a field: an unknown one, or a wrong type.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        self.is_data
    }

    /// The column, from 1 on, in bytes.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// The error's message, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.message, self.line, self.column)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), is_data: true, at: 0, line: 0, column: 0 }
    }
}

/// Reads one value, with nothing after it.
///
/// # Errors
/// [`Error`].
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error> {
    let mut reader = reader::Reader::new(text);
    let read = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| reader.located(error).place(text))
}

/// As [`from_str`], from bytes that may not be UTF-8.
///
/// # Errors
/// [`Error`].
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => from_str(text),
        Err(error) => {
            Err(Error { line: 1, column: error.valid_up_to() + 1, ..Error::syntax("the text is not UTF-8", 0) })
        }
    }
}

/// Checks that the text is one JSON value.
///
/// # Errors
/// [`Error`].
pub fn check(text: &str) -> Result<(), Error> {
    let mut scanner = scan::Scanner::new(text);
    scanner.skip().and_then(|()| scanner.end()).map_err(|error| error.place(text))
}

/// A value's own text, checked and not parsed. [`write`] writes it unchanged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

/// The name by which the reader recognises a [`Raw`]. It is a type's name, and is never compared with input.
pub(crate) const RAW: &str = "tallyd::json::Raw";

impl<'a> Raw<'a> {
    /// The text, from its first byte to its last.
    #[must_use]
    pub const fn get(self) -> &'a str {
        self.0
    }

    /// The first byte, which gives the kind of the value.
    #[must_use]
    pub fn kind(self) -> u8 {
        self.0.as_bytes().first().copied().unwrap_or(b'n')
    }

    /// The text as a value, if it is JSON.
    #[must_use]
    pub fn checked(text: &'a str) -> Option<Self> {
        check(text).ok().map(|()| Self(text))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`Error`], with its place in this text.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, Error> {
        from_str(self.0)
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Slice;
        impl<'de> Visitor<'de> for Slice {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value, from this program's own reader")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Raw(text))
            }
        }
        deserializer.deserialize_newtype_struct(RAW, Slice)
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

/// A value's text, owned, for reading `jsonb` columns. It is not parsed, so it cannot fail or grow.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Box<str>);

impl Text {
    /// The text, if it is JSON.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(text: String) -> Result<Self, Error> {
        check(&text)?;
        Ok(Self(text.into()))
    }

    /// A string, as JSON.
    #[must_use]
    pub fn of_str(text: &str) -> Self {
        // A quoted and escaped text is JSON.
        Self(serde_json::to_string(text).expect("a text serializes").into())
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Text {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text.to_owned())
    }
}

/// By this program's own reader alone.
impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::deserialize(deserializer).map(|Raw(text)| Self(text.into()))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'a> postgres_types::FromSql<'a> for Text {
    fn from_sql(kind: &postgres_types::Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        // The binary form of `jsonb` is a version and the text; that of `json` is the text. PostgreSQL has checked it.
        let text = match (kind == &postgres_types::Type::JSONB, raw) {
            (true, [1, text @ ..]) => text,
            (true, _) => return Err("an unknown version of jsonb".into()),
            (false, text) => text,
        };
        Ok(Self(std::str::from_utf8(text)?.into()))
    }

    postgres_types::accepts!(JSON, JSONB);
}

#[cfg(test)]
mod tests;
