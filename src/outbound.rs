//! The little that tallyd asks of other servers over HTTP: a price list, a webhook. Bounded in time and in bytes.
//!
//! One request a connection: nothing here is asked for often. Certificates are verified against the system's authorities.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address is not one.
    #[error("{url:?} is no address; write http://… or https://…")]
    Address {
        /// What was given.
        url: String,
    },
    /// The system's certificates cannot be read.
    #[error("the system's certificate authorities cannot be read: {0}")]
    Certificates(std::io::Error),
    /// The server was not reached, or did not answer.
    #[error("no answer from {host}: {reason}")]
    Failed {
        /// The server: an address may hold a secret, its host does not.
        host: String,
        /// Why.
        reason: String,
    },
    /// It took too long.
    #[error("no answer from {host} within {} s", limit.as_secs())]
    Timeout {
        /// The server.
        host: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It answered something else than success.
    #[error("{host} answered {status}")]
    Status {
        /// The server.
        host: String,
        /// The status.
        status: u16,
    },
}

/// Fetches a text of at most `max_bytes`.
///
/// # Errors
/// [`OutboundError`].
pub async fn get(url: &str, max_bytes: usize, limit: Duration) -> Result<Bytes, OutboundError> {
    ask(Method::GET, url, Bytes::new(), max_bytes, limit).await
}

/// Posts JSON. What is answered is read, up to 64 KiB, and thrown away.
///
/// # Errors
/// [`OutboundError`], also if the status is not 2xx.
pub async fn post_json(url: &str, body: &serde_json::Value, limit: Duration) -> Result<(), OutboundError> {
    ask(Method::POST, url, Bytes::from(body.to_string()), 64 * 1024, limit).await.map(drop)
}

async fn ask(
    method: Method,
    url: &str,
    body: Bytes,
    max_bytes: usize,
    limit: Duration,
) -> Result<Bytes, OutboundError> {
    let address = || OutboundError::Address { url: redacted(url) };
    let uri: Uri = url.parse().map_err(|_| address())?;
    let host = uri.host().ok_or_else(address)?.to_owned();
    let failed = |reason: String| OutboundError::Failed { host: host.clone(), reason };
    let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    let request = request.header("user-agent", concat!("tallyd/", env!("CARGO_PKG_VERSION")));
    let request = request.body(Full::new(body)).map_err(|error| failed(error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    let https = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
    let https = https.map_err(OutboundError::Certificates)?.https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build(https);
    let asking = async {
        let response = client.request(request).await.map_err(|error| failed(chain(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), max_bytes).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(OutboundError::Status { host: host.clone(), status: status.as_u16() })
        }
    };
    tokio::time::timeout(limit, asking)
        .await
        .unwrap_or_else(|_| Err(OutboundError::Timeout { host: host.clone(), limit }))
}

/// The address up to its host: what comes after may be a secret.
fn redacted(url: &str) -> String {
    let end = url.find("://").and_then(|at| url[at + 3..].find('/').map(|slash| at + 3 + slash));
    end.map_or_else(|| url.chars().take(40).collect(), |end| format!("{}/…", &url[..end]))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
