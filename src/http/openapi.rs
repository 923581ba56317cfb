//! The OpenAPI document, and a page for people.
//!
//! Both are open: they describe the endpoints and expose no costs. The document is made from the handlers by the test that writes
//! `tests/snapshots/openapi.snap`; `build.rs` embeds that file. The page is one piece of HTML without a script, made once.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::routing::get;
use flate2::read::GzDecoder;
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Info, InfoBuilder, SecurityRequirement};

use super::SharedDaemon;

const DESCRIPTION: &str = "Costs of paid API calls. Every request but health shows a token: `Authorization: Bearer …`, a JWT \
    of the configured issuer or one that `tallyd token create` made. Amounts are JSON numbers with all of their digits under \
    /api/admin and decimal text under /api/v1; days are in the reporting time zone.";

/// The document's parts that no handler has: name, version, and the security scheme.
#[derive(OpenApi)]
struct Base;

/// Adds the parts of [`Base`] to the document of the handlers.
#[must_use]
pub(crate) fn complete(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let base = Base::openapi();
    document.info = info();
    let mut components = document.components.take().or(base.components).unwrap_or_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    document.components = Some(components);
    document.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    document
}

fn info() -> Info {
    InfoBuilder::new().title("tallyd").version(env!("CARGO_PKG_VERSION")).description(Some(DESCRIPTION)).build()
}

/// The document as `build.rs` has packed it.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));

/// The document and the page.
static MADE: LazyLock<(Bytes, Bytes)> = LazyLock::new(|| {
    let read = GzDecoder::new(PACKED);
    let document: Value = serde_json::from_reader(read).expect("the build has packed the document");
    (Bytes::from(document.to_string()), Bytes::from(page(&document)))
});

/// `/api/openapi.json` and `/api/docs`.
pub(crate) fn routes() -> Router<SharedDaemon> {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    let json = || async { ([(CONTENT_TYPE, "application/json")], MADE.0.clone()) };
    let page = move || async move {
        ([(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, policy)], MADE.1.clone())
    };
    Router::new().route("/api/openapi.json", get(json)).route("/api/docs", get(page))
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
    <title>tallyd's API</title><style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;max-width:60rem;\
    margin:2rem auto;padding:0 1rem}code{font-family:ui-monospace,monospace}table{border-collapse:collapse;width:100%}\
    td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884}\
    section{margin:2rem 0}</style><h1>tallyd's API</h1>";

fn page(document: &Value) -> String {
    let mut html = HEAD.to_owned();
    // Writing into text does not fail, here and below.
    let _ = write!(html, "<p>{}</p><p><a href=/api/openapi.json>OpenAPI document</a></p>", escaped(DESCRIPTION));
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            section(&mut html, path, method, operation);
        }
    }
    html
}

fn section(html: &mut String, path: &str, method: &str, operation: &Value) {
    let summary = operation["summary"].as_str().unwrap_or_default();
    let method = method.to_ascii_uppercase();
    let _ = write!(html, "<section><h2><code>{method} {}</code></h2><p>{}</p>", escaped(path), escaped(summary));
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    if !parameters.is_empty() {
        html.push_str("<table><tr><th>Parameter<th>Meaning");
        for parameter in parameters {
            let text = |name: &str| escaped(parameter[name].as_str().unwrap_or_default());
            let _ = write!(html, "<tr><td><code>{}</code><td>{}", text("name"), text("description"));
        }
        html.push_str("</table>");
    }
    html.push_str("<table><tr><th>Status<th>Meaning");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let _ = write!(html, "<tr><td>{status}<td>{}", escaped(response["description"].as_str().unwrap_or_default()));
    }
    html.push_str("</table></section>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
