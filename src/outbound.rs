//! tallyd's own requests to other servers over HTTP: a price list, a webhook, an issuer's keys, a sign-in, a vendor's
//! reports. Each is bounded in time and in bytes.
//!
//! Each request has a connection of its own, since none of them is frequent. Certificates are verified against the
//! operating system's authorities.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// The largest price list, bytes: several times the size of today's lists.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The longest time for its download.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

const USER_AGENT: &str = concat!("tallyd/", env!("CARGO_PKG_VERSION"));

#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    /// The address is not a URL.
    #[error("{url:?} is not an address; write http://… or https://…")]
    Address {
        /// The address as it was given.
        url: String,
    },
    /// The operating system's certificates cannot be read.
    #[error("the system's certificate authorities cannot be read: {0}")]
    Certificates(std::io::Error),
    /// The server was not reached, or did not answer.
    #[error("no answer from {host}: {reason}")]
    Failed {
        /// Only the host is shown: the rest of a URL may have a secret.
        host: String,
        reason: String,
    },
    /// The server took too long.
    #[error("no answer from {host} within {} s", limit.as_secs())]
    Timeout {
        host: String,
        /// The limit of the whole request.
        limit: Duration,
    },
    /// The server answered with another status than success.
    #[error("{host} answered {status}")]
    Status {
        host: String,
        /// Not 2xx.
        status: u16,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The server did not send the list.
    #[error("the price list was not fetched: {0}")]
    Outbound(#[from] OutboundError),
    /// The file cannot be read.
    #[error("the price list {list} cannot be read: {error}")]
    File {
        list: String,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// The file is larger than any price list.
    #[error("the price list {list} has {bytes} bytes; at most {LIST_BYTES_MAX} are read")]
    TooLarge {
        list: String,
        /// The file's size.
        bytes: u64,
    },
    /// The list is not UTF-8.
    #[error("the price list is not UTF-8")]
    Encoding,
}

#[derive(Default)]
pub(crate) struct OutboundRequest<'a> {
    /// Headers beside those of every request.
    pub headers: &'a [(&'static str, &'a str)],
    /// JSON to post; none for a GET.
    pub json: Option<&'a serde_json::Value>,
    /// The longest answer, bytes.
    pub max_bytes: usize,
    /// The longest time for the whole request.
    pub limit: Duration,
}

/// An answer of any status.
pub(crate) struct OutboundAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Fetches a text of at most `max_bytes`.
///
/// # Errors
/// [`OutboundError`], also if the status is not 2xx.
pub(crate) async fn get(url: &str, max_bytes: usize, limit: Duration) -> Result<Bytes, OutboundError> {
    let answer = ask(url, &OutboundRequest { max_bytes, limit, ..OutboundRequest::default() }).await?;
    succeeded(url, answer.status).map(|()| answer.body)
}

/// Reads a price list from an http(s) address or a file.
///
/// # Errors
/// [`ListError`].
pub(crate) async fn price_list(list: &str) -> Result<String, ListError> {
    let bytes = if list.starts_with("http://") || list.starts_with("https://") {
        get(list, LIST_BYTES_MAX, LIST_PATIENCE).await?.into()
    } else {
        let unreadable = |error| ListError::File { list: list.to_owned(), error };
        let bytes = tokio::fs::metadata(list).await.map_err(unreadable)?.len();
        if bytes > LIST_BYTES_MAX as u64 {
            return Err(ListError::TooLarge { list: list.to_owned(), bytes });
        }
        tokio::fs::read(list).await.map_err(unreadable)?
    };
    String::from_utf8(bytes).map_err(|_| ListError::Encoding)
}

/// Posts JSON, with further headers. The answer's body is dropped; it may have up to 64 KiB.
///
/// # Errors
/// [`OutboundError`], also if the status is not 2xx.
pub(crate) async fn post_json(
    url: &str,
    headers: &[(&'static str, &str)],
    body: &serde_json::Value,
    limit: Duration,
) -> Result<(), OutboundError> {
    let question = OutboundRequest { headers, json: Some(body), max_bytes: 64 * 1024, limit };
    succeeded(url, ask(url, &question).await?.status)
}

/// Sends one request, without redirects and without a proxy. Returns the answer for any status.
///
/// # Errors
/// [`OutboundError`], but never [`OutboundError::Status`].
pub(crate) async fn ask(url: &str, question: &OutboundRequest<'_>) -> Result<OutboundAnswer, OutboundError> {
    let uri: Uri = url.parse().map_err(|_| OutboundError::Address { url: redacted(url) })?;
    let host = uri.host().ok_or_else(|| OutboundError::Address { url: redacted(url) })?.to_owned();
    let failed = |reason: String| OutboundError::Failed { host: host.clone(), reason };
    let method = if question.json.is_some() { Method::POST } else { Method::GET };
    let body = question.json.map(|json| Bytes::from(json.to_string())).unwrap_or_default();
    let mut request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    request = request.header("accept", "application/json").header("user-agent", USER_AGENT);
    for (name, value) in question.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).map_err(|error| failed(error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    let https = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
    let https = https.map_err(OutboundError::Certificates)?.https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build(https);
    let asking = async {
        let response = client.request(request).await.map_err(|error| failed(chain(&error)))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, question.max_bytes).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok(OutboundAnswer { status: head.status, headers: head.headers, body })
    };
    let limit = question.limit;
    tokio::time::timeout(limit, asking)
        .await
        .unwrap_or_else(|_| Err(OutboundError::Timeout { host: host.clone(), limit }))
}

fn succeeded(url: &str, status: StatusCode) -> Result<(), OutboundError> {
    if status.is_success() {
        return Ok(());
    }
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().to_owned();
    Err(OutboundError::Status { host, status: status.as_u16() })
}

/// The address up to its host; the rest may have a secret.
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
