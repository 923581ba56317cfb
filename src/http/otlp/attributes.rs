//! Attributes: names and scalar values. Of lists and maps, which hold prompts and the like, nothing is kept.

use std::collections::BTreeMap;

/// Attributes that one item may have. SDKs stop at 128.
pub const ATTRIBUTES_MAX: usize = 1_024;
/// Bytes of a text that is kept: more than any field of a record may have.
const TEXT_BYTES_MAX: usize = 4_096;

/// A scalar.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A floating-point number: never money.
    Float(f64),
    /// True or false.
    Boolean(bool),
}

/// By name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(BTreeMap<String, Value>);

impl Attributes {
    /// Adds one; of two with a name, the first stays. Long texts are left out.
    pub fn insert(&mut self, name: String, value: Value) {
        if name.len() <= TEXT_BYTES_MAX && !matches!(&value, Value::Text(text) if text.len() > TEXT_BYTES_MAX) {
            self.0.entry(name).or_insert(value);
        }
    }

    /// The text of the first of these that has one which is not empty.
    #[must_use]
    pub fn text(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| match self.0.get(*name) {
            Some(Value::Text(text)) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        })
    }

    /// The first of these that is an integer, be it written as text or as a float.
    #[must_use]
    pub fn integer(&self, names: &[&str]) -> Option<i64> {
        names.iter().find_map(|name| match self.0.get(*name)? {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
            Value::Float(_) | Value::Boolean(_) => None,
        })
    }

    /// A number as it is written.
    #[must_use]
    pub fn number_text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.clone()),
            Value::Boolean(_) => None,
        }
    }

    /// True if one of these is there.
    #[must_use]
    pub fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.contains_key(*name))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, Value); N]> for Attributes {
    fn from(pairs: [(&str, Value); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

#[cfg(test)]
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_in_three_forms_and_text_that_is_empty_is_not_there() {
        let found = Attributes::from([
            ("a", 7.into()),
            ("b", "8".into()),
            ("c", Value::Float(9.0)),
            ("d", Value::Float(9.5)),
            ("e", "".into()),
            ("f", "x".into()),
            ("g", Value::Boolean(true)),
        ]);
        let integers = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| found.integer(&[name]));
        assert_eq!(integers, [Some(7), Some(8), Some(9), None, None, None, None, None]);
        assert_eq!(found.text(&["h", "a", "e", "f"]), Some("x"));
        assert_eq!(found.integer(&["d", "f", "a"]), Some(7));
    }

    #[test]
    fn the_first_of_two_stays_and_long_texts_do_not() {
        let mut found = Attributes::default();
        found.insert("a".into(), 1.into());
        found.insert("a".into(), 2.into());
        found.insert("b".into(), "x".repeat(TEXT_BYTES_MAX + 1).as_str().into());
        assert_eq!(found, Attributes::from([("a", 1.into())]));
    }
}
