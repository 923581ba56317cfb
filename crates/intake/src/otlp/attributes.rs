//! Attributes: names and scalar values. Of lists and maps, such as prompts, only the name is kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tallyd_model::decimal::{whole, whole_float};

/// Largest number of attributes of one item. SDKs stop at 128.
pub const ATTRIBUTES_MAX: usize = 1_024;
/// Bytes of a kept text: more than any field of a record may have.
const TEXT_BYTES_MAX: usize = 4_096;

/// A scalar.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// Text.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A floating-point number: never money.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A list, a map, bytes, or a text that is too long: the content is dropped.
    Other,
}

/// A value as a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// An integer, also as text or as a float. One beyond 64 bits becomes the nearest of 64 bits, which no record may
    /// have.
    Whole(i64),
    /// An empty text.
    Nothing,
    /// Not an integer.
    Unreadable,
}

impl AttributeValue {
    /// The only value that is set. None or several count as unreadable: an attribute for tokens exists, without a
    /// number.
    pub(super) fn one_of<const N: usize>(values: [Option<Self>; N]) -> Self {
        let mut values = values.into_iter().flatten();
        match (values.next(), values.next()) {
            (Some(value), None) => value,
            _ => Self::Other,
        }
    }

    /// The value as a count.
    #[must_use]
    pub fn count(&self) -> Count {
        let number = match self {
            Self::Integer(number) => Some(i128::from(*number)),
            Self::Text(text) if text.trim().is_empty() => return Count::Nothing,
            Self::Text(text) => whole(text.trim()),
            Self::Float(number) => whole_float(*number),
            Self::Boolean(_) | Self::Other => None,
        };
        let within = |number: i128| number.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        number.map_or(Count::Unreadable, |number| Count::Whole(within(number)))
    }

    /// The scalar as text.
    #[must_use]
    pub fn written(&self) -> Option<String> {
        match self {
            Self::Integer(number) => Some(number.to_string()),
            Self::Float(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::Boolean(value) => Some(value.to_string()),
            Self::Other => None,
        }
    }
}

/// Values by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(BTreeMap<String, AttributeValue>);

impl Attributes {
    /// Adds an attribute. Of two with one name the first stays, and two different numbers become none. Of a long text
    /// only the name is kept; an attribute with a long name is dropped.
    pub fn insert(&mut self, name: String, value: AttributeValue) {
        let value = match value {
            AttributeValue::Text(text) if text.len() > TEXT_BYTES_MAX => AttributeValue::Other,
            other => other,
        };
        if name.len() <= TEXT_BYTES_MAX {
            let numbers = |value: &AttributeValue| matches!(value.count(), Count::Whole(_));
            match self.0.entry(name) {
                Entry::Vacant(place) => drop(place.insert(value)),
                Entry::Occupied(mut known) if *known.get() != value && numbers(known.get()) && numbers(&value) => {
                    known.insert(AttributeValue::Other);
                }
                Entry::Occupied(_) => {}
            }
        }
    }

    /// All attributes, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// One of them.
    pub(super) fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.0.get(name)
    }

    /// The first non-empty text of these attributes.
    #[must_use]
    pub fn text(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| match self.0.get(*name) {
            Some(AttributeValue::Text(text)) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        })
    }

    /// The first integer of these attributes, also as text or as a float.
    #[must_use]
    pub fn integer(&self, names: &[&str]) -> Option<i64> {
        names.iter().find_map(|name| match self.0.get(*name)?.count() {
            Count::Whole(number) => Some(number),
            Count::Nothing | Count::Unreadable => None,
        })
    }

    /// A number as written.
    #[must_use]
    pub fn number_text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !matches!(value, AttributeValue::Boolean(_))).and_then(AttributeValue::written)
    }

    /// True if one of these attributes exists.
    #[must_use]
    pub fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.contains_key(*name))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, AttributeValue); N]> for Attributes {
    fn from(pairs: [(&str, AttributeValue); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

#[cfg(test)]
impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
impl From<i64> for AttributeValue {
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
            ("b", " 8.0".into()),
            ("c", AttributeValue::Float(9.0)),
            ("d", AttributeValue::Float(9.5)),
            ("e", "".into()),
            ("f", "x".into()),
            ("g", AttributeValue::Boolean(true)),
        ]);
        let integers = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| found.integer(&[name]));
        assert_eq!(integers, [Some(7), Some(8), Some(9), None, None, None, None, None]);
        assert_eq!(found.text(&["h", "a", "e", "f"]), Some("x"));
        assert_eq!(found.integer(&["d", "f", "a"]), Some(7));
        assert_eq!(AttributeValue::from("1,200").count(), Count::Unreadable);
        assert_eq!(
            [AttributeValue::Float(1e20), AttributeValue::Float(-1e20)].map(|value| value.count()),
            [Count::Whole(i64::MAX), Count::Whole(i64::MIN)]
        );
    }

    #[test]
    fn the_first_of_two_texts_stays_two_numbers_are_none_and_long_texts_do_not_stay() {
        let mut found = Attributes::default();
        for (name, value) in
            [("a", "x".into()), ("a", "y".into()), ("n", 1.into()), ("n", 2.into()), ("m", 1.into()), ("m", 1.into())]
        {
            found.insert(name.to_owned(), value);
        }
        found.insert("b".into(), "x".repeat(TEXT_BYTES_MAX + 1).as_str().into());
        assert_eq!(
            found,
            Attributes::from([
                ("a", "x".into()),
                ("b", AttributeValue::Other),
                ("m", 1.into()),
                ("n", AttributeValue::Other)
            ])
        );
        let nothing: [Option<AttributeValue>; 2] = [None, None];
        assert_eq!(AttributeValue::one_of(nothing), AttributeValue::Other);
        assert_eq!(AttributeValue::one_of([Some(1.into()), Some("".into())]), AttributeValue::Other);
        assert_eq!(AttributeValue::one_of([None, Some(1.into())]), 1.into());
    }
}
