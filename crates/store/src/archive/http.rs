//! HTTP for the bucket's requests, with the daemon's TLS: `ring`, and the operating system's authorities.

use std::error::Error;
use std::io::ErrorKind;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector as Connects, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpService,
};

/// The longest time until a connection is made.
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer: a window of a file, with room to spare.
const ANSWER_MAX: usize = 64 << 20;

/// Makes [`Http`].
#[derive(Debug)]
pub(super) struct Connector {
    /// The longest time of a request with its answer.
    pub(super) timeout: Duration,
}

#[derive(Debug)]
struct Http {
    client: Client<HttpsConnector<HttpConnector>, HttpRequestBody>,
    timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("no answer from {host} within {} ms", timeout.as_millis())]
struct TooSlow {
    host: String,
    timeout: Duration,
}

impl Connects for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let provider = rustls::crypto::ring::default_provider();
        let https = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        let https = https.map_err(|source| object_store::Error::Generic { store: "S3", source: source.into() })?;
        let https = https.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(https);
        Ok(HttpClient::new(Http { client, timeout: self.timeout }))
    }
}

impl HttpService for Http {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let asking = async {
                let answer = self.client.request(request).await.map_err(|error| {
                    let kind = if error.is_connect() { HttpErrorKind::Connect } else { kind(&error) };
                    HttpError::new(kind, error)
                })?;
                let (head, body) = answer.into_parts();
                let body = Limited::new(body, ANSWER_MAX).collect().await;
                let body = body.map_err(|error| HttpError::new_boxed(kind(&*error), error))?.to_bytes();
                Ok(HttpResponse::from_parts(head, body.into()))
            };
            let timeout = self.timeout;
            let slow = |_| Err(HttpError::new(HttpErrorKind::Timeout, TooSlow { host, timeout }));
            tokio::time::timeout(timeout, asking).await.unwrap_or_else(slow)
        })
    }
}

/// The broken part: a connection that ended, which a new one mends, or something else.
fn kind(error: &(dyn Error + 'static)) -> HttpErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                ErrorKind::TimedOut => HttpErrorKind::Timeout,
                _ => HttpErrorKind::Interrupted,
            };
        }
        if let Some(hyper) = error.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled())
        {
            return HttpErrorKind::Interrupted;
        }
        cause = error.source();
    }
    HttpErrorKind::Unknown
}
