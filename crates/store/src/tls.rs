//! TLS for connections to PostgreSQL, by rustls.
//!
//! | `sslmode` | encrypted | server verified |
//! |---|---|---|
//! | `disable` | no | |
//! | `allow`, `prefer` (the default) | if the server can | no: an attacker who can forge a certificate could as well refuse encryption |
//! | `require` | yes | no: it protects against eavesdropping only |
//! | `verify-ca`, `verify-full` | yes | certificate and host name |
//! | any but `disable`, with a CA file | yes | certificate and host name |
//!
//! `require` has libpq's meaning: managed servers have certificates of authorities that systems do not know, and old
//! ones have certificates that no library verifies (X.509 version 1). `verify-ca` is stricter than libpq's, which does
//! not check the host name. A CA file (`database.ca_file`, or `sslrootcert` in the URL) replaces the system's
//! certificates. Unix sockets are never encrypted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file is missing, or is not PEM.
    #[error("the CA file {} cannot be read: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reader's error.
        reason: String,
    },
    /// The CA file does not have a certificate.
    #[error("the CA file {} holds no certificate; it must have one in PEM form", path.display())]
    EmptyCaFile {
        /// The file.
        path: PathBuf,
    },
    /// The system has no certificates.
    #[error(
        "this system has no trusted certificates ({reason}). \
         hint: install them (`apt-get install ca-certificates`), or give the server's CA as database.ca_file"
    )]
    NoRoots {
        /// The first error of reading them, if any.
        reason: String,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// Whether the server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    /// Any certificate is accepted. Also used without encryption.
    Nothing,
    /// A certificate from a trusted authority, for the host's name.
    Full,
}

/// Makes the driver's TLS connector.
pub(super) fn connector(verify: Verify, ca_file: Option<&Path>, direct: bool) -> Result<MakeRustlsConnect, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let mut config = match verify {
        Verify::Full => builder.with_root_certificates(roots(ca_file)?).with_no_client_auth(),
        Verify::Nothing => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
    };
    if direct {
        // For direct TLS, PostgreSQL 17 and later requires this protocol name.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let unreadable = |reason: String| TlsError::CaFile { path: path.to_owned(), reason };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))? {
            roots
                .add(certificate.map_err(|error| unreadable(error.to_string()))?)
                .map_err(|error| unreadable(error.to_string()))?;
        }
        return if roots.is_empty() { Err(TlsError::EmptyCaFile { path: path.to_owned() }) } else { Ok(roots) };
    }
    let found = rustls_native_certs::load_native_certs();
    // The other certificates stay trusted if this library cannot read a few.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map_or_else(|| "none were found".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots { reason });
    }
    Ok(roots)
}

/// Accepts every certificate, for `prefer` and `require`. It does not check the handshake's signatures either: they
/// prove only that the server has the key of its certificate, which anybody can make, and the library cannot read
/// certificates of version 1.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
