//! Reads a JWT's header, before any part of the token is trusted.

use serde::Deserialize;
use serde::de::IgnoredAny;

use tallyd_model::json;

/// The part of a token that selects its verification.
#[derive(Debug, Deserialize)]
pub struct TokenHeader {
    /// The algorithm that the token states.
    pub alg: String,
    /// The name of the issuer's key.
    pub kid: Option<String>,
    /// Required extensions. None is supported.
    crit: Option<IgnoredAny>,
}

impl TokenHeader {
    /// Reads the header's base64. None if it is broken, or has required extensions.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        json::from_slice::<Self>(text).ok().filter(|header| header.crit.is_none())
    }
}
