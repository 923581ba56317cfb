//! The page's files.

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::http::SharedDaemon;
use crate::http::assets::{ASK_AGAIN, Asset, FOREVER, find, serve, unbuilt};
use crate::http::error::ApiError;

const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/page.rs"));
const INDEX: &str = "index.html";
const UNBUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>tallyd</title>\
    <p>This tallyd was built without its admin page. <code>make page build</code> puts it in; the API is described at \
    <a href=/api/docs>/api/docs</a>.";

/// `/` and `/assets/…`. Open: they have no data.
pub(crate) fn routes() -> Router<SharedDaemon> {
    Router::new().route("/", get(index)).route("/assets/{name}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    find(ASSETS, INDEX).map_or_else(|| unbuilt(UNBUILT), |asset| serve(asset, &headers, ASK_AGAIN))
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match find(ASSETS, &name).filter(|asset| asset.name != INDEX) {
        Some(asset) => serve(asset, &headers, FOREVER),
        None => ApiError::not_found("the page has no such file", "load the page anew").into_response(),
    }
}
