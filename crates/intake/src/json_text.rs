//! Writes a MessagePack map as JSON text while it is read.
//!
//! Metadata never costs a call. MessagePack types that JSON does not have become text. Binary data and text that is not
//! UTF-8 get U+FFFD in place of unreadable bytes. An extension becomes [`EXTENSION`]. A key that is not text becomes
//! the text of its value.
//!
//! No tree is built in between, because a tree takes hundreds of bytes for a map of three, and a frame may have a
//! million bytes. The text is at most six times as long as the source.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The replacement of an extension.
const EXTENSION: &str = "(a MessagePack extension)";
/// The replacement of a key that is a container.
const CONTAINER: &str = "(a container)";

/// Writes a deserialized value as JSON.
pub(super) struct JsonText<'o>(pub &'o mut String);

impl JsonText<'_> {
    fn text(&mut self, text: &str) {
        // A quoted and escaped text is JSON.
        self.0.push_str(&serde_json::to_string(text).expect("a text serializes"));
    }
}

/// Writes a key, after a comma if needed.
struct Key<'o> {
    out: &'o mut String,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        // After an opening brace it is the first key.
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        JsonText(self.out).text(key);
        Ok(())
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<(), E> {
        self.visit_str(&String::from_utf8_lossy(key))
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<(), E> {
        self.visit_str(if key { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }

    fn visit_f64<E: Error>(self, key: f64) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_str("null")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        IgnoredAny::deserialize(value)?;
        self.visit_str(EXTENSION)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        self.visit_str(CONTAINER)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.visit_str(CONTAINER)
    }
}

impl<'de> DeserializeSeed<'de> for JsonText<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonText<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has, too")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.push_str(&value.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.push_str(&value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        // The shortest digits that read back as the same number; NaN and infinities become null.
        self.0.push_str(&serde_json::to_string(&value).expect("a number serializes"));
        Ok(())
    }

    fn visit_str<E: Error>(mut self, value: &str) -> Result<(), E> {
        self.text(value);
        Ok(())
    }

    fn visit_bytes<E: Error>(mut self, value: &[u8]) -> Result<(), E> {
        self.text(&String::from_utf8_lossy(value));
        Ok(())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(mut self, value: D) -> Result<(), D::Error> {
        IgnoredAny::deserialize(value)?;
        self.text(EXTENSION);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.push_str("null");
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        self.deserialize(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push('[');
        let mut comma = None;
        loop {
            let start = self.0.len();
            self.0.extend(comma);
            if items.next_element_seed(JsonText(self.0))?.is_none() {
                self.0.truncate(start);
                break;
            }
            comma = Some(',');
        }
        self.0.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push('{');
        while map.next_key_seed(Key { out: self.0 })?.is_some() {
            self.0.push(':');
            map.next_value_seed(JsonText(self.0))?;
        }
        self.0.push('}');
        Ok(())
    }
}
