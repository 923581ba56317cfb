//! TLS of the network listeners, by rustls.
//!
//! A listener with TLS speaks nothing else. Its certificate, key and clients' authorities are files. A handshake takes
//! the newest readable ones: files are looked at every [`LOOK`], by the background task, and read when one of them has
//! changed. Open connections keep the session that they have. Files that cannot be read, such as a certificate whose key
//! is not written yet, are logged once, and the ones before stay in use.
//!
//! A handshake has a deadline, and takes place in the connection's own task: a peer that does not finish it holds up
//! nobody.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::counter;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use tallyd_base::registry;
use tallyd_config::{Tls, TlsListener};

/// How often the files are looked at.
pub const LOOK: Duration = Duration::from_secs(1);
/// The longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has other content than expected.
    #[error("{setting}: {} {reason}. hint: {hint}", path.display())]
    File {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The fault of the file.
        reason: String,
        /// A remedy.
        hint: &'static str,
    },
    /// The certificate and the key do not belong together, or the library cannot use them.
    #[error(
        "tls.certificate and tls.key cannot be used: {0}. hint: the first certificate of the file must be the daemon's own, \
         made for this key"
    )]
    Pair(rustls::Error),
}

/// The files of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// A file's identity and its last change.
type Seen = Vec<Option<(u64, u64, i64, i64)>>;

impl Files {
    fn seen(&self) -> Seen {
        let told = |meta: Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        let paths = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        paths.into_iter().flatten().map(|path| path.metadata().ok().map(told)).collect()
    }

    fn read(&self, protocol: Option<&[u8]>) -> Result<ServerConfig, TlsError> {
        let chain = certificates("tls.certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::File {
            setting: "tls.key",
            path: self.key.clone(),
            reason: format!("has no private key: {error}"),
            hint: "it is a PEM file (`BEGIN PRIVATE KEY`) without a passphrase, which the daemon's user may read",
        })?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let refused = |reason: String| TlsError::File {
                    setting: "tls.client_ca",
                    path: path.clone(),
                    reason,
                    hint: "it has the certificates of the authorities that sign clients' certificates",
                };
                let mut roots = RootCertStore::empty();
                for certificate in certificates("tls.client_ca", path)? {
                    roots.add(certificate).map_err(|error| refused(format!("has an unusable certificate: {error}")))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| refused(error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = protocol.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// The certificates of a PEM file, the daemon's own first.
///
/// # Errors
/// [`TlsError::File`], also if there is none.
pub fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File {
        setting,
        path: path.to_owned(),
        reason,
        hint: "it is a PEM file (`BEGIN CERTIFICATE`) that the daemon's user may read",
    };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if found.is_empty() { Err(wrong("has no certificate".to_owned())) } else { Ok(found) }
}

/// When the daemon's own certificate ends, seconds since 1970.
///
/// # Errors
/// [`TlsError::File`].
pub fn ends_at_s(certificate: &Path) -> Result<u64, TlsError> {
    let setting = "tls.certificate";
    let chain = certificates(setting, certificate)?;
    // There is at least one.
    let read = chain.first().map(|own| Certificate::from_der(own)).transpose().map_err(|error| TlsError::File {
        setting,
        path: certificate.to_owned(),
        reason: format!("is not a certificate: {error}"),
        hint: "write it anew",
    })?;
    Ok(read.map_or(0, |own| own.tbs_certificate.validity.not_after.to_unix_duration().as_secs()))
}

/// A listener's side of TLS.
pub struct ListenerTls {
    files: Files,
    /// The application protocol that clients may negotiate.
    protocol: Option<&'static [u8]>,
    config: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

impl ListenerTls {
    /// The listener's TLS, if it speaks it.
    ///
    /// # Errors
    /// [`TlsError`], if its files cannot be used.
    pub fn of(tls: &Tls, listener: TlsListener) -> Result<Option<Arc<Self>>, TlsError> {
        let Some((certificate, key)) = tls.of(listener) else { return Ok(None) };
        let client_ca = tls.client_ca_of(listener).map(Path::to_owned);
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned(), client_ca };
        let protocol: Option<&'static [u8]> = match listener {
            TlsListener::Http | TlsListener::Metrics => Some(b"http/1.1".as_slice()),
            TlsListener::Grpc => Some(b"h2".as_slice()),
            TlsListener::Tcp => None,
        };
        // Before the files are read: a change in between is then seen.
        let seen = files.seen();
        let config = files.read(protocol)?;
        Ok(Some(Arc::new(Self { files, protocol, config: ArcSwap::from_pointee(config), seen: Mutex::new(seen) })))
    }

    /// Reads the files if one of them has changed. Blocks on the disk.
    pub fn renew(&self) {
        let now = self.files.seen();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        match self.files.read(self.protocol) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read again");
            }
            Err(error) => {
                tracing::error!(%error, "the certificate's files have changed and cannot be used; the ones before stay in use");
            }
        }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// If the peer does not speak TLS, shows no accepted certificate, or takes too long.
    async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await?
    }
}

/// A connection of a listener that may speak TLS.
pub type MaybeTls = tokio_util::either::Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The connection past its handshake. None if the peer does not finish it; that is counted.
pub async fn shake(tls: Option<&ListenerTls>, stream: TcpStream) -> Option<MaybeTls> {
    let Some(tls) = tls else { return Some(MaybeTls::Left(stream)) };
    match tls.accept(stream).await {
        Ok(stream) => Some(MaybeTls::Right(Box::new(stream))),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            counter!(registry::PROTOCOL_ERRORS, "code" => "tls").increment(1);
            None
        }
    }
}
