//! Files in the binary: the admin page's and the documentation's, which `build.rs` embeds.
//!
//! A file of the page has a plain form and a compressed one. A file of the documentation has only its compressed form, which keeps the
//! binary small. A client that does not accept gzip gets an error, because decompression without a token would cost the daemon work.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// A file and its forms.
pub(super) struct Asset {
    /// Its path below the folder that was embedded.
    pub(super) name: &'static str,
    /// None where only compressed forms are embedded.
    pub(super) plain: Option<&'static [u8]>,
    pub(super) gzip: Option<&'static [u8]>,
}

/// Scripts, styles and data from this host alone; no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// For names that change with their content.
pub(super) const FOREVER: &str = "public, max-age=31536000, immutable";
/// For names that stay.
pub(super) const ASK_AGAIN: &str = "no-cache";

/// The file of this name.
pub(super) fn find(assets: &'static [Asset], name: &str) -> Option<&'static Asset> {
    assets.iter().find(|asset| asset.name == name)
}

/// The page in place of files that were not embedded. It says how to embed them.
pub(super) fn unbuilt(html: &'static str) -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

/// The file, compressed if the client accepts that.
pub(super) fn serve(asset: &Asset, headers: &HeaderMap, caching: &'static str) -> Response {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A weight of 0 refuses a form; others do not matter, as the compressed one is always the smaller.
    let refuses =
        |weight: &str| weight.trim().strip_prefix("q=").is_some_and(|q| q.parse().is_ok_and(|q: f32| q <= 0.0));
    let accepts_gzip = accepted.split(',').any(|part| {
        let mut words = part.split(';');
        words.next().is_some_and(|form| form.trim() == "gzip") && !words.any(refuses)
    });
    let packed = asset.gzip.filter(|_| accepts_gzip);
    let Some(bytes) = packed.or(asset.plain) else {
        let (message, hint) =
            ("this file is served compressed", "send `Accept-Encoding: gzip`, as `curl --compressed` does");
        return ApiError::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message, hint).into_response();
    };
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    if packed.is_some() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind(asset.name)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(asset: &Asset, accepted: &'static str) -> (u16, Option<String>) {
        let headers = [(ACCEPT_ENCODING, HeaderValue::from_static(accepted))].into_iter().collect();
        let response = serve(asset, &headers, FOREVER);
        let encoding = response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), encoding)
    }

    #[test]
    fn a_compressed_form_is_served_where_it_is_accepted_and_nowhere_else() {
        let page = Asset { name: "a.js", plain: Some(b"1"), gzip: Some(b"2") };
        assert_eq!(served(&page, "br, gzip"), (200, Some("gzip".into())));
        assert_eq!(served(&page, "gzip;q=0.5"), (200, Some("gzip".into())), "a weight that is not 0");
        assert_eq!(served(&page, "br, gzip;q=0"), (200, None));
        let book = Asset { name: "a.html", plain: None, gzip: Some(b"2") };
        assert_eq!(served(&book, "deflate, gzip"), (200, Some("gzip".into())));
        assert_eq!(served(&book, "identity"), (406, None));
    }
}
