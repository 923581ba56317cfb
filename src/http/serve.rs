//! The public listeners: connections are bounded, and nobody holds a place for nothing.
//!
//! Every open connection is a file and some memory. So no more than `http.max_connections` are open at once, shared out by
//! [`seats`](crate::seats): strangers have half of them, one address its share, health a few of its own. What a client is waited for has
//! an end each: its first head, its body ([`upload`]), its taking of the answer ([`paced`]), its next request.

mod paced;
mod upload;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{counter, gauge};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use super::error::ApiError;
use crate::metrics::OpenConnection;
use crate::seats::{Guard, Seat, SeatBounds, Seats};
use paced::Paced;
use tallyd_base::registry;
use upload::Upload;

pub(crate) use upload::TooSlow;

/// How long the first request's head may take.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// From the last answer until the head of the next request is complete.
const NEXT_HEAD: Duration = Duration::from_secs(60);
/// Bytes of a head, and of a connection's reading buffer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an answer that the system holds for a client; it doubles this for its own records.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// How long to wait where the system has no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, router: Router, bounds: SeatBounds) {
    let seats = Seats::new(bounds);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let guard = seats.take(peer.ip()).await;
                drop(tokio::spawn(connection(stream, peer, router.clone(), Arc::clone(&seats), guard)));
            }
            // The peer has gone already, or files have run out for a moment.
            Err(error) => {
                tracing::debug!(%error, "an HTTP connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, seats: Arc<Seats>, guard: Guard) {
    let _counted = OpenConnection::new(gauge!(registry::CONNECTIONS, "transport" => "http"));
    // Where it cannot be set, the system's own bound holds.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
    let seat = Arc::clone(&guard.seat);
    let stream = Paced::new(stream, Arc::clone(&seat));
    let answering = Arc::clone(&seat);
    let service = service_fn(move |request| {
        let (router, seats, seat) = (router.clone(), Arc::clone(&seats), Arc::clone(&answering));
        async move { Ok::<_, Infallible>(answer(request, peer, router, &seats, seat).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_HEAD)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let silent = async {
        tokio::time::sleep(FIRST_HEAD).await;
        if seat.requests() > 0 {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::trace!(%peer, %error, "an HTTP connection broke off");
        },
        () = silent => counter!(registry::PROTOCOL_ERRORS, "code" => "http_silent").increment(1),
        () = seat.left() => {
            counter!(registry::PROTOCOL_ERRORS, "code" => "http_displaced").increment(1);
            tracing::debug!(%peer, "an HTTP connection that was waited for made room for another one");
        }
    }
    drop(guard);
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    router: Router,
    seats: &Seats,
    seat: Arc<Seat>,
) -> Response {
    seat.ask();
    let is_health = matches!(request.uri().path(), "/healthz" | "/readyz");
    if seat.is_kept() && !is_health && !seats.promote(&seat).await {
        return busy();
    }
    let mut request = request.map(|body| Body::new(Upload::new(body, Arc::clone(&seat))));
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(Arc::clone(&seat));
    let Ok(response) = router.oneshot(request).await;
    seat.wait();
    response
}

/// To somebody in a place that is kept for health.
fn busy() -> Response {
    let hint = "send it again in a moment; http.max_connections bounds the connections";
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "all connections are in use", hint);
    let mut response = error.retry_after(1).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
