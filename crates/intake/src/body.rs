//! The body of `POST /api/v1/records`: one record, an array of them, or a line each.

use serde::{Deserialize, Deserializer, de};

use tallyd_model::json::{self, Raw};

/// Largest number of records in one request. Its answer has a result for each, so this bounds the memory of a request.
pub const RECORDS_MAX: usize = 16_384;

/// Why a whole body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It begins as an array, and its elements cannot be separated.
    #[error("the body is not a JSON array: {0}")]
    NoArray(String),
    /// More than [`RECORDS_MAX`].
    #[error("more than {RECORDS_MAX} records")]
    TooMany,
}

impl BodyError {
    /// The remedy for the sender.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoArray(_) => "send an object, an array of objects, or one a line",
            Self::TooMany => "send them in several requests",
        }
    }
}

/// The texts of an array's elements: at most one more than the bound, so that the caller notices an array that is too
/// long. The rest is skipped.
struct Items<'b>(Vec<&'b [u8]>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Items<'de>, A::Error> {
                let mut texts = Vec::new();
                while let Some(item) = items.next_element::<Raw<'_>>()? {
                    if texts.len() <= RECORDS_MAX {
                        texts.push(item.get().as_bytes());
                    }
                }
                Ok(Items(texts))
            }
        }

        deserializer.deserialize_seq(Visitor)
    }
}

/// The records' texts. With a Content-Type of lines, each line is a record; otherwise the text's form decides.
///
/// # Errors
/// [`BodyError`]. An unreadable record is not an error: its text is returned, and refused alone.
pub fn split<'b>(body: &'b [u8], content_type: &str) -> Result<Vec<&'b [u8]>, BodyError> {
    let text = body.trim_ascii();
    let lines = content_type.contains("ndjson") || content_type.contains("jsonl");
    let texts = if text.first() == Some(&b'[') && !lines {
        match json::from_slice::<Items<'b>>(text) {
            Ok(items) => items.0,
            // An unreadable record is refused alone, if its end is clear.
            Err(error) => json::elements(text, RECORDS_MAX + 1).ok_or_else(|| BodyError::NoArray(error.to_string()))?,
        }
    } else if !lines && std::str::from_utf8(text).is_ok_and(|text| json::check(text).is_ok()) {
        vec![text]
    } else {
        text.split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .take(RECORDS_MAX + 1)
            .collect()
    };
    if texts.len() > RECORDS_MAX { Err(BodyError::TooMany) } else { Ok(texts) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_body_is_an_object_an_array_or_lines() {
        let split = |text: &'static str, kind: &str| -> Option<Vec<String>> {
            let texts = super::split(text.as_bytes(), kind).ok()?;
            Some(texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
        };
        let some = |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let (json, lines) = ("application/json", "application/x-ndjson");
        assert_eq!(split("{\n\"a\": 1\n}\n", json), some(&["{\n\"a\": 1\n}"]));
        assert_eq!(split(" [{\"a\":1}, 2]", json), some(&["{\"a\":1}", "2"]));
        assert_eq!(split("{\"a\":1}\n\n{\"b\":2}\n", json), some(&["{\"a\":1}", "{\"b\":2}"]));
        assert_eq!(split("{\"a\":1}\n{broken\n{}", lines), some(&["{\"a\":1}", "{broken", "{}"]));
        assert_eq!(split("[{\"a\":1},", json), None);
        assert_eq!(split("", json), some(&[]));
        assert_eq!(split("[]", json), some(&[]));
    }
}
