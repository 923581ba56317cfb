//! The values of a record's fields as they arrive: each type takes whatever a codec has and remembers what was wrong.
//!
//! They never fail on a scalar or a container of another type. The codec's own errors (a cut-off value, broken syntax)
//! pass through.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json_text::JsonText;

/// What a field holds that its type did not expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A value of this kind.
    Kind(&'static str),
    /// Text that is not UTF-8.
    Encoding,
    /// Binary data.
    Binary,
}

/// A field of type `T`, absent or nil, or something else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Not there, or nil.
    #[default]
    Absent,
    /// What was asked for.
    Given(T),
    /// Something else.
    Wrong(Wrong),
}

/// An integer, wide enough for both signs of 64 bits.
pub type Int = Field<i128>;

/// Text, borrowed from the frame where it needs no unescaping.
pub type Text<'a> = Field<Cow<'a, str>>;

/// A decimal: the digits as they were sent. In MessagePack, text or an integer; in JSON a number's own digits, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decimal<'a>(pub Text<'a>);

/// A UUID, as 16 bytes or as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdValue<'a> {
    /// Its bytes.
    Bytes([u8; 16]),
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

/// Units and their quantities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units<'a>(pub Field<Vec<(Cow<'a, str>, Decimal<'a>)>>);

/// A JSON object, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object<'a>(pub Text<'a>);

/// Any scalar, or the kind of container that was there instead. Containers are consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scalar<'a> {
    Nil,
    Int(i128),
    /// A JSON number that is not an integer, digit for digit.
    Digits(String),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Other(&'static str),
}

struct ScalarVisitor {
    /// JSON has numbers that arrive as maps; in MessagePack a map is a map.
    is_json: bool,
}

/// The one key of the map that serde_json makes of a number, where digits are kept.
const JSON_NUMBER: &str = "$serde_json::private::Number";

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
        visit_f64: f64 => |_| Scalar::Other("a binary floating-point number");
        visit_f32: f32 => |_| Scalar::Other("a binary floating-point number");
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

    /// serde_json hands numbers over as a map of its own, so that no digit is lost; only it can read that map.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        if !self.is_json {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Scalar::Other("a map"));
        }
        let value = serde_json::Value::deserialize(MapAccessDeserializer::new(map))?;
        Ok(match value {
            serde_json::Value::Number(number) => {
                let digits = number.to_string();
                digits.parse().map_or(Scalar::Digits(digits), Scalar::Int)
            }
            _ => Scalar::Other("a map"),
        })
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_json = deserializer.is_human_readable();
        deserializer.deserialize_any(ScalarVisitor { is_json })
    }
}

impl Scalar<'_> {
    fn wrong(&self) -> Wrong {
        Wrong::Kind(match self {
            Self::Nil => "nil",
            Self::Int(_) => "an integer",
            Self::Digits(_) => "a number with a fraction or an exponent",
            Self::Text(_) => "text",
            // MessagePack text that is not UTF-8 arrives as bytes, and so does binary data; text that is UTF-8 does not.
            Self::Bytes(bytes) if std::str::from_utf8(bytes).is_err() => return Wrong::Encoding,
            Self::Bytes(_) => return Wrong::Binary,
            Self::Other(kind) => kind,
        })
    }
}

/// How a type reads itself from a scalar; none if the scalar is not of its kind.
trait FromScalar<'de>: Sized {
    fn from_scalar(scalar: &mut Scalar<'de>) -> Option<Self>;
}

impl<'de> FromScalar<'de> for i128 {
    fn from_scalar(scalar: &mut Scalar<'de>) -> Option<Self> {
        match scalar {
            Scalar::Int(value) => Some(*value),
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
            Scalar::Bytes(bytes) => bytes.as_ref().try_into().ok().map(Self::Bytes),
            _ => Cow::from_scalar(scalar).map(Self::Text),
        }
    }
}

impl<'de: 'a, 'a> FromScalar<'de> for TimeValue<'a> {
    fn from_scalar(scalar: &mut Scalar<'de>) -> Option<Self> {
        i128::from_scalar(scalar).map(Self::Micros).or_else(|| Cow::from_scalar(scalar).map(Self::Text))
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
            Scalar::Digits(digits) => Field::Given(Cow::Owned(digits)),
            other => Field::Wrong(other.wrong()),
        }))
    }
}

/// A visitor for values that are usually maps; everything else goes the way of scalars.
struct MapOr<T> {
    value: std::marker::PhantomData<T>,
    is_json: bool,
}

macro_rules! forward_scalars {
    ($($method:ident: $kind:ty;)*) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<Self::Value, E> {
            ScalarVisitor { is_json: self.is_json }.$method(value).map(Self::other)
        })*
    };
}

impl MapOr<Units<'_>> {
    fn other<'a>(scalar: Scalar<'_>) -> Units<'a> {
        Units(if scalar == Scalar::Nil { Field::Absent } else { Field::Wrong(scalar.wrong()) })
    }
}

impl MapOr<Object<'_>> {
    fn other(scalar: Scalar<'_>) -> Object<'_> {
        Object(match scalar {
            Scalar::Nil => Field::Absent,
            Scalar::Text(text) => Field::Given(text),
            other => Field::Wrong(other.wrong()),
        })
    }
}

macro_rules! map_or_visitor {
    ($kind:ident, |$map:ident, $is_json:ident| $read:expr) => {
        impl<'de> Visitor<'de> for MapOr<$kind<'de>> {
            type Value = $kind<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            forward_scalars! {
                visit_bool: bool;
                visit_i64: i64;
                visit_u64: u64;
                visit_f64: f64;
                visit_borrowed_str: &'de str;
                visit_string: String;
                visit_str: &str;
                visit_borrowed_bytes: &'de [u8];
                visit_bytes: &[u8];
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Self::other(Scalar::Nil))
            }

            fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Self::other(Scalar::Nil))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                ScalarVisitor { is_json: self.is_json }.visit_seq(items).map(Self::other)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
                ScalarVisitor { is_json: self.is_json }.visit_newtype_struct(value).map(Self::other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<Self::Value, A::Error> {
                let $is_json = self.is_json;
                $read
            }
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $kind<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let is_json = deserializer.is_human_readable();
                deserializer.deserialize_any(MapOr::<$kind<'de>> { value: std::marker::PhantomData, is_json })
            }
        }
    };
}

map_or_visitor!(Units, |map, is_json| {
    let mut units = Vec::new();
    while let Some(key) = map.next_key::<Scalar<'de>>()? {
        match key {
            Scalar::Text(unit) if is_json && unit == JSON_NUMBER => return Ok(Units(number(map)?)),
            Scalar::Text(unit) => units.push((unit, map.next_value()?)),
            key => return Ok(Units(Field::Wrong(key.wrong()))),
        }
    }
    Ok(Units(Field::Given(units)))
});

map_or_visitor!(Object, |map, is_json| {
    if !is_json {
        let mut text = String::new();
        JsonText(&mut text).visit_map(map)?;
        return Ok(Object(Field::Given(Cow::Owned(text))));
    }
    let mut object = serde_json::Map::new();
    while let Some(key) = map.next_key::<Scalar<'de>>()? {
        match key {
            Scalar::Text(key) if key == JSON_NUMBER => return Ok(Object(number(map)?)),
            Scalar::Text(key) => drop(object.insert(key.into_owned(), map.next_value()?)),
            key => return Ok(Object(Field::Wrong(key.wrong()))),
        }
    }
    Ok(Object(Field::Given(Cow::Owned(serde_json::Value::Object(object).to_string()))))
});

/// A JSON number where a map was expected.
fn number<'de, A: MapAccess<'de>, T>(mut map: A) -> Result<Field<T>, A::Error> {
    map.next_value::<IgnoredAny>()?;
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(Field::Wrong(Wrong::Kind("a number")))
}
