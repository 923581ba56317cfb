//! Requests that may make the daemon hold much: few of them at a time.
//!
//! A body is held whole, with what was read from it and what is answered. A small one is taken whatever else goes on. One that
//! is long, or whose length is not known before it has been decompressed, needs one of [`AT_ONCE`] places; it waits for one
//! before its body is read, and has it until its answer is taken.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::places::{self, Places};

/// Bytes of a body that is small.
const SMALL_BYTES: u64 = 64 * 1024;
/// Large requests at a time.
pub const AT_ONCE: usize = 4;

/// Middleware: waits for a place.
pub async fn few(State(large): State<Arc<Places>>, request: Request, next: Next) -> Response {
    if is_small(request.headers()) {
        return next.run(request).await;
    }
    let hint = "nothing of the request was taken: send it again, or in parts of up to 64 KiB, which are not held up";
    match large.take(request.extensions(), hint).await {
        Ok(place) => places::with(next.run(request).await, place),
        Err(busy) => busy.into_response(),
    }
}

fn is_small(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    !headers.contains_key(header::CONTENT_ENCODING) && length.is_some_and(|bytes| bytes <= SMALL_BYTES)
}
