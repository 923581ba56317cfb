//! Places for what may make the daemon hold much: few requests at a time, of which one sender has half at most.
//!
//! What a request makes the daemon hold is held until its answer has been taken, not until it is ready: somebody who asks and
//! does not read would hold as many answers as there are connections. So a place is kept as long as the answer's body is.
//! A sender without a place waits for one, and is told to come again where there is none in time.

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

/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// Answers at a time that are being made, or are long and not taken yet. A page of records has up to 4 MiB.
const ANSWERS: usize = 16;
/// Bytes of an answer that is not long: the system takes so many of it at once.
const SHORT_BYTES: u64 = 64 * 1024;
/// Bytes of an answer that are handed on at a time. The rest waits with the place until the client has taken them: a body
/// that is handed on whole is gone before anything of it is sent.
const PIECE_BYTES: usize = 64 * 1024;

/// The places of one kind of request.
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
    /// So many places.
    #[must_use]
    pub(crate) fn new(places: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(places)), of_one: places / 2, by_sender: Mutex::default() }
    }

    /// Places for questions.
    #[must_use]
    pub(crate) fn answers() -> Self {
        Self::new(ANSWERS)
    }

    fn of(&self, sender: &str) -> Arc<Semaphore> {
        let mut by_sender = self.by_sender.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of whom nobody holds or awaits a place any more.
        by_sender.retain(|_, own| Arc::strong_count(own) > 1);
        Arc::clone(by_sender.entry(sender.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.of_one))))
    }

    /// A place for the sender of the request with these extensions.
    ///
    /// # Errors
    /// 503 if there is none in time.
    pub(crate) async fn take(&self, extensions: &Extensions, hint: &str) -> Result<Place, ApiError> {
        let own = self.of(extensions.get::<Identity>().map_or("", |identity| identity.actor.as_str()));
        let both = async {
            // The sender's own first: nobody holds one of all while waiting for their own.
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

/// Middleware, closest to the handlers of questions: takes a place, and leaves it with a long answer for [`keep`]. What is
/// in between may read the body and make another one of it.
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

/// Middleware: an answer that came with a place keeps it until its body is gone.
pub(crate) async fn keep(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Place>() {
        Some(place) => with(response, place),
        None => response,
    }
}

/// The response, whose body keeps a place.
pub(crate) fn with(response: Response, place: Place) -> Response {
    response.map(|body| Body::new(Keeping { body, rest: Bytes::new(), _place: place }))
}

/// A body with its place.
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
