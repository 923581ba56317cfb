//! A record's tags, and their stored form: sorted by name, so that equal tags are equal text, and without an API key.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::admit::wrong_type;
use super::raw_value::{Field, Units};
use super::refusal::{Code, Refusal};
use super::rules::{Admitted, check_text};
use tallyd_model::json;
use tallyd_model::tags::{APP, concealed};
use tallyd_protocol::limits;

/// Tags that were read.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// A JSON object of texts, or empty.
    pub(super) stored: String,
    app: String,
}

impl Tags {
    /// Checks the tags. An empty value and nil are the same as no tag.
    pub(super) fn read(tags: &Units<'_>) -> Admitted<Self> {
        let field = "tags";
        let tags = match &tags.0 {
            Field::Absent => return Ok(Self::default()),
            Field::Given(tags) => tags,
            Field::Wrong(wrong) => return Err(wrong_type(field, "a map of tag to text", *wrong)),
        };
        if tags.len() > limits::TAGS {
            let message = format!("at most {} tags; it has {}", limits::TAGS, tags.len());
            return Err(Refusal::new(Code::TooLong, field, message));
        }
        let mut kept: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
        for (name, value) in tags {
            if name.is_empty() {
                return Err(Refusal::new(Code::Format, field, "a tag has a name"));
            }
            check_text(field, name, limits::TAG_NAME_BYTES)?;
            let value: &str = match &value.0 {
                Field::Absent => "",
                Field::Given(value) => value,
                Field::Wrong(wrong) => return Err(wrong_type(field, "text as a tag's value", *wrong)),
            };
            check_text(field, value, limits::TAG_VALUE_BYTES)?;
            if kept.insert(name, concealed(name, value)).is_some() {
                return Err(Refusal::new(Code::Format, field, "a tag is there twice"));
            }
        }
        kept.retain(|_, value| !value.is_empty());
        let app = kept.remove(APP).unwrap_or_default().into_owned();
        let stored =
            if kept.is_empty() { String::new() } else { json::to_string(&kept).expect("a map of texts serializes") };
        Ok(Self { stored, app })
    }

    /// The record's application. A tag of that name says it where the field does not.
    pub(super) fn app_or<'a>(&'a self, app: &'a str) -> &'a str {
        if app.is_empty() { &self.app } else { app }
    }
}
