//! A record's tags, and their stored form: sorted by name, so that equal tags are equal text, and without an API key.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::admit::wrong_type;
use super::raw_value::{Field, Units};
use super::refusal::{Code, Refusal};
use super::rules::{Admitted, check_text};
use tallyd_model::json;
use tallyd_model::tags::{APP, concealed};
use tallyd_protocol::limits;

const FIELD: &str = "tags";

/// Tags that were read.
#[derive(Debug, Default)]
pub struct Tags {
    /// A JSON object of texts, or empty.
    pub(super) stored: String,
    app: String,
}

impl Tags {
    /// Checks the tags. An empty value and nil are the same as no tag.
    pub(super) fn read(tags: &Units<'_>) -> Admitted<Self> {
        let tags = match &tags.0 {
            Field::Absent => return Ok(Self::default()),
            Field::Given(tags) => tags,
            Field::Wrong(wrong) => return Err(wrong_type(FIELD, "a map of tag to text", *wrong)),
        };
        let pairs = tags.iter().map(|(name, value)| match &value.0 {
            Field::Absent => Ok((&**name, "")),
            Field::Given(value) => Ok((&**name, &**value)),
            Field::Wrong(wrong) => Err(wrong_type(FIELD, "text as a tag's value", *wrong)),
        });
        Self::of(pairs)
    }

    /// Checks and stores tags that have been read, in any order.
    pub(super) fn of<'t>(tags: impl ExactSizeIterator<Item = Admitted<(&'t str, &'t str)>>) -> Admitted<Self> {
        if tags.len() > limits::TAGS {
            let message = format!("at most {} tags; it has {}", limits::TAGS, tags.len());
            return Err(Refusal::new(Code::TooLong, FIELD, message));
        }
        let mut kept = Vec::with_capacity(tags.len());
        for tag in tags {
            let (name, value) = tag?;
            if name.is_empty() {
                return Err(Refusal::new(Code::Format, FIELD, "a tag has a name"));
            }
            check_text(FIELD, name, limits::TAG_NAME_BYTES)?;
            check_text(FIELD, value, limits::TAG_VALUE_BYTES)?;
            kept.push((name, concealed(name, value)));
        }
        kept.sort_unstable_by_key(|(name, _)| *name);
        if kept.windows(2).any(|two| two[0].0 == two[1].0) {
            return Err(Refusal::new(Code::Format, FIELD, "a tag is there twice"));
        }
        let app = kept.iter().find(|(name, _)| *name == APP).map(|(_, app)| app.to_string()).unwrap_or_default();
        kept.retain(|(name, value)| *name != APP && !value.is_empty());
        let stored = if kept.is_empty() {
            String::new()
        } else {
            json::to_string(&Stored(&kept)).expect("a map of texts serializes")
        };
        Ok(Self { stored, app })
    }

    /// The record's application. A tag of that name says it where the field does not.
    pub(super) fn app_or<'a>(&'a self, app: &'a str) -> &'a str {
        if app.is_empty() { &self.app } else { app }
    }
}

/// Sorted tags as a JSON object.
struct Stored<'t>(&'t [(&'t str, Cow<'t, str>)]);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
