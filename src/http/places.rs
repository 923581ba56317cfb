//! Bounds on requests and answers that take much memory: few at a time, and at most half of them for one sender.
//!
//! Otherwise a sender who reads no answers could make the daemon keep one for each connection. So a request keeps its
//! place until the client has taken the answer, not until the answer is ready. A request without a place waits for one,
//! and after [`PATIENCE`] is answered with 503.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Extensions, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::Identity;
use super::error::ApiError;

/// The longest wait for a place.
const PATIENCE: Duration = Duration::from_secs(10);
/// Answers that are being made, or are long and not yet taken, at a time. A page of records has up to 4 MiB.
const ANSWERS: usize = 16;
/// The longest answer that needs no place once it is made, bytes: the operating system buffers it.
const SHORT_BYTES: u64 = 64 * 1024;
/// Bytes of an answer that are handed on at a time. The rest keeps its place until the client has taken them: a body
/// that is handed on whole would give its place back before anything is sent.
const PIECE_BYTES: usize = 64 * 1024;

/// The places for one kind of request.
pub(crate) struct RequestSlots {
    all: Arc<Semaphore>,
    of_one: usize,
    by_sender: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place, taken until the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "held, and given back when dropped")] Arc<[OwnedSemaphorePermit; 2]>,
);

impl RequestSlots {
    /// At most half of the places are one sender's.
    #[must_use]
    pub(crate) fn new(places: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(places)), of_one: places / 2, by_sender: Mutex::default() }
    }

    #[must_use]
    pub(crate) fn answers() -> Self {
        Self::new(ANSWERS)
    }

    fn of(&self, sender: &str) -> Arc<Semaphore> {
        let mut by_sender = self.by_sender.lock().unwrap_or_else(PoisonError::into_inner);
        // Forgets senders without a place and without a waiting request.
        by_sender.retain(|_, own| Arc::strong_count(own) > 1);
        Arc::clone(by_sender.entry(sender.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.of_one))))
    }

    /// Waits for a place, for the sender of the request with these extensions.
    ///
    /// # Errors
    /// 503 if there is none in time.
    pub(crate) async fn take(&self, extensions: &Extensions, hint: &str) -> Result<Place, ApiError> {
        let own = self.of(extensions.get::<Identity>().map_or("", |identity| identity.actor.as_str()));
        let both = async {
            // One of the sender's own places first, so that a sender at their bound does not occupy one of the shared
            // places.
            Some([own.acquire_owned().await.ok()?, Arc::clone(&self.all).acquire_owned().await.ok()?])
        };
        match tokio::time::timeout(PATIENCE, both).await {
            Ok(Some(both)) => Ok(Place(Arc::new(both))),
            _ => {
                let message = "too many large requests and answers are under way";
                Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message, hint).retry_after(2))
            }
        }
    }
}

/// Middleware, closest to the handlers: takes a place, and attaches it to a long answer for [`keep`]. Middleware
/// between the two may replace the body.
pub(crate) async fn few(State(places): State<Arc<RequestSlots>>, request: Request, next: Next) -> Response {
    let hint = "ask again in a moment, and read answers as they come; one sender has half of the places at most";
    let place = match places.take(request.extensions(), hint).await {
        Ok(place) => place,
        Err(busy) => return busy.into_response(),
    };
    let mut response = next.run(request).await;
    let bytes = http_body::Body::size_hint(response.body()).exact();
    if bytes.is_none_or(|bytes| bytes > SHORT_BYTES) {
        response.extensions_mut().insert(place);
    }
    response
}

/// Middleware: an answer with an attached place keeps that place until its body is dropped.
pub(crate) async fn keep(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Place>() {
        Some(place) => with(response, place),
        None => response,
    }
}

/// The response, whose body keeps the place.
pub(crate) fn with(response: Response, place: Place) -> Response {
    response.map(|body| Body::new(Keeping { body, rest: Bytes::new(), _place: place }))
}

struct Keeping {
    body: Body,
    rest: Bytes,
    _place: Place,
}

impl http_body::Body for Keeping {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => this.rest = bytes,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (http_body::Body::size_hint(&self.body), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
