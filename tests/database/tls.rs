//! Connections are encrypted, and servers verified, as `sslmode` states.
//!
//! The server here implements the part of the protocol that a log-in needs, over rustls.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use tallyd_store::{Database, DatabaseOptions, FailureClass};

use crate::support::options;

/// Asks for encryption: the length 8, and the code 80877103 in place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// AuthenticationOk, then ReadyForQuery.
const WELCOME: [u8; 15] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0, b'Z', 0, 0, 0, 5, b'I'];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/database/tls").join(name)
}

/// A server with or without TLS. It sends for each completed log-in whether it was encrypted.
fn server(
    can_encrypt: bool,
    certificate: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> (u16, mpsc::Receiver<bool>) {
    let provider = rustls::crypto::ring::default_provider();
    let certificates = CertificateDer::pem_file_iter(file(certificate)).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    // rustls' usual constructor parses the certificate, and refuses one of version 1.
    let key = provider.key_provider.load_private_key(key).unwrap();
    let certified = SingleCertAndKey::from(CertifiedKey::new(certificates, key));
    let config = ServerConfig::builder_with_provider(provider.into()).with_protocol_versions(versions).unwrap();
    let config = Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(certified)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (log_in, log_ins) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // In some tests the client disconnects, because it does not trust the server.
            if let Ok(encrypted) = stream.and_then(|stream| serve(stream, can_encrypt.then_some(&config))) {
                let _ = log_in.send(encrypted);
            }
        }
    });
    (port, log_ins)
}

fn serve(mut stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<bool> {
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    if head != SSL_REQUEST {
        finish(&mut stream, head)?;
        return Ok(false);
    }
    let Some(tls) = tls else {
        stream.write_all(b"N")?;
        stream.read_exact(&mut head)?;
        finish(&mut stream, head)?;
        return Ok(false);
    };
    stream.write_all(b"S")?;
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?, stream);
    stream.read_exact(&mut head)?;
    finish(&mut stream, head)?;
    Ok(true)
}

/// Reads the rest of the start-up message, whose first 8 bytes are `head`, and accepts the log-in.
fn finish(stream: &mut (impl Read + Write), head: [u8; 8]) -> io::Result<()> {
    let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
    stream.read_exact(&mut vec![0; length - 8])?;
    stream.write_all(&WELCOME)?;
    stream.flush()
}

/// Connects once. `Ok` holds whether the connection was encrypted.
async fn connect(host: &str, can_encrypt: bool, parameters: &str, ca: Option<&str>) -> Result<bool, FailureClass> {
    connect_to(server(can_encrypt, "server.pem", rustls::ALL_VERSIONS), host, parameters, ca).await
}

async fn connect_to(
    (port, log_ins): (u16, mpsc::Receiver<bool>),
    host: &str,
    parameters: &str,
    ca: Option<&str>,
) -> Result<bool, FailureClass> {
    let options = DatabaseOptions {
        url: Some(format!("postgres://u@{host}:{port}/d?{parameters}")),
        ca_file: ca.map(file),
        ..options(Path::new("/nonexistent"))
    };
    let db = Database::open(&options).await.unwrap();
    let session = db.connect("x").await.map_err(|error| error.class())?;
    drop(session);
    Ok(log_ins.recv_timeout(Duration::from_secs(10)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_to_prove_itself_where_encryption_is_asked_for() {
    let right = Some("ca.pem");
    assert_eq!(connect("localhost", true, "sslmode=require", right).await, Ok(true));
    assert_eq!(connect("localhost", true, "sslmode=verify-full", right).await, Ok(true));
    let in_url = format!("sslmode=verify-ca&sslrootcert={}", file("ca.pem").display());
    assert_eq!(connect("localhost", true, &in_url, None).await, Ok(true));

    let wrong_authority = connect("localhost", true, "sslmode=require", Some("other_ca.pem")).await;
    assert_eq!(wrong_authority, Err(FailureClass::Hold));
    let wrong_name = connect("127.0.0.1", true, "sslmode=verify-ca", right).await;
    assert_eq!(wrong_name, Err(FailureClass::Hold));
    assert!(connect("localhost", false, "sslmode=require", right).await.is_err(), "it must not go on in the clear");
    assert!(connect("localhost", false, "", right).await.is_err(), "a CA file lifts prefer to require");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_being_asked_it_encrypts_where_the_server_can() {
    assert_eq!(connect("127.0.0.1", true, "", None).await, Ok(true));
    assert_eq!(connect("127.0.0.1", false, "", None).await, Ok(false));
    assert_eq!(connect("127.0.0.1", true, "sslmode=disable", None).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_or_foreign_certificate_will_do_unless_verification_is_asked_for() {
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        for certificate in ["version1.pem", "server.pem"] {
            for parameters in ["", "sslmode=allow", "sslmode=prefer", "sslmode=require"] {
                let server = server(true, certificate, versions);
                assert_eq!(
                    connect_to(server, "127.0.0.1", parameters, None).await,
                    Ok(true),
                    "{certificate} {parameters}"
                );
            }
            for (parameters, ca) in
                [("sslmode=verify-full", None), ("sslmode=verify-ca", None), ("sslmode=require", Some("other_ca.pem"))]
            {
                let refused = connect_to(server(true, certificate, versions), "localhost", parameters, ca).await;
                assert_eq!(refused, Err(FailureClass::Hold), "{certificate} {parameters}");
            }
        }
    }
    assert!(connect("localhost", false, "sslmode=require", None).await.is_err(), "it must not go on in the clear");
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_named() {
    for (name, reason) in [("no_such_file.pem", "cannot be read"), ("README.md", "holds no certificate")] {
        let url = Some("postgres://u@localhost/d".into());
        let options = DatabaseOptions { url, ca_file: Some(file(name)), ..options(Path::new("/nonexistent")) };
        let error = Database::open(&options).await.unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains(name), "{error}");
    }
}
