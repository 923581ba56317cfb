//! The stored form of a tag's value. Budgets compare values in this form.

use std::borrow::Cow;
use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The tag of which only a short hash is stored.
pub const API_KEY: &str = "api_key";
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
    let mut stored = String::with_capacity(HASHED.len() + HASH_DIGITS);
    stored.push_str(HASHED);
    for byte in digest.iter().take(HASH_DIGITS / 2) {
        // Writing to text does not fail.
        let _ = write!(stored, "{byte:02x}");
    }
    Cow::Owned(stored)
}

fn is_hashed(value: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    value.strip_prefix(HASHED).is_some_and(|digits| digits.len() == HASH_DIGITS && digits.bytes().all(is_digit))
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
}
