//! A client of the HTTP API, on a connection that stays open.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Cluster, Daemon};

pub struct Asker {
    sender: SendRequest<Empty<Bytes>>,
    authorization: String,
}

impl Asker {
    /// A free port, and the daemon's setting for it.
    pub fn free_address() -> (u16, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        (port, format!("127.0.0.1:{port}"))
    }

    /// A token for the API.
    pub fn token(daemon: &Daemon, cluster: &Cluster) -> String {
        let output = Command::new(Daemon::program())
            .args(["token", "create", "--name", "bench", "--role", "read"])
            .env("TALLYD_DATABASE_URL", cluster.url())
            .env("TALLYD_DATA_DIR", daemon.folder.path())
            .output()
            .expect("tallyd token");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8_lossy(&output.stdout);
        printed.lines().next().expect("a token").trim().to_owned()
    }

    pub async fn connect(port: u16, daemon: &Daemon, cluster: &Cluster) -> Self {
        Self::with_token(port, &Self::token(daemon, cluster)).await
    }

    /// Waits until the daemon knows the token, because it looks for new tokens every second.
    pub async fn with_token(port: u16, token: &str) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut asker = Self::open(port, token).await;
        while asker.get("/api/v1/pipeline").await.0 != StatusCode::OK {
            assert!(Instant::now() < deadline, "the daemon does not take its token");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        asker
    }

    async fn open(port: u16, token: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        Self { sender, authorization: format!("Bearer {token}") }
    }

    /// Sends a GET, and reads the whole answer; returns its bytes. Fails for any other status than 200.
    pub async fn ask(&mut self, path: &str) -> usize {
        let (status, body) = self.get(path).await;
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
        body.len()
    }

    async fn get(&mut self, path: &str) -> (StatusCode, Bytes) {
        let request = hyper::Request::get(path)
            .header("host", "127.0.0.1")
            .header("authorization", &self.authorization)
            .body(Empty::new())
            .expect("a request");
        self.sender.ready().await.expect("an open connection");
        let answer = self.sender.send_request(request).await.expect("an answer");
        let status = answer.status();
        (status, answer.into_body().collect().await.expect("a body").to_bytes())
    }
}
