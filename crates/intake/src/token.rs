//! A JWT's header, read before anything of the token is believed.

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
    /// Extensions that must be understood. None is.
    crit: Option<IgnoredAny>,
}

impl TokenHeader {
    /// Reads the header's base64. None if it is broken, or has extensions.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        json::from_slice::<Self>(text).ok().filter(|header| header.crit.is_none())
    }
}
