//! HTTP connections. Those of the public listeners are bounded, and an idle connection does not keep its place for
//! ever.
//!
//! Every open connection takes a descriptor and some memory. So at most `http.max_connections` are open at once, and
//! [`seats`](tallyd_pipeline::seats) shares them out: strangers have half of them, one address a share, health checks a few of
//! their own. Each wait for a client has a deadline: for its first head, for a body ([`upload`]), for taking an answer
//! ([`paced`]), and for its next request.

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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::error::ApiError;
use paced::Paced;
use tallyd_base::registry;
use tallyd_pipeline::metrics::OpenConnection;
use tallyd_pipeline::seats::{Guard, Seat, SeatBounds, Seats};
use tallyd_pipeline::tls::{ListenerTls, shake};
use upload::Upload;

pub(crate) use upload::TooSlow;

/// The longest time for the head of the first request.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// The longest time from the last answer until the head of the next request is complete.
const NEXT_HEAD: Duration = Duration::from_secs(60);
/// The longest time for a client to take its answer once the daemon stops.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The longest head, and the size of a connection's read buffer, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an answer that the operating system buffers for a client. Linux doubles the value for its own bookkeeping.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// The pause after an accept fails.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, tls: Option<Arc<ListenerTls>>, router: Router, bounds: SeatBounds) {
    let seats = Seats::new(bounds);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let guard = seats.take(peer.ip()).await;
                drop(tokio::spawn(public((stream, tls.clone()), peer, router.clone(), Arc::clone(&seats), guard)));
            }
            // The peer has already gone, or descriptors have run out for a moment.
            Err(error) => {
                tracing::debug!(%error, "an HTTP connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A connection of a public listener.
async fn public(
    (stream, tls): (TcpStream, Option<Arc<ListenerTls>>),
    peer: SocketAddr,
    router: Router,
    seats: Arc<Seats>,
    guard: Guard,
) {
    let _counted = OpenConnection::new(gauge!(registry::CONNECTIONS, "transport" => "http"));
    // If it cannot be set, the operating system's bound holds.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
    let seat = Arc::clone(&guard.seat);
    let client = Client { public: Some((peer, seats)), seat: Arc::clone(&seat) };
    let served = async {
        if let Some(stream) = shake(tls.as_deref(), stream).await {
            connection(stream, router, client, CancellationToken::new()).await;
        }
    };
    tokio::select! {
        () = served => {}
        () = seat.left() => {
            counter!(registry::PROTOCOL_ERRORS, "code" => "http_displaced").increment(1);
            tracing::debug!(%peer, "an HTTP connection that was waited for made room for another one");
        }
    }
    drop(guard);
}

/// A connection of the record socket, from its first request on. Once `stop` is cancelled, requests that have been
/// received whole are answered, and no more are read.
pub(crate) async fn on_socket<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let seat = Seat::alone();
    // The socket's permissions have let the client in, as a token would.
    seat.know();
    connection(stream, router, Client { public: None, seat }, stop).await;
}

#[derive(Clone)]
struct Client {
    /// The peer and the places, on a public listener.
    public: Option<(SocketAddr, Arc<Seats>)>,
    seat: Arc<Seat>,
}

async fn connection<S>(stream: S, router: Router, client: Client, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let seat = Arc::clone(&client.seat);
    let stream = Paced::new(stream, Arc::clone(&seat));
    let service = service_fn(move |request| {
        let (router, client) = (router.clone(), client.clone());
        async move { Ok::<_, Infallible>(answer(request, router, client).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_HEAD)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let silent = async {
        tokio::time::sleep(FIRST_HEAD).await;
        if seat.requests() > 0 {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = &mut served => if let Err(error) = served {
            tracing::trace!(%error, "an HTTP connection broke off");
        },
        () = silent => counter!(registry::PROTOCOL_ERRORS, "code" => "http_silent").increment(1),
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            // The client gets this time once more for each answer that is still being made.
            while tokio::time::timeout(LAST_WORDS, &mut served).await.is_err() && seat.is_at_work() {}
        }
    }
}

async fn answer(request: Request<Incoming>, router: Router, Client { public, seat }: Client) -> Response {
    seat.ask();
    let is_health = matches!(request.uri().path(), "/healthz" | "/readyz");
    let mut request = request.map(|body| Body::new(Upload::new(body, Arc::clone(&seat))));
    if let Some((peer, seats)) = public {
        if seat.is_kept() && !is_health && !seats.promote(&seat).await {
            return busy();
        }
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    request.extensions_mut().insert(Arc::clone(&seat));
    let Ok(response) = router.oneshot(request).await;
    seat.wait();
    response
}

/// To a client in a place that is kept for health checks.
fn busy() -> Response {
    let hint = "send it again in a moment; http.max_connections bounds the connections";
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "all connections are in use", hint);
    let mut response = error.retry_after(1).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
