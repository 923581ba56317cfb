//! A JWT's header, which is read before the signature is checked: the bytes inside its base64.

use tallyd_intake::token::TokenHeader;

/// Names of headers.
pub const WORDS: [&[u8]; 5] =
    [br#"{"alg":"HS256","#, br#""kid":"k""#, br#""crit":["exp"]"#, br#""crit":{"#, br#""typ":"JWT"}"#];

/// Reads the header. One with extensions that must be understood is refused.
pub fn run(bytes: &[u8]) {
    if let Some(read) = TokenHeader::read(bytes) {
        let header: tallyd_model::json::Value =
            tallyd_model::json::from_slice(bytes).expect("an accepted header is JSON");
        assert!(header["alg"].as_str() == Some(&*read.alg) && header["crit"].is_null(), "{header}");
    }
}

/// Headers of issuers, and one that must be refused.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"ES256","kid":"3f1a","typ":"JWT"}"#,
        r#"{"alg":"HS256","crit":{"$serde_json::private::RawValue":"{}"}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
