//! Every route, in one table.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;

use super::{View, health, status};

/// What handlers hold.
pub type Handle = Arc<View>;

/// Routes on `http.listen`. Nothing here tells what anything cost.
pub fn public(view: Handle) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .with_state(view)
}

/// Routes on the local socket.
pub fn local(view: Handle) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(metrics))
        .route("/status", get(status::status))
        .fallback(not_found)
        .with_state(view)
}

async fn metrics(State(view): State<Handle>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], view.metrics.render())
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "not found: there are /healthz, /readyz and /metrics\n")
}
