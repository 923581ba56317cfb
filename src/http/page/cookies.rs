//! The page's cookies: for this host, out of reach of scripts, never sent along from another site.

use axum::http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};

/// The cookie of somebody who is signed in to the page; its value is their token.
pub const SESSION: &str = "tallyd_session";
/// What the session of somebody who signed in with a password is renewed with; sent to `/session` alone.
pub const RENEWAL: &str = "tallyd_renewal";

/// A cookie of a request.
#[must_use]
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// Whether a text can be a cookie's value as it is, as JWTs, refresh tokens and static tokens are.
#[must_use]
pub fn is_plain(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// The cookies of an answer.
pub struct Cookies {
    encrypted: bool,
    headers: HeaderMap,
}

impl Cookies {
    /// None yet. `encrypted`: the browser speaks TLS, and shall send them over nothing else.
    #[must_use]
    pub fn new(encrypted: bool) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { encrypted, headers }
    }

    /// Signs in with `token`, for so many seconds.
    #[must_use]
    pub fn session(self, token: &str, seconds: i64) -> Self {
        self.set(SESSION, "/", token, seconds)
    }

    /// Keeps what the session is renewed with.
    #[must_use]
    pub fn renewal(self, token: &str, seconds: i64) -> Self {
        self.set(RENEWAL, "/session", token, seconds)
    }

    /// Takes both away.
    #[must_use]
    pub fn none(self) -> Self {
        self.session("", 0).renewal("", 0)
    }

    /// As headers.
    #[must_use]
    pub fn into_headers(self) -> HeaderMap {
        self.headers
    }

    fn set(mut self, name: &str, path: &str, value: &str, seconds: i64) -> Self {
        let secure = if self.encrypted { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        // Letters, digits and punctuation of ASCII: `is_plain`.
        if let Ok(value) = HeaderValue::from_str(&text) {
            self.headers.append(SET_COOKIE, value);
        }
        self
    }
}
