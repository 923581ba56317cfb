//! The page's cookie: for this host, out of reach of scripts, never sent along from another site.

use axum::http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};

/// The name of the cookie that holds a session's id. Over TLS its prefix makes browsers refuse one that a subdomain or an
/// unencrypted page has set.
const fn name(encrypted: bool) -> &'static str {
    if encrypted { "__Host-tallyd_session" } else { "tallyd_session" }
}

/// The session's id in a request.
#[must_use]
pub(crate) fn find(headers: &HeaderMap, encrypted: bool) -> Option<&str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name(encrypted)).map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// The headers that make a browser keep a session's id for so many seconds; 0: that make it forget the id.
/// `encrypted`: the browser speaks TLS, and shall send the id over nothing else.
#[must_use]
pub(crate) fn set(encrypted: bool, id: &str, seconds: i64) -> HeaderMap {
    let secure = if encrypted { "; Secure" } else { "" };
    let text = format!("{}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", name(encrypted));
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Hexadecimal digits, and punctuation of ASCII.
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(SET_COOKIE, value);
    }
    headers
}
