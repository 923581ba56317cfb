//! The page's files, from the binary.

use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body::Body};

use crate::http::SharedDaemon;
use crate::http::error::ApiError;

struct Asset {
    name: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/page.rs"));
const INDEX: &str = "index.html";
/// Shown by a binary that was built without the page.
const UNBUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>tallyd</title>\
    <p>This tallyd was built without its admin page. <code>make page build</code> puts it in; the API is described at \
    <a href=/api/docs>/api/docs</a>.";
/// Scripts, styles and data from this host alone; no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/` and `/assets/…`. Open: they have no data.
pub(crate) fn routes() -> Router<SharedDaemon> {
    Router::new().route("/", get(index)).route("/assets/{name}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == INDEX) {
        Some(asset) => serve(asset, &headers, "no-cache"),
        None => ([(CONTENT_TYPE, "text/html; charset=utf-8")], UNBUILT).into_response(),
    }
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name && name != INDEX) {
        // A file's name changes with its content.
        Some(asset) => serve(asset, &headers, "public, max-age=31536000, immutable"),
        None => ApiError::not_found("the page has no such file", "load the page anew").into_response(),
    }
}

fn serve(asset: &Asset, headers: &HeaderMap, caching: &'static str) -> Response {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepts = |name: &str| {
        accepted
            .split(',')
            .any(|part| part.split(';').next().is_some_and(|part| part.trim() == name) && !part.contains("q=0"))
    };
    let forms = [("br", asset.brotli), ("gzip", asset.gzip)];
    let packed = forms.into_iter().find_map(|(name, form)| form.filter(|_| accepts(name)).map(|bytes| (name, bytes)));
    let mut response = Response::new(Body::from(packed.map_or(asset.plain, |(_, bytes)| bytes)));
    let headers = response.headers_mut();
    if let Some((name, _)) = packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
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
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
