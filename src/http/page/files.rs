//! The page's files, as they were embedded: compressed already, with tags, and kept by browsers for good where their name
//! has a digest in it.
//!
//! The policy lets the page run its own script and style and ask its own daemon; nothing inline, nothing from elsewhere. So
//! a name of a model that looks like a script stays text even if the page had a fault.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use crate::http::error::ApiError;
use crate::http::router::Handle;

/// A file of the page.
struct File {
    /// Below the page's root: `index.html`, `assets/page-1A2B3C4D.js`.
    name: &'static str,
    /// Its type.
    kind: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A tag a file, in the table's order.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(|file| tag(file.plain)).collect());

/// Weak, since it is the same whatever the form.
fn tag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("W/\"{hex}\"")
}

/// `/` and the files below it.
pub(super) fn routes() -> Router<Handle> {
    let at_root = |name: &'static str| get(move |headers: HeaderMap| async move { serve(name, &headers) });
    Router::new()
        .route("/", at_root("index.html"))
        .route("/icon.svg", at_root("icon.svg"))
        .route("/assets/{name}", get(asset))
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve(&format!("assets/{name}"), &headers)
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some(at) = FILES.iter().position(|file| file.name == name) else {
        return ApiError::not_found("the page has no such file", "reload the page: the daemon may be a newer one")
            .into_response();
    };
    let (file, tag) = (&FILES[at], TAGS[at].as_str());
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Names of assets have a digest of their content in them; others are asked for anew each time.
    let keep = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common = [(ETAG, tag), (CACHE_CONTROL, keep), (VARY, "accept-encoding"), (CONTENT_SECURITY_POLICY, POLICY)];
    if text(IF_NONE_MATCH).split(',').any(|known| known.trim() == tag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let accepted = text(ACCEPT_ENCODING);
    let (encoding, bytes) = match (file.brotli, file.gzip) {
        (Some(bytes), _) if accepts(accepted, "br") => ("br", bytes),
        (_, Some(bytes)) if accepts(accepted, "gzip") => ("gzip", bytes),
        // Said here, so that nobody compresses it on the way out.
        _ => ("identity", file.plain),
    };
    (common, [(CONTENT_TYPE, file.kind), (CONTENT_ENCODING, encoding)], Bytes::from_static(bytes)).into_response()
}

/// Whether a client takes a coding: named, and not with a weight of zero.
fn accepts(header: &str, coding: &str) -> bool {
    header.split(',').any(|item| {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim_matches(['0', '.']).is_empty());
        name.trim().eq_ignore_ascii_case(coding) && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_taken_where_it_is_named_and_not_refused() {
        assert!(accepts("gzip, deflate, br", "br"));
        assert!(accepts("br;q=0.5", "br"));
        assert!(!accepts("gzip, br;q=0", "br"));
        assert!(!accepts("gzip, br;q=0.0", "br"));
        assert!(!accepts("", "gzip"));
    }

    #[test]
    fn the_page_is_there_and_its_policy_lets_nothing_foreign_in() {
        let answer = serve("index.html", &HeaderMap::new());
        assert_eq!(answer.status(), StatusCode::OK);
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, answer.headers()[ETAG].clone());
        assert_eq!(serve("index.html", &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(serve("assets/../index.html", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }
}
