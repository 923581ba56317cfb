//! Tags in their stored form: a JSON object of texts, its names sorted; without a tag, empty text. `crates/intake/` makes it.

use std::collections::BTreeMap;

use crate::json;

pub use tallyd_protocol::tags::{API_KEY, concealed};

/// The dimension that each call has: the record's `app`, which is not stored as a tag.
pub const APP: &str = "app";

/// Bytes of a dimension's name: no more than a tag's.
const NAME_BYTES: usize = 64;

/// Why a tag of that name cannot be a dimension; none if it can. Names stand in requests (`group_by=tag:team`) and settings, where commas part them.
#[must_use]
pub fn name_fault(name: &str) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let is_good = (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(is_name);
    (!is_good).then(|| {
        format!("{name:?} is not the name of a dimension: 1 to {NAME_BYTES} letters, digits, `_`, `-` and `.`")
    })
}

/// The tags of a stored text. None for text that is not one: rows that others have written.
#[must_use]
pub fn read(stored: &str) -> Option<BTreeMap<String, String>> {
    if stored.is_empty() {
        return Some(BTreeMap::new());
    }
    json::from_str(stored).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_tags_are_read_back() {
        assert_eq!(read(""), Some(BTreeMap::new()));
        let tags = read(r#"{"customer":"a \"b\"","team":"ü"}"#).unwrap();
        assert_eq!(tags.values().collect::<Vec<_>>(), ["a \"b\"", "ü"]);
        assert_eq!(read(r#"{"team":1}"#), None);
    }
}
