//! Usage that a sender or a translator could not fully read.
//!
//! A call is fully understood, or it is unpriced. A reader of foreign usage (OTLP, a file's import, a client) that
//! finds an unknown count, tier or unit stores its name in the record's metadata, under [`NOT_UNDERSTOOD`]. The catalog
//! then does not price the call, because an incomplete amount would look like a complete one. A cost that the record
//! states is used all the same.
//!
//! The mark is in the metadata because it has to accompany the record through the WAL, the call log, dead letters and
//! their retry, and `tallyd reprice`. Other parts of the record's form need not know it.

use std::borrow::Cow;

use serde::Deserialize;

use super::raw_value::{Field, TextField};
use tallyd_model::call::NOT_UNDERSTOOD;
use tallyd_model::json;

/// The name if the value is not text.
const UNNAMED: &str = "(unnamed)";

/// The name of the unknown usage, if the metadata has it at its top level.
#[must_use]
pub fn of(metadata: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Mark<'a> {
        #[serde(borrow, default, rename = "tallyd.not_understood")]
        name: TextField<'a>,
    }
    // Nearly all metadata returns here.
    if metadata.is_empty() || !metadata.contains(NOT_UNDERSTOOD) {
        return None;
    }
    match json::from_str::<Mark<'_>>(metadata).ok()?.name {
        Field::Absent => None,
        Field::Given(name) if !name.is_empty() => Some(name),
        Field::Given(_) | Field::Wrong(_) => Some(Cow::Borrowed(UNNAMED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_at_the_top_level_of_the_metadata() {
        for (metadata, name) in [
            ("", None),
            ("{}", None),
            (r#"{"a":"tallyd.not_understood"}"#, None),
            (r#"{"a":{"tallyd.not_understood":"x"}}"#, None),
            (r#"{"tallyd.not_understood":null}"#, None),
            (r#"{"a":1,"tallyd.not_understood":"gen_ai.usage.new_tokens","b":[{}]}"#, Some("gen_ai.usage.new_tokens")),
            (r#"{"tallyd.not_understood":""}"#, Some(UNNAMED)),
            (r#"{"tallyd.not_understood":["x"]}"#, Some(UNNAMED)),
        ] {
            assert_eq!(of(metadata).as_deref(), name, "{metadata}");
        }
    }
}
