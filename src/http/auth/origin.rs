//! Whether a browser sends a request for the page itself.
//!
//! Another site's page, or a page of another port of this host, can make a browser send requests with this host's
//! cookies. Such a page cannot set the page's header without a preflight request, and the browser states the origin.

use axum::http::uri::Uri;
use axum::http::{HeaderMap, header};

use super::{Denied, PAGE_HEADER};

/// Lets a request of the page pass.
///
/// # Errors
/// [`Denied::CrossSite`] without the page's header, or if the browser names another origin.
pub(crate) fn of_the_page(headers: &HeaderMap) -> Result<(), Denied> {
    if headers.contains_key(PAGE_HEADER) && is_same_origin(headers) { Ok(()) } else { Err(Denied::CrossSite) }
}

/// Browsers set `Sec-Fetch-Site` themselves, and a proxy in front does not change it. They send it over TLS and to this
/// machine; otherwise the host of `Origin` must be the request's host. A program sends neither.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else { return true };
    let origin: Option<Uri> = origin.parse().ok();
    let host = text(header::HOST.as_str());
    origin.as_ref().and_then(Uri::authority).is_some_and(|authority| Some(authority.as_str()) == host)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn another_origins_request_is_told_from_the_pages_own() {
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[], false),
            (&[("x-tallyd-page", "1")], true),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("x-tallyd-page", "1"), ("sec-fetch-site", "same-origin"), ("origin", "https://x.example")], true),
            (&[("x-tallyd-page", "1"), ("sec-fetch-site", "same-site")], false),
            (&[("x-tallyd-page", "1"), ("sec-fetch-site", "none")], false),
            (&[("x-tallyd-page", "1"), ("origin", "http://127.0.0.1:7420")], true),
            (&[("x-tallyd-page", "1"), ("origin", "http://127.0.0.1:7421")], false),
            (&[("x-tallyd-page", "1"), ("origin", "null")], false),
        ];
        for (given, passes) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:7420"));
            for (name, value) in given {
                headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
            }
            assert_eq!(of_the_page(&headers).is_ok(), passes, "{given:?}");
        }
    }
}
