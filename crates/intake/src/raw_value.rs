//! The received values of a record's fields: each type accepts any value of a codec and remembers its error.
//!
//! They never fail on a scalar or a container of another type. The codec's own errors (a truncated value, broken
//! syntax) pass through. From JSON a value is taken as its own text ([`Raw`]) and judged by its first byte. So a number
//! keeps its digits, metadata is a slice of the line, and nothing recurses.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use tallyd_protocol::record::MADE_ID;

use super::json_text::JsonText;
use tallyd_model::decimal::{whole, whole_float};
use tallyd_model::json::{self, Raw};

/// A field's value of an unexpected type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A value of this kind.
    Kind(&'static str),
    /// Text that is not UTF-8.
    Encoding,
    /// Binary data.
    Binary,
}

/// A field of type `T`: absent or nil, given, or of another type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Missing, or nil.
    #[default]
    Absent,
    /// The expected type.
    Given(T),
    /// Another type.
    Wrong(Wrong),
}

/// An integer, wide enough for both signs of 64 bits. Whole floats and the text of a whole number count as integers:
/// spreadsheets, JavaScript and vendors' own exports use them.
pub type Int = Field<i128>;

/// Text, borrowed from the frame unless it has escapes.
pub type TextField<'a> = Field<Cow<'a, str>>;

/// A decimal: the digits as sent. In MessagePack, text or an integer; in JSON also a number's own digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decimal<'a>(pub TextField<'a>);

/// A UUID, as 16 or 17 bytes or as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdValue<'a> {
    /// Its bytes.
    Bytes([u8; 16]),
    /// Its bytes, made by a client library: the sender does not state the id.
    Made([u8; 16]),
    /// Its text.
    Text(Cow<'a, str>),
}

/// An instant, as microseconds or as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeValue<'a> {
    /// Microseconds since 1970.
    Micros(i128),
    /// RFC 3339.
    Text(Cow<'a, str>),
}

/// Units and their quantities; tags and their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units<'a>(pub Field<Vec<(Cow<'a, str>, Decimal<'a>)>>);

/// A JSON object, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectText<'a>(pub TextField<'a>);

/// Any scalar, or the kind of a container in its place. Containers are consumed.
#[derive(Debug, Clone, PartialEq)]
enum Scalar<'a> {
    Nil,
    Int(i128),
    /// A JSON number with a fraction or an exponent, digit for digit.
    Digits(&'a str),
    /// A binary float, of MessagePack.
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Other(&'static str),
}

struct ScalarVisitor;

macro_rules! visit_scalar {
    ($($method:ident: $kind:ty => $value:expr;)*) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<Self::Value, E> {
            let make: fn($kind) -> Scalar<'de> = $value;
            Ok(make(value))
        })*
    };
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    visit_scalar! {
        visit_bool: bool => |_| Scalar::Other("a boolean");
        visit_i64: i64 => |value| Scalar::Int(value.into());
        visit_u64: u64 => |value| Scalar::Int(value.into());
        visit_i128: i128 => Scalar::Int;
        visit_f64: f64 => Scalar::Float;
        visit_f32: f32 => |value| Scalar::Float(value.into());
        visit_borrowed_str: &'de str => |value| Scalar::Text(Cow::Borrowed(value));
        visit_string: String => |value| Scalar::Text(Cow::Owned(value));
        visit_borrowed_bytes: &'de [u8] => |value| Scalar::Bytes(Cow::Borrowed(value));
        visit_byte_buf: Vec<u8> => |value| Scalar::Bytes(Cow::Owned(value));
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Self::Value, E> {
        Ok(Scalar::Bytes(Cow::Owned(value.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Nil)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        IgnoredAny::deserialize(value)?;
        Ok(Scalar::Other("a MessagePack extension"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a map"))
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Raw::deserialize(deserializer).map(Self::of_json);
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'a> Scalar<'a> {
    fn of_json(raw: Raw<'a>) -> Self {
        match raw.kind() {
            b'"' => Self::Text(json::scan::unquote(raw.get())),
            b'{' => Self::Other("a map"),
            b'[' => Self::Other("an array"),
            b't' | b'f' => Self::Other("a boolean"),
            b'n' => Self::Nil,
            _ => raw.get().parse().map_or(Self::Digits(raw.get()), Self::Int),
        }
    }
}

impl Scalar<'_> {
    fn wrong(&self) -> Wrong {
        Wrong::Kind(match self {
            Self::Nil => "nil",
            Self::Int(_) => "an integer",
            Self::Digits(_) => "a number with a fraction or an exponent",
            Self::Float(_) => "a binary floating-point number",
            Self::Text(_) => "text",
            // MessagePack text that is not UTF-8 arrives as bytes, like binary data; other text does not.
            Self::Bytes(bytes) if std::str::from_utf8(bytes).is_err() => return Wrong::Encoding,
            Self::Bytes(_) => return Wrong::Binary,
            Self::Other(kind) => kind,
        })
    }
}

/// Reads a type from a scalar; none for another kind of scalar.
trait FromScalar<'de>: Sized {
    fn from_scalar(scalar: &mut Scalar<'de>) -> Option<Self>;
}

impl<'de> FromScalar<'de> for i128 {
    fn from_scalar(scalar: &mut Scalar<'de>) -> Option<Self> {
        match scalar {
            Scalar::Int(value) => Some(*value),
            Scalar::Digits(digits) => whole(digits),
            Scalar::Float(value) => whole_float(*value),
            Scalar::Text(text) => whole(text),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> FromScalar<'de> for Cow<'a, str> {
    fn from_scalar(scalar: &mut Scalar<'de>) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => Some(std::mem::take(text)),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> FromScalar<'de> for IdValue<'a> {
    fn from_scalar(scalar: &mut Scalar<'de>) -> Option<Self> {
        match scalar {
            Scalar::Bytes(bytes) => match bytes.as_ref() {
                [MADE_ID, made @ ..] if made.len() == 16 => made.try_into().ok().map(Self::Made),
                bytes => bytes.try_into().ok().map(Self::Bytes),
            },
            _ => Cow::from_scalar(scalar).map(Self::Text),
        }
    }
}

impl<'de: 'a, 'a> FromScalar<'de> for TimeValue<'a> {
    fn from_scalar(scalar: &mut Scalar<'de>) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => Some(Self::Text(std::mem::take(text))),
            _ => i128::from_scalar(scalar).map(Self::Micros),
        }
    }
}

impl<'de, T: FromScalar<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut scalar = Scalar::deserialize(deserializer)?;
        Ok(match T::from_scalar(&mut scalar) {
            Some(value) => Self::Given(value),
            None if scalar == Scalar::Nil => Self::Absent,
            None => Self::Wrong(scalar.wrong()),
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Decimal<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Scalar::deserialize(deserializer)? {
            Scalar::Nil => Field::Absent,
            Scalar::Text(text) => Field::Given(text),
            Scalar::Int(value) => Field::Given(Cow::Owned(value.to_string())),
            Scalar::Digits(digits) => Field::Given(Cow::Borrowed(digits)),
            other => Field::Wrong(other.wrong()),
        }))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Units<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return deserializer.deserialize_any(UnitsVisitor);
        }
        let raw = Raw::deserialize(deserializer)?;
        if raw.kind() == b'{' {
            return json::reader::Reader::new(raw.get()).deserialize_map(UnitsVisitor).map_err(D::Error::custom);
        }
        Ok(Self::of_scalar(&Scalar::of_json(raw)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ObjectText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return deserializer.deserialize_any(ObjectVisitor);
        }
        let raw = Raw::deserialize(deserializer)?;
        if raw.kind() == b'{' {
            return Ok(Self(Field::Given(Cow::Borrowed(raw.get()))));
        }
        Ok(Self::of_scalar(Scalar::of_json(raw)))
    }
}

impl Units<'_> {
    fn of_scalar(scalar: &Scalar<'_>) -> Self {
        Self(if *scalar == Scalar::Nil { Field::Absent } else { Field::Wrong(scalar.wrong()) })
    }
}

impl<'a> ObjectText<'a> {
    fn of_scalar(scalar: Scalar<'a>) -> Self {
        Self(match scalar {
            Scalar::Nil => Field::Absent,
            Scalar::Text(text) => Field::Given(text),
            other => Field::Wrong(other.wrong()),
        })
    }
}

/// Accepts maps; everything else is read as a scalar.
struct UnitsVisitor;

/// Like [`UnitsVisitor`].
struct ObjectVisitor;

macro_rules! forward_scalars {
    (|$scalar:ident| $make:expr; $($method:ident: $kind:ty;)*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        $(fn $method<E: Error>(self, value: $kind) -> Result<Self::Value, E> {
            ScalarVisitor.$method(value).map(|$scalar| $make)
        })*

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            let $scalar = Scalar::Nil;
            Ok($make)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            self.visit_unit()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
            ScalarVisitor.visit_seq(items).map(|$scalar| $make)
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
            ScalarVisitor.visit_newtype_struct(value).map(|$scalar| $make)
        }
    };
}

macro_rules! forwarded {
    (|$scalar:ident| $make:expr) => {
        forward_scalars! {
            |$scalar| $make;
            visit_bool: bool;
            visit_i64: i64;
            visit_u64: u64;
            visit_f32: f32;
            visit_f64: f64;
            visit_borrowed_str: &'de str;
            visit_string: String;
            visit_str: &str;
            visit_borrowed_bytes: &'de [u8];
            visit_bytes: &[u8];
        }
    };
}

impl<'de> Visitor<'de> for UnitsVisitor {
    type Value = Units<'de>;

    forwarded!(|scalar| Units::of_scalar(&scalar));

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut units = Vec::new();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match key.0 {
                Scalar::Text(unit) => units.push((unit, map.next_value()?)),
                key => return Ok(Units(Field::Wrong(key.wrong()))),
            }
        }
        Ok(Units(Field::Given(units)))
    }
}

/// A map's key, whose deserializer is a text's, or MessagePack's.
struct Key<'a>(Scalar<'a>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor).map(Self)
    }
}

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = ObjectText<'de>;

    forwarded!(|scalar| ObjectText::of_scalar(scalar));

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut text = String::new();
        JsonText(&mut text).visit_map(map)?;
        Ok(ObjectText(Field::Given(Cow::Owned(text))))
    }
}
