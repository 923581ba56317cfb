//! Requests that may make the daemon hold much: few of them at a time.
//!
//! A body is held whole, with what was read from it and what is answered. A tiny one is taken whatever else goes on. A small
//! one may be answered at length, forty times its own, and needs a place for that. One that is long, or whose length is not
//! known before it has been decompressed, needs one of few. A place is waited for before the body is read, and kept until the
//! answer is taken.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::places::{self, Places};

/// Bytes of a body whose answer is short, whatever it is.
const TINY_BYTES: u64 = 1024;
/// Bytes of a body that is small.
const SMALL_BYTES: u64 = 64 * 1024;
/// Small requests at a time.
const SMALL_AT_ONCE: usize = 16;
/// Large requests at a time.
const LARGE_AT_ONCE: usize = 4;

/// The places of both kinds.
pub(crate) struct Sizes {
    small: Places,
    large: Places,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { small: Places::new(SMALL_AT_ONCE), large: Places::new(LARGE_AT_ONCE) }
    }
}

/// Middleware: waits for a place.
pub(crate) async fn few(State(sizes): State<Arc<Sizes>>, request: Request, next: Next) -> Response {
    let places = match plain_bytes(request.headers()) {
        Some(0..=TINY_BYTES) => return next.run(request).await,
        Some(..=SMALL_BYTES) => &sizes.small,
        _ => &sizes.large,
    };
    let hint = "nothing of the request was taken: send it again, or in parts of up to 64 KiB, which are not held up";
    match places.take(request.extensions(), hint).await {
        Ok(place) => places::with(next.run(request).await, place),
        Err(busy) => busy.into_response(),
    }
}

/// The length of a body that is not compressed, if it is said.
fn plain_bytes(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (!headers.contains_key(header::CONTENT_ENCODING)).then_some(length)
}
