//! TLS of the network listeners, with a real client: the certificate is proven, renewed under open connections, and asked
//! of clients where the setting says so.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tallyd_base::clock::{Clock, SystemClock};

use crate::client::free_address;
use crate::support::daemon::Daemon;
use crate::support::network::{Authority, replace};
use crate::support::postgres::Postgres;
use crate::support::{PATIENCE, until};

const BEGIN: &str = "20200101000000Z";
const END: &str = "21000101000000Z";
const HOST: &str = "tallyd.test";
const TOKEN: &str = "a-token-of-the-test";

/// The addresses and files of a daemon with TLS.
struct Rig {
    daemon: Daemon,
    http: String,
    tcp: String,
    grpc: String,
    folder: tempfile::TempDir,
    postgres: Postgres,
}

impl Rig {
    fn start(authority: &Authority) -> Self {
        let (postgres, folder) = (Postgres::start(), tempfile::tempdir().unwrap());
        let [http, tcp, grpc, metrics] = [(); 4].map(|()| free_address());
        let daemon = Daemon::on(&postgres.url())
            .with("TALLYD_HTTP_LISTEN", &http)
            .with("TALLYD_HTTP_METRICS_LISTEN", &metrics)
            .with("TALLYD_LISTEN_TCP", &tcp)
            .with("TALLYD_LISTEN_TCP_TOKENS", TOKEN)
            .with("TALLYD_OTLP_GRPC_LISTEN", &grpc)
            .with("TALLYD_TLS_CERTIFICATE", folder.path().join("tls.crt").to_str().unwrap())
            .with("TALLYD_TLS_KEY", folder.path().join("tls.key").to_str().unwrap())
            .with("TALLYD_TLS_LISTENERS", "http,tcp,grpc");
        let mut rig = Self { daemon, http, tcp, grpc, folder, postgres };
        rig.present(authority.sign(HOST, BEGIN, END));
        rig.daemon.up();
        assert!(crate::client::send(&metrics, "GET", "/healthz", &[], b"").status < 600, "this listener is plain");
        rig
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces key and certificate, one after the other.
    fn present(&self, (key, certificate): (String, String)) {
        replace(&self.file("tls.key"), key);
        replace(&self.file("tls.crt"), certificate);
    }

    /// A client that trusts this authority only.
    fn curl(&self, authority: &Authority, address: &str, more: &[&str]) -> Output {
        let port = address.rsplit_once(':').unwrap().1;
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-i", "--max-time", "20", "--resolve", &format!("{HOST}:{port}:127.0.0.1"), "--cacert"]);
        curl.arg(authority.certificate()).args(more).output().expect("curl is installed")
    }

    fn url(&self, address: &str, path: &str) -> String {
        format!("https://{HOST}:{}{path}", address.rsplit_once(':').unwrap().1)
    }

    /// A connection past its handshake; with `proof`, a key and a certificate in PEM form, it shows these.
    fn connect(
        &self,
        authority: &Authority,
        address: &str,
        proof: Option<&(String, String)>,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.certificate()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match proof {
            None => builder.with_no_client_auth(),
            Some((key, certificate)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        let client = ClientConnection::new(Arc::new(config), HOST.try_into().unwrap()).unwrap();
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

/// One request on a connection that stays open. Returns the answer's first line.
fn ask(stream: &mut (impl Read + Write)) -> String {
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    stream.read_exact(&mut vec![0; length]).unwrap();
    head.lines().next().unwrap().to_owned()
}

/// Sends a record over the line protocol. Returns the answer.
fn record(mut stream: impl Read + Write) -> std::io::Result<Value> {
    write!(stream, "{{\"token\":\"{TOKEN}\"}}\n{{\"provider\":\"rentcast\"}}\n")?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    serde_json::from_slice(&line).map_err(std::io::Error::other)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What `tallyd doctor` says of the certificate.
fn examined(daemon: &Daemon) -> (String, String) {
    let said: Value = serde_json::from_slice(&daemon.run(&["doctor", "--json"]).stdout).unwrap();
    let check = said["checks"].as_array().unwrap().iter().find(|check| check["name"] == "certificate").unwrap().clone();
    (check["state"].as_str().unwrap().to_owned(), check["found"].as_str().unwrap().to_owned())
}

/// An instant this many days from now, as openssl reads it.
fn in_days(days: i64) -> String {
    let now = chrono::DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap();
    (now + chrono::TimeDelta::days(days)).format("%Y%m%d%H%M%SZ").to_string()
}

#[test]
fn listeners_prove_themselves_and_a_new_certificate_cuts_no_connection() {
    let (authority, other) = (Authority::new(), Authority::new());
    let rig = Rig::start(&authority);
    // HTTP, gRPC and the protocol for records, each with a client of its kind.
    let health = rig.url(&rig.http, "/healthz");
    let answer = text(&rig.curl(&authority, &rig.http, &[&health]));
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    let export = rig.url(&rig.grpc, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let grpc = ["--http2", "-X", "POST", "-H", "content-type: application/grpc", &export];
    let answer = text(&rig.curl(&authority, &rig.grpc, &grpc)).to_lowercase();
    assert!(answer.starts_with("http/2 200") && answer.contains("grpc-status: 16"), "no token: {answer}");
    assert_eq!(record(rig.connect(&authority, &rig.tcp, None).unwrap()).unwrap()["ok"], true);
    rig.postgres.until_calls(1);
    // A client that trusts another authority, and one that speaks no TLS.
    let refused = rig.curl(&other, &rig.http, &[&health]);
    assert_eq!(refused.status.code(), Some(60), "{}", text(&refused));
    let plain = rig.curl(&authority, &rig.http, &[&health.replace("https:", "http:")]);
    assert!(!plain.status.success(), "{}", text(&plain));
    let mut stranger = TcpStream::connect(&rig.tcp).unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(record(&mut stranger).is_err());

    let mut open = rig.connect(&authority, &rig.http, None).unwrap();
    let first = open.conn.peer_certificates().unwrap()[0].clone().into_owned();
    ask(&mut open);
    let shows =
        || rig.connect(&authority, &rig.http, None).unwrap().conn.peer_certificates().unwrap()[0].clone().into_owned();
    // A key alone is half of a change: the pair of before stays in use.
    let (key, certificate) = authority.sign(HOST, BEGIN, &in_days(5));
    replace(&rig.file("tls.key"), &key);
    until("the key without its certificate is noticed", || {
        if rig.daemon.log().contains("cannot be used") { Ok(()) } else { Err("it is not".into()) }
    });
    assert_eq!(shows(), first);
    replace(&rig.file("tls.crt"), &certificate);
    until("the new certificate is shown", || if shows() == first { Err("the old one".into()) } else { Ok(()) });
    assert!(ask(&mut open).starts_with("http/1.1 "), "the open connection goes on");

    // The command reads the files as a starting daemon would.
    assert_eq!(examined(&rig.daemon).0, "warning");
    rig.present(authority.sign(HOST, BEGIN, &in_days(-1)));
    let (state, found) = examined(&rig.daemon);
    assert!(state == "failed" && found.contains("has ended"), "{state}: {found}");
    rig.present((key, authority.sign(HOST, BEGIN, END).1));
    let (state, found) = examined(&rig.daemon);
    assert!(state == "failed" && found.contains("tls.certificate and tls.key"), "{state}: {found}");
    rig.present(authority.sign(HOST, BEGIN, END));
    assert_eq!(examined(&rig.daemon).0, "ok");
}

#[test]
fn clients_need_a_certificate_where_the_setting_says_so() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let mut rig = Rig::start(&authority);
    rig.daemon.kill();
    rig.daemon.set("TALLYD_TLS_CLIENT_CA", clients.certificate().to_str().unwrap());
    rig.daemon.set("TALLYD_TLS_CLIENT_LISTENERS", "tcp");
    rig.daemon.up();
    let health = rig.url(&rig.http, "/healthz");
    let answer = text(&rig.curl(&authority, &rig.http, &[&health]));
    assert!(answer.starts_with("HTTP/1.1 "), "HTTP asks for none: {answer}");
    let send = |proof: Option<&(String, String)>| rig.connect(&authority, &rig.tcp, proof).and_then(record);
    assert!(send(None).is_err(), "a client without a certificate");
    assert!(send(Some(&authority.sign("client", BEGIN, END))).is_err(), "one of another authority");
    assert!(send(Some(&clients.sign("client", BEGIN, "20200201000000Z"))).is_err(), "one that has ended");
    assert_eq!(send(Some(&clients.sign("client", BEGIN, END))).unwrap()["ok"], true);
    let missing = Path::new("/nonexistent.pem");
    rig.daemon.kill();
    rig.daemon.set("TALLYD_TLS_CLIENT_CA", missing.to_str().unwrap());
    let failed = rig.daemon.run(&["serve"]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("tls.client_ca") && fs::metadata(missing).is_err(), "{said}");
}
