//! Any MessagePack value as JSON, for a person to read.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use tallyd_model::json::Value;
use tallyd_model::json::value::Map;

/// A value of any type.
pub(super) struct Loose(pub Value);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything).map(Loose)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string().into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string().into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // Debug format uses an exponent for long numbers, which JSON permits. NaN is not a JSON number.
        let text = format!("{value:?}");
        Ok(if value.is_finite() { Value::Number(text.into()) } else { Value::String(text) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        // 16 bytes are shown as an id; other bytes do not have a text form.
        Ok(match <[u8; 16]>::try_from(value) {
            Ok(id) => Value::String(uuid::Uuid::from_bytes(id).to_string()),
            Err(_) => {
                let hex = hex::encode(value);
                Value::Object(Map::from([("bytes".to_owned(), Value::String(hex))]))
            }
        })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Loose(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((Loose(key), Loose(value))) = entries.next_entry()? {
            let key = match key {
                Value::String(key) => key,
                // A nested container as a key would be escaped again at each level, and double its text each time.
                Value::Array(_) | Value::Object(_) => "(a container)".to_owned(),
                scalar => scalar.to_string(),
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
