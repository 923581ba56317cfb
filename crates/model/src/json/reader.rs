//! A serde deserializer on the [`Scanner`](super::scan::Scanner).
//!
//! Two things differ from `serde_json`. A [`Raw`](super::Raw) is requested by its type's name and gets its slice. An
//! integer may be spelt as a float (`1234.0`, `1e3`), as JavaScript and spreadsheets do.

use std::borrow::Cow;

use serde::Deserializer;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::scan::Scanner;
use super::{DEPTH_MAX, Error, RAW};
use crate::decimal::whole;

/// Reads values from one text.
pub struct Reader<'de> {
    scanner: Scanner<'de>,
    depth: usize,
}

impl<'de> Reader<'de> {
    /// Starts at the text's beginning.
    #[must_use]
    pub const fn new(text: &'de str) -> Self {
        Self { scanner: Scanner::new(text), depth: 0 }
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// [`Error`].
    pub fn end(&mut self) -> Result<(), Error> {
        self.scanner.end()
    }

    /// Gives a type's own error the present place.
    #[must_use]
    pub fn located(&self, error: Error) -> Error {
        if error.is_data && error.at == 0 { Error { at: self.scanner.at(), ..error } } else { error }
    }

    fn open(&mut self) -> Result<(), Error> {
        self.scanner.bump();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::syntax(format!("nested more than {DEPTH_MAX} levels deep"), self.scanner.at()));
        }
        Ok(())
    }

    fn visit_string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.scanner.string()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn visit_seq<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.open()?;
        let value = visitor.visit_seq(Items { reader: self, is_first: true })?;
        self.depth -= 1;
        self.scanner.expect(b']', "`]`").map(|()| value)
    }

    fn visit_map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.open()?;
        let value = visitor.visit_map(Items { reader: self, is_first: true })?;
        self.depth -= 1;
        self.scanner.expect(b'}', "`}`").map(|()| value)
    }

    fn visit_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let text = self.scanner.number()?;
        if let Ok(number) = text.parse() {
            return visitor.visit_u64(number);
        }
        if let Ok(number) = text.parse() {
            return visitor.visit_i64(number);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => visitor.visit_f64(number),
            _ => Err(Error::custom("a number that is too large")),
        }
    }

    fn visit_integer<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        if !matches!(self.scanner.peek(), Some(b'-' | b'0'..=b'9')) {
            return self.deserialize_any(visitor);
        }
        let text = self.scanner.number()?;
        let number = whole(text).ok_or_else(|| {
            let float = text.parse().unwrap_or(f64::INFINITY);
            Error::invalid_type(Unexpected::Float(float), &visitor)
        })?;
        match (u64::try_from(number), i64::try_from(number)) {
            (Ok(number), _) => visitor.visit_u64(number),
            (_, Ok(number)) => visitor.visit_i64(number),
            _ => visitor.visit_i128(number),
        }
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.visit_integer(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.scanner.peek() {
            Some(b'{') => self.visit_map(visitor),
            Some(b'[') => self.visit_seq(visitor),
            Some(b'"') => self.visit_string(visitor),
            Some(b'-' | b'0'..=b'9') => self.visit_number(visitor),
            Some(b't') => self.scanner.literal("true").and_then(|_| visitor.visit_bool(true)),
            Some(b'f') => self.scanner.literal("false").and_then(|_| visitor.visit_bool(false)),
            Some(b'n') => self.scanner.literal("null").and_then(|_| visitor.visit_unit()),
            _ => Err(self.scanner.wrong("a value")),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.scanner.peek() == Some(b'n') {
            self.scanner.literal("null")?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name != RAW {
            return visitor.visit_newtype_struct(self);
        }
        self.scanner.peek();
        let start = self.scanner.at();
        self.scanner.skip()?;
        visitor.visit_borrowed_str(self.scanner.since(start))
    }

    /// An array is not accepted for an object's values in their order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.scanner.peek() {
            Some(b'[') => Err(Error::invalid_type(Unexpected::Seq, &"an object")),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.scanner.peek() != Some(b'{') {
            return visitor.visit_enum(self.scanner.string()?.into_deserializer());
        }
        self.open()?;
        let value = visitor.visit_enum(Variant(self))?;
        self.depth -= 1;
        self.scanner.expect(b'}', "`}`").map(|()| value)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.scanner.skip()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
    }
}

/// The remaining items of an array or an object.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    is_first: bool,
}

impl Items<'_, '_> {
    /// True if another item follows. The closing bracket is not consumed.
    fn has_next(&mut self, close: u8) -> Result<bool, Error> {
        let scanner = &mut self.reader.scanner;
        match (scanner.peek(), std::mem::take(&mut self.is_first)) {
            (Some(byte), _) if byte == close => Ok(false),
            (Some(_), true) => Ok(true),
            (Some(b','), false) => {
                scanner.bump();
                Ok(true)
            }
            _ => Err(scanner.wrong(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if !self.has_next(b']')? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.has_next(b'}')? {
            return Ok(None);
        }
        if self.reader.scanner.peek() != Some(b'"') {
            return Err(self.reader.scanner.wrong("a key in quotes"));
        }
        match self.reader.scanner.string()? {
            Cow::Borrowed(key) => seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some),
            Cow::Owned(key) => seed.deserialize(key.into_deserializer()).map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.reader.scanner.expect(b':', "`:`")?;
        seed.deserialize(&mut *self.reader)
    }
}

/// An enumeration's variant with a value: an object with one key.
struct Variant<'r, 'de>(&'r mut Reader<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = self.0.scanner.string()?;
        let value = seed.deserialize(name.into_deserializer())?;
        self.0.scanner.expect(b':', "`:`")?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        serde::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
