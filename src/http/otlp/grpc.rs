//! OTLP over gRPC: the three `Export` methods, with the readers, tokens and answers of OTLP over HTTP.
//!
//! tonic does the framing. Its codec hands over the message's bytes unchanged. So the bounded readers of
//! [`tallyd_intake::otlp::document`] read them, and the request's digest is its key as over HTTP: a repeated export
//! adds nothing.
//!
//! ## Bounds
//! * A token is checked before the first byte of a message is read.
//! * A message has at most `http.max_body_bytes`, before and after decompression.
//! * [`EXPORTS_MAX`] messages are read and recorded at once. Further messages wait, with the bytes that fit into their
//!   windows. All this takes at most [`EXPORT_TIME`].
//! * A connection has [`STREAMS_MAX`] streams and [`WINDOW_BYTES`] of window. It must export within [`FIRST_EXPORT`],
//!   and may then be silent for [`IDLE`].
//! * [`CONNECTIONS_MAX`] connections are open at once; further ones wait in the operating system's queue.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::post;
use bytes::{Buf, BufMut, Bytes};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::gauge;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tower::ServiceExt;

use super::{Mapping, take};
use crate::http::SharedDaemon;
use crate::http::auth::{Denied, Identity, Role};
use tallyd_base::registry;
use tallyd_intake::otlp::document::{Encoding, Item};
use tallyd_intake::otlp::items::{Event, Metric, Span};
use tallyd_intake::otlp::{logs, spans, sums};
use tallyd_pipeline::metrics::OpenConnection;
use tallyd_pipeline::tls::{ListenerTls, MaybeTls, shake};

/// Connections at once. An exporter keeps one.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Streams of one connection at once.
const STREAMS_MAX: u32 = 16;
/// Bytes that a connection may send before the daemon reads them.
const WINDOW_BYTES: u32 = 256 * 1024;
/// The longest headers of a request, bytes.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// Messages that are read and recorded at once, on all connections.
const EXPORTS_MAX: usize = 4;
/// The longest time from a request's head to its answer.
const EXPORT_TIME: Duration = Duration::from_secs(60);
/// The longest time until a connection's first admitted export, and the longest silence after it.
const FIRST_EXPORT: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(600);
/// How often connections are checked, and pinged; one that does not answer the ping is closed.
const TICK: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(30);
/// The pause after an accept fails.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Exports {
    daemon: SharedDaemon,
    permits: Arc<Semaphore>,
}

/// The time of a connection's last admitted export: milliseconds since the connection began; 0 for never.
#[derive(Clone)]
struct Alive(Arc<AtomicU64>, Instant);

/// Serves connections until the task is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ListenerTls>>,
    daemon: SharedDaemon,
    max_connections: usize,
) {
    let router = router(daemon);
    let places = Arc::new(Semaphore::new(max_connections.clamp(1, CONNECTIONS_MAX)));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (router, tls) = (router.clone(), tls.clone());
                tokio::spawn(async move {
                    if let Some(stream) = shake(tls.as_deref(), stream).await {
                        connection(stream, peer, router).await;
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a gRPC connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn router(daemon: SharedDaemon) -> Router {
    let exports = Exports { daemon, permits: Arc::new(Semaphore::new(EXPORTS_MAX)) };
    Router::new()
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(traces))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(log_records))
        .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", post(metrics))
        .fallback(async || {
            Status::unimplemented("OTLP's Export of traces, logs and metrics is all there is").into_http::<Body>()
        })
        .with_state(exports)
}

async fn connection(stream: MaybeTls, peer: SocketAddr, router: Router) {
    let _counted = OpenConnection::new(gauge!(registry::CONNECTIONS, "transport" => "grpc"));
    let alive = Alive(Arc::default(), Instant::now());
    let known = alive.clone();
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(known.clone());
        request.map(Body::new)
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(served);
    let mut tick = tokio::time::interval(TICK);
    let mut ending: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    tracing::trace!(%peer, %error, "a gRPC connection broke off");
                }
                return;
            }
            _ = tick.tick() => match ending {
                Some(since) if since.elapsed() > EXPORT_TIME => return,
                Some(_) => {}
                None if alive.is_over() => {
                    ending = Some(Instant::now());
                    served.as_mut().graceful_shutdown();
                }
                None => {}
            }
        }
    }
}

impl Alive {
    fn note(&self) {
        let ms = u64::try_from(self.1.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.store(ms.max(1), Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => self.1.elapsed() > FIRST_EXPORT,
            ms => self.1.elapsed() > Duration::from_millis(ms) + IDLE,
        }
    }
}

async fn traces(State(exports): State<Exports>, request: Request) -> Response {
    export::<Span>(exports, request, "traces", spans::records).await
}

async fn log_records(State(exports): State<Exports>, request: Request) -> Response {
    export::<Event>(exports, request, "logs", logs::records).await
}

async fn metrics(State(exports): State<Exports>, request: Request) -> Response {
    export::<Metric>(exports, request, "metrics", sums::records).await
}

async fn export<T: Item + 'static>(
    exports: Exports,
    request: Request,
    signal: &'static str,
    mapping: Mapping<T>,
) -> Response {
    let (head, body) = request.into_parts();
    let who = match admit(&exports.daemon, &head).await {
        Ok(who) => who,
        Err(status) => return status.into_http(),
    };
    if let Some(alive) = head.extensions.get::<Alive>() {
        alive.note();
    }
    let request = Request::from_parts(head, body);
    let max_bytes = exports.daemon.settings.max_body_bytes;
    let taking = async {
        // The semaphore is never closed.
        let Ok(_permit) = Arc::clone(&exports.permits).acquire_owned().await else {
            return Status::unavailable("the daemon is stopping").into_http();
        };
        let service = Take::<T> { daemon: Arc::clone(&exports.daemon), who, signal, mapping };
        let mut grpc = Grpc::new(Raw).accept_compressed(CompressionEncoding::Gzip).max_decoding_message_size(max_bytes);
        grpc.unary(service, request).await.map(Body::new)
    };
    match tokio::time::timeout(EXPORT_TIME, taking).await {
        Ok(answer) => answer,
        Err(_elapsed) => Status::deadline_exceeded("the export took too long; send it again").into_http(),
    }
}

/// The exporter's identity, if its token allows exports.
async fn admit(daemon: &SharedDaemon, head: &Parts) -> Result<Identity, Status> {
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let address = daemon.auth.client(peer.unwrap_or(IpAddr::from([0, 0, 0, 0])), &head.headers);
    let denied = match daemon.auth.of_request(daemon, &head.headers, address, false).await {
        Ok(identity) if identity.role.suffices(Role::Ingest) => return Ok(identity),
        Ok(_) => Denied::Role,
        Err(denied) => denied,
    };
    let error = daemon.auth.refuse(denied, address);
    Err(match error.status() {
        StatusCode::UNAUTHORIZED => {
            let message = format!("{}; send the token as metadata: authorization=Bearer …", error.message());
            Status::unauthenticated(message)
        }
        StatusCode::FORBIDDEN => Status::permission_denied(error.message()),
        _ => Status::unavailable(error.message()),
    })
}

/// One message, taken like a body over HTTP.
struct Take<T: Item> {
    daemon: SharedDaemon,
    who: Identity,
    signal: &'static str,
    mapping: Mapping<T>,
}

impl<T: Item + 'static> UnaryService<Bytes> for Take<T> {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (daemon, who) = (Arc::clone(&self.daemon), self.who.clone());
        let (signal, mapping) = (self.signal, self.mapping);
        Box::pin(async move {
            let (metadata, _, body) = request.into_parts();
            let body = (Encoding::Protobuf, &body);
            let taken = take::<T>(&daemon, &who, &metadata.into_headers(), body, signal, mapping).await;
            match taken {
                Ok(rejected) => Ok(tonic::Response::new(rejected.message().into())),
                Err(status) => Err(match status.code() {
                    StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(status.message()),
                    _ => Status::invalid_argument(status.message()),
                }),
            }
        })
    }
}

/// A codec that leaves messages unchanged.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
