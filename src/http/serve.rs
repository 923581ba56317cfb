//! The public listener: connections are bounded, and one that says nothing is closed.
//!
//! Every open connection is a file, and the write-ahead log must never go without one. So no more than
//! `http.max_connections` are open at once; the next ones wait in the operating system's queue until one ends. Nobody can
//! hold a place for nothing: a connection has [`HEADER_TIMEOUT`] to send a request's head, which also bounds how long a
//! kept-alive one stays idle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use crate::metrics::{OpenConnection, registry};

/// From the opening of a connection, or the last answer on it, until the head of the next request is complete.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait where the system has no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until the task is dropped, at most `max_connections` at a time.
pub async fn serve(listener: TcpListener, router: Router, max_connections: usize) {
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => drop(tokio::spawn(connection(stream, peer, router.clone(), place))),
            // The peer has gone already, or files have run out for a moment.
            Err(error) => {
                tracing::debug!(%error, "an HTTP connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, _place: OwnedSemaphorePermit) {
    let _counted = OpenConnection::new(gauge!(registry::CONNECTIONS, "transport" => "http"));
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(axum::body::Body::new)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = served.await {
        tracing::trace!(%peer, %error, "an HTTP connection broke off");
    }
}
