//! A tree for the few readers of documents of unknown form, bills and price lists. Its numbers are text.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::scan::Scanner;
use super::{DEPTH_MAX, Error, Raw};

/// An object; the last value of a repeated key counts.
pub type Map = BTreeMap<String, Value>;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// `null`, and a missing member.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number's digits as written.
    Number(Box<str>),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Map),
}

static NULL: Value = Value::Null;

impl Value {
    /// The member of this name, if the value is an object that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The digits of a number.
    #[must_use]
    pub fn as_number(&self) -> Option<&str> {
        if let Self::Number(digits) = self { Some(digits) } else { None }
    }

    /// A whole number from 0 on, in any spelling.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        crate::decimal::whole(self.as_number()?)?.try_into().ok()
    }

    /// A whole number, in any spelling.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        crate::decimal::whole(self.as_number()?)?.try_into().ok()
    }

    /// The items of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&Vec<Self>> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    /// The members of an object.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Map> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// True for `null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// True for a string.
    #[must_use]
    pub const fn is_string(&self) -> bool {
        matches!(self, Self::String(_))
    }

    /// True for an array.
    #[must_use]
    pub const fn is_array(&self) -> bool {
        matches!(self, Self::Array(_))
    }

    fn read(scanner: &mut Scanner<'_>, depth: usize) -> Result<Self, Error> {
        let open = |scanner: &mut Scanner<'_>| {
            scanner.bump();
            if depth == DEPTH_MAX { Err(scanner.wrong("fewer levels of nesting")) } else { Ok(()) }
        };
        Ok(match scanner.peek() {
            Some(b'{') => {
                open(scanner)?;
                let mut members = Map::new();
                while more(scanner, b'}', members.is_empty())? {
                    let key = scanner.string()?.into_owned();
                    scanner.expect(b':', "`:`")?;
                    members.insert(key, Self::read(scanner, depth + 1)?);
                }
                Self::Object(members)
            }
            Some(b'[') => {
                open(scanner)?;
                let mut items = Vec::new();
                while more(scanner, b']', items.is_empty())? {
                    items.push(Self::read(scanner, depth + 1)?);
                }
                Self::Array(items)
            }
            Some(b'"') => Self::String(scanner.string()?.into_owned()),
            Some(b't') => scanner.literal("true").map(|_| Self::Bool(true))?,
            Some(b'f') => scanner.literal("false").map(|_| Self::Bool(false))?,
            Some(b'n') => scanner.literal("null").map(|_| Self::Null)?,
            _ => Self::Number(scanner.number()?.into()),
        })
    }

    /// Reads consecutive values.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read_all(text: &str) -> Result<Vec<Self>, Error> {
        let (mut scanner, mut values) = (Scanner::new(text), Vec::new());
        while scanner.peek().is_some() {
            values.push(Self::read(&mut scanner, 0).map_err(|error| error.place(text))?);
        }
        Ok(values)
    }
}

/// True if another item follows; consumes the comma, or the closing bracket.
fn more(scanner: &mut Scanner<'_>, close: u8, is_first: bool) -> Result<bool, Error> {
    match scanner.peek() {
        Some(byte) if byte == close => {
            scanner.bump();
            Ok(false)
        }
        Some(b',') if !is_first => {
            scanner.bump();
            Ok(true)
        }
        Some(_) if is_first => Ok(true),
        _ => Err(scanner.wrong(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Raw::deserialize(deserializer)?.get();
        Self::read(&mut Scanner::new(text), 0).map_err(|error| D::Error::custom(error.message()))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(digits) => serializer.serialize_bytes(digits.as_bytes()),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => items.serialize(serializer),
            Self::Object(members) => members.serialize(serializer),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Index<&str> for Value {
    type Output = Self;

    fn index(&self, name: &str) -> &Self {
        self.get(name).unwrap_or(&NULL)
    }
}
