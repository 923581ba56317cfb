//! One small GET: how the issuer's keys are fetched. No redirects, no proxies, a bound on time and on bytes.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes of an answer.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fetches `url`. The error is for the log.
///
/// # Errors
/// What went wrong, as text.
pub(super) async fn get(url: &str) -> Result<Bytes, String> {
    let fetching = async {
        let uri: Uri = url.parse().map_err(|error| format!("no URL: {error}"))?;
        let host = uri.host().ok_or("the URL names no host")?.to_owned();
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let address = host.trim_matches(['[', ']']).to_owned();
        let stream = TcpStream::connect((address.as_str(), port)).await.map_err(|error| error.to_string())?;
        if tls {
            let name = ServerName::try_from(address).map_err(|error| error.to_string())?;
            let stream = connector()?.connect(name, stream).await.map_err(|error| error.to_string())?;
            ask(stream, &uri).await
        } else {
            ask(stream, &uri).await
        }
    };
    tokio::time::timeout(PATIENCE, fetching).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the system has no certificate authorities; install ca-certificates".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, uri: &Uri) -> Result<Bytes, String> {
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let driving = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = hyper::Request::get(path).header("host", host).header("accept", "application/json");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(text)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await.map_err(|error| error.to_string());
    driving.abort();
    if !status.is_success() {
        return Err(format!("the issuer answered {status}"));
    }
    Ok(body?.to_bytes())
}
