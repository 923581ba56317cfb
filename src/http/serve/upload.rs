//! A request's body, which must be complete in time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use tallyd_pipeline::seats::Seat;

/// The longest time for a whole body, after a valid token.
const KNOWN: Duration = Duration::from_secs(60);
/// The same for a body without a valid token. Such bodies are small.
const STRANGER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
#[error("the body took too long")]
pub(crate) struct TooSlow;

/// A body that marks its seat as waiting for the client, and as at work once the body was read or dropped.
pub(super) struct Upload {
    body: Incoming,
    seat: Arc<Seat>,
    began: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// `body` is the one of a request whose head has been received.
    pub(super) fn new(body: Incoming, seat: Arc<Seat>) -> Self {
        if body.is_end_stream() {
            seat.work();
        } else {
            seat.wait();
        }
        Self { body, seat, began: Instant::now(), deadline: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(None) => {
                this.seat.work();
                Poll::Ready(None)
            }
            Poll::Ready(Some(frame)) => Poll::Ready(Some(frame.map_err(Into::into))),
            Poll::Pending => {
                // The token is checked before the body is read.
                let patience = if this.seat.is_known() { KNOWN } else { STRANGER };
                let ends = this.began + patience;
                let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep_until(ends)));
                deadline.as_mut().poll(context).map(|()| Some(Err(TooSlow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.seat.work();
    }
}
