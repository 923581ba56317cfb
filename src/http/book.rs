//! The documentation as a site (`make book`), at `/docs/`. Open: it has no data.

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::SharedDaemon;
use super::assets::{ASK_AGAIN, Asset, FOREVER, find, serve, unbuilt};
use super::error::ApiError;

const BOOK: &[Asset] = include!(concat!(env!("OUT_DIR"), "/book.rs"));
const INDEX: &str = "index.html";
const UNBUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>tallyd</title>\
    <p>This tallyd was built without its documentation. <code>make book build</code> puts it in; the repository has it in \
    <code>docs/</code>, and the API is described at <a href=/api/docs>/api/docs</a>.";

/// `/docs/…`
pub(crate) fn routes() -> Router<SharedDaemon> {
    // Links within the site are relative to the slash.
    let slash = get(|| async { Redirect::temporary("docs/") });
    Router::new().route("/docs", slash).route("/docs/", get(first)).route("/docs/{*path}", get(file))
}

async fn first(headers: HeaderMap) -> Response {
    page(INDEX, &headers)
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    // A folder's first page.
    if path.ends_with('/') { page(&format!("{path}{INDEX}"), &headers) } else { page(&path, &headers) }
}

fn page(path: &str, headers: &HeaderMap) -> Response {
    match find(BOOK, path) {
        // mdbook names scripts and styles after their content.
        Some(asset) if asset.name.ends_with(".js") || asset.name.ends_with(".css") => serve(asset, headers, FOREVER),
        Some(asset) => serve(asset, headers, ASK_AGAIN),
        None if find(BOOK, INDEX).is_none() => unbuilt(UNBUILT),
        None => ApiError::not_found("the documentation has no such page", "/docs/ has the contents").into_response(),
    }
}
