//! Requests that may make the daemon hold much: few of them at a time.
//!
//! A body is held whole, with what was read from it and what is answered. A small one is taken whatever else goes on. One that
//! is long, or whose length is not known before it has been decompressed, needs one of [`AT_ONCE`] places, of which one sender
//! has half at most; it waits for one before its body is read, and is told to come again where there is none in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::http::auth::Identity;
use crate::http::error::ApiError;

/// Bytes of a body that is small.
const SMALL_BYTES: u64 = 64 * 1024;
/// Large requests at a time.
const AT_ONCE: usize = 4;
/// Of one sender.
const OF_ONE: usize = AT_ONCE / 2;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// The places.
pub struct Large {
    places: Semaphore,
    by_sender: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Default for Large {
    fn default() -> Self {
        Self { places: Semaphore::new(AT_ONCE), by_sender: Mutex::default() }
    }
}

impl Large {
    fn of(&self, sender: &str) -> Arc<Semaphore> {
        let mut by_sender = self.by_sender.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of whom nobody waits any more.
        by_sender.retain(|_, own| Arc::strong_count(own) > 1);
        Arc::clone(by_sender.entry(sender.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(OF_ONE))))
    }
}

/// Middleware: waits for a place.
pub async fn few(State(large): State<Arc<Large>>, request: Request, next: Next) -> Response {
    if is_small(request.headers()) {
        return next.run(request).await;
    }
    let sender = request.extensions().get::<Identity>().map(|identity| identity.actor.clone());
    let own = large.of(&sender.unwrap_or_default());
    let places = async { Some((own.acquire().await.ok()?, large.places.acquire().await.ok()?)) };
    match tokio::time::timeout(PATIENCE, places).await {
        Ok(Some(_held)) => next.run(request).await,
        _ => {
            let hint =
                "nothing of the request was taken: send it again, or in parts of up to 64 KiB, which are not held up";
            let message = "too many large requests are under way";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message, hint).retry_after(2).into_response()
        }
    }
}

fn is_small(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    !headers.contains_key(header::CONTENT_ENCODING) && length.is_some_and(|bytes| bytes <= SMALL_BYTES)
}
