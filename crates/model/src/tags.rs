//! Tags in their stored form: a JSON object of texts, its names sorted; without a tag, empty text. `crates/intake/` makes it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::json;

/// The tag of which only a short hash is stored.
pub const API_KEY: &str = "api_key";
/// The dimension that each call has: the record's `app`, which is not stored as a tag.
pub const APP: &str = "app";

/// The beginning of a stored key.
const HASHED: &str = "sha256:";
/// Hex digits after it: 48 bits tell the keys of a company apart, and say nothing of them.
const HASH_DIGITS: usize = 12;

/// The stored form of a tag's value. A key that is in that form already stays as it is, so that a call that is sent again, or was hashed by its
/// sender, counts under the same key.
#[must_use]
pub fn concealed<'v>(name: &str, value: &'v str) -> Cow<'v, str> {
    if !name.eq_ignore_ascii_case(API_KEY) || is_hashed(value) {
        return Cow::Borrowed(value);
    }
    let digest = Sha256::digest(value);
    let digits: String = digest.iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    Cow::Owned(format!("{HASHED}{digits}"))
}

fn is_hashed(value: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    value.strip_prefix(HASHED).is_some_and(|digits| digits.len() == HASH_DIGITS && digits.bytes().all(is_digit))
}

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
    fn a_key_is_hashed_once_and_other_tags_are_not() {
        let hashed = concealed("api_key", "sk-live-1").into_owned();
        assert_eq!(hashed, "sha256:f8dc9db173ee");
        for (name, value, stored) in [
            ("API_Key", "sk-live-1", hashed.as_str()),
            ("api_key", &hashed, &hashed),
            ("team", "sk-live-1", "sk-live-1"),
        ] {
            assert_eq!(concealed(name, value), stored);
        }
        for almost in ["sha256:", "sha256:f8dc9db173e", "sha256:F8DC9DB173EE", "sha256:f8dc9db173eee", ""] {
            assert_ne!(concealed("api_key", almost), almost, "{almost:?}");
        }
    }

    #[test]
    fn stored_tags_are_read_back() {
        assert_eq!(read(""), Some(BTreeMap::new()));
        let tags = read(r#"{"customer":"a \"b\"","team":"ü"}"#).unwrap();
        assert_eq!(tags.values().collect::<Vec<_>>(), ["a \"b\"", "ü"]);
        assert_eq!(read(r#"{"team":1}"#), None);
    }
}
