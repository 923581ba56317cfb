//! Fetches a report: page after page, each retried.
//!
//! * *Retried*: no answer, an answer that broke off, a status of 5xx or 429, each after a pause that doubles.
//! * *Rate limits*: `Retry-After` is obeyed. A pause of more than [`WAIT_MAX`] ends the look; the next one comes after it.
//! * *Not retried*: any other status, because the same request would fail again.
//! * *Bounds*: [`TRIES`] for a page, [`PAGES_MAX`] pages, [`PAGE_BYTES_MAX`] bytes for each, [`REPORT_BYTES_MAX`] for all.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, StatusCode};

use super::api::{Report, Vendor};
use crate::outbound::{OutboundRequest, ask};
use tallyd_config::Vendors;
use tallyd_model::json::Value;

/// Tries of a page.
const TRIES: u32 = 5;
/// The longest wait for a page's next try.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The pause after a failed look that the vendor has not set.
pub(super) const PAUSE: Duration = Duration::from_secs(300);
/// The longest pause that a vendor can set.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
const PAGES_MAX: usize = 100;
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of all pages of a report, which are in memory together.
const REPORT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest time for one page.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest part of an answer that an error shows.
const SHOWN_MAX: usize = 200;

/// Why a report was not fetched.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct FetchError {
    message: String,
    /// No request before this time has passed.
    pub pause: Duration,
}

/// A failed try.
struct Failure {
    message: String,
    /// The pause that the vendor has set.
    wait: Option<Duration>,
    is_final: bool,
}

/// A page's text, and the token of the next page.
struct Page {
    text: String,
    next: Option<String>,
}

/// Fetches all pages of a report, one after the other in one text.
pub(super) async fn fetch(
    vendor: Vendor,
    key: &str,
    settings: &Vendors,
    report: &Report,
) -> Result<String, FetchError> {
    let base = vendor.settings(settings).base_url.trim_end_matches('/');
    let first = format!("{base}{}", report.path);
    let (mut text, mut url) = (String::new(), first.clone());
    for _ in 0..PAGES_MAX {
        let page = retried(vendor, key, settings.retry_min, &url).await?;
        if text.len() + page.text.len() > REPORT_BYTES_MAX {
            return Err(too_long(vendor, format_args!("{REPORT_BYTES_MAX} bytes")));
        }
        text.push_str(&page.text);
        text.push('\n');
        let Some(next) = page.next else { return Ok(text) };
        url = format!("{first}&page={}", encoded(&next));
    }
    Err(too_long(vendor, format_args!("{PAGES_MAX} pages")))
}

fn too_long(vendor: Vendor, bound: fmt::Arguments<'_>) -> FetchError {
    let message = format!("{} sends more than {bound} of a report. hint: lower vendors.days", vendor.name());
    FetchError { message, pause: PAUSE }
}

async fn retried(vendor: Vendor, key: &str, retry_min: Duration, url: &str) -> Result<Page, FetchError> {
    let mut backoff = retry_min;
    let mut tried = 0;
    loop {
        let failure = match try_once(vendor, key, url).await {
            Ok(page) => return Ok(page),
            Err(failure) => failure,
        };
        tried += 1;
        let wait = failure.wait.unwrap_or(backoff).min(PAUSE_MAX);
        if failure.is_final || tried == TRIES || wait > WAIT_MAX {
            let pause = failure.wait.map_or(PAUSE, |wait| wait.min(PAUSE_MAX));
            return Err(FetchError { message: failure.message, pause });
        }
        tracing::debug!(
            vendor = vendor.name(),
            error = failure.message,
            wait_ms = wait.as_millis() as u64,
            "a page is fetched again"
        );
        tokio::time::sleep(wait).await;
        backoff = (backoff * 2).min(WAIT_MAX);
    }
}

async fn try_once(vendor: Vendor, key: &str, url: &str) -> Result<Page, Failure> {
    let passing = |message: String| Failure { message, wait: None, is_final: false };
    let headers = vendor.headers(key);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let request = OutboundRequest { headers: &headers, json: None, max_bytes: PAGE_BYTES_MAX, limit: PATIENCE };
    let answer = ask(url, &request).await.map_err(|error| passing(error.to_string()))?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status.is_success() {
        let next = next_page(&text).map_err(|reason| passing(format!("{}: {reason}", vendor.name())))?;
        return Ok(Page { text, next });
    }
    Err(refused(vendor, answer.status, &answer.headers, &text))
}

/// The token of the next page. An answer that broke off is not JSON.
fn next_page(text: &str) -> Result<Option<String>, String> {
    let pages = Value::read_all(text).map_err(|error| format!("the page is not whole: {error}"))?;
    let [page] = pages.as_slice() else { return Err("the page is not whole".to_owned()) };
    if page["has_more"] != Value::Bool(true) {
        return Ok(None);
    }
    page["next_page"].as_str().map(|next| Some(next.to_owned())).ok_or_else(|| "the page has no next_page".to_owned())
}

fn refused(vendor: Vendor, status: StatusCode, headers: &HeaderMap, text: &str) -> Failure {
    let is_final = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
    let said: String = text.chars().take(SHOWN_MAX).collect();
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!(". hint: vendors.{}.admin_key is an admin key of the organization", vendor.name())
        }
        _ => String::new(),
    };
    let now = super::now();
    let wait = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
    Failure { message: format!("{} answered {status}: {}{hint}", vendor.name(), said.trim()), wait, is_final }
}

/// The time of a `Retry-After`: seconds, or a date.
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(value.trim()).ok()?;
    Some((until.with_timezone(&Utc) - now).to_std().unwrap_or_default())
}

/// A token as the value of a parameter.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_and_pages_are_read_as_the_vendors_write_them() {
        let now = "2026-11-30T10:00:00Z".parse().unwrap();
        let seconds = |text: &str| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("Mon, 30 Nov 2026 10:01:30 GMT"), Some(90));
        assert_eq!(seconds("Mon, 30 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(seconds("soon"), None);
        let page = r#"{"data": [], "has_more": true, "next_page": "page_a+/="}"#;
        assert_eq!(next_page(page).unwrap().map(|next| encoded(&next)).as_deref(), Some("page_a%2B%2F%3D"));
        assert_eq!(next_page(r#"{"data": [], "has_more": false, "next_page": null}"#), Ok(None));
        for broken in [&page[..30], "", r#"{"has_more": true, "next_page": null}"#, "{}{}"] {
            assert!(next_page(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_limit_is_waited_for_and_a_refusal_is_not_repeated() {
        let headers: HeaderMap = [(RETRY_AFTER, "30".parse().unwrap())].into_iter().collect();
        let limited = refused(Vendor::OpenAi, StatusCode::TOO_MANY_REQUESTS, &headers, "slow down");
        assert!(!limited.is_final && limited.wait == Some(Duration::from_secs(30)));
        assert!(!refused(Vendor::OpenAi, StatusCode::BAD_GATEWAY, &HeaderMap::new(), "").is_final);
        let key = refused(Vendor::Anthropic, StatusCode::UNAUTHORIZED, &HeaderMap::new(), &"x".repeat(1_000));
        assert!(
            key.is_final && key.message.contains("vendors.anthropic.admin_key") && key.message.len() < 400,
            "{}",
            key.message
        );
    }
}
