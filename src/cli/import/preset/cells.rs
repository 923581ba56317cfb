//! Values of a row for the presets, whether the row is an object of JSON or a line of CSV.

use std::borrow::Cow;

use tallyd_protocol::Record;
use tallyd_protocol::record::Text;

use crate::cli::import::row::RowError;
use tallyd_model::decimal::whole;
use tallyd_model::files::instant;
use tallyd_model::json;
use tallyd_model::json::value::{Map, Value};

/// The first of these members that is not missing, null or empty. A cell with JSON in it is parsed.
pub(crate) fn value<'v>(row: &'v Value, names: &[&str]) -> Cow<'v, Value> {
    let is_given = |value: &&Value| !value.is_null() && value.as_str() != Some("");
    let found = names.iter().filter_map(|name| row.get(name)).find(is_given);
    match found {
        Some(Value::String(text)) if text.starts_with(['{', '[']) => {
            let read = Value::read_all(text).ok().and_then(|mut values| values.pop());
            read.map_or(Cow::Owned(Value::String(text.clone())), Cow::Owned)
        }
        Some(value) => Cow::Borrowed(value),
        None => Cow::Owned(Value::Null),
    }
}

/// The text of the first of these members; empty without any.
pub(crate) fn text(row: &Value, names: &[&str]) -> String {
    match &*value(row, names) {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(digits) => digits.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => String::new(),
    }
}

/// A count; 0 if the member is missing.
pub(crate) fn count(row: &Value, name: &'static str) -> Result<u64, RowError> {
    match &*text(row, &[name]) {
        "" => Ok(0),
        text => to_count(name, text),
    }
}

/// The text as a count.
pub(crate) fn to_count(name: &str, text: &str) -> Result<u64, RowError> {
    let count = whole(text).and_then(|count| u64::try_from(count).ok());
    count.ok_or_else(|| RowError::row(format!("{name}: {text:?} is not a whole number from 0 on that fits")))
}

pub(crate) fn set_time(record: &mut Record, row: &Value, names: &[&str]) -> Result<(), RowError> {
    match &*text(row, names) {
        "" => Err(RowError::row(format!("{} is empty: it says when the call was made", names.join(" or ")))),
        text => {
            record.occurred_at = Some(instant(text, None).map_err(|problem| RowError::field("occurred_at", problem))?);
            Ok(())
        }
    }
}

/// Sets a text of the record, unless the value is empty.
pub(crate) fn set(field: &mut Text, value: String) {
    if !value.is_empty() {
        *field = Text::Owned(value);
    }
}

/// Adds the pairs with values to the record's metadata.
pub(crate) fn add_metadata(record: &mut Record, pairs: impl IntoIterator<Item = (&'static str, String)>) {
    let before = record.metadata.as_deref().and_then(|text| Value::read_all(text).ok()?.pop());
    let mut members = match before {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    members.extend(pairs.map(|(name, value)| (name.to_owned(), Value::String(value))));
    if !members.is_empty() {
        // A tree of texts and numbers always serializes.
        record.metadata = json::to_string(&Value::Object(members)).ok().map(Text::Owned);
    }
}
