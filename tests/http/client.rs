//! A small HTTP client, and a daemon with tokens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{PATIENCE, until};

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The JSON of an answer that must be a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of an error.
    #[track_caller]
    pub fn code(&self) -> String {
        let body = self.json();
        for part in ["code", "message", "hint"] {
            assert!(body["error"][part].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        }
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// A database, a daemon, and its address.
pub struct Api {
    pub daemon: Daemon,
    pub postgres: Postgres,
    pub address: String,
}

impl Api {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::on(Postgres::start(), settings)
    }

    /// On a server that runs already.
    pub fn on(postgres: Postgres, settings: &[(&str, &str)]) -> Self {
        let mut daemon = Daemon::on(&postgres.url());
        let address = free_address();
        daemon.set("TALLYD_HTTP_LISTEN", &address);
        for (name, value) in settings {
            daemon.set(name, value);
        }
        let api = Self { daemon: daemon.start(), postgres, address };
        until("the schema is in place", || match api.get("/api/v1/sessions", "Bearer tallyd_1_none") {
            answer if answer.status == 401 => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
        api
    }

    /// Creates a token, waits until the daemon knows it, and returns the `Authorization` header.
    pub fn token(&self, role: &str) -> String {
        let output = self.daemon.run(&["token", "create", "--name", "test", "--role", role, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        let header = format!("Bearer {}", made["token"].as_str().unwrap());
        // A daemon that has just started verifies no token until its database answers.
        until("the daemon knows the token", || match self.get("/api/v1/sessions", &header) {
            answer if matches!(answer.status, 401 | 503) => Err(format!("{answer:?}")),
            _ => Ok(()),
        });
        header
    }

    pub fn get(&self, path: &str, authorization: &str) -> Answer {
        self.send("GET", path, &[("authorization", authorization)], b"")
    }

    pub fn post(&self, path: &str, authorization: &str, body: &str) -> Answer {
        let headers = [("authorization", authorization), ("content-type", "application/json")];
        self.send("POST", path, &headers, body.as_bytes())
    }

    /// Sends a request. Headers with an empty value are left out.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(&self.address, method, path, headers, body)
    }

    /// A metric's value, by its name and labels as they are rendered; 0 if there is no such series.
    pub fn metric(&self, line: &str) -> f64 {
        let text = self.send("GET", "/metrics", &[], b"").text();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }
}

/// An address below the ports that the system gives to outgoing connections, so that none of these takes it first.
pub fn free_address() -> String {
    loop {
        let address = format!("127.0.0.1:{}", rand::random_range(20_000..32_000));
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// One request on a connection of its own.
pub fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, method, path, headers, body)
}

/// One request on this connection, which is closed afterwards.
pub fn exchange<S: Read + Write>(
    mut stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    // A daemon that refuses a body may close before it has read all of it.
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut body = Vec::new();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    if chunked {
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let bytes = u64::from_str_radix(line.trim_end(), 16).expect("the body broke off");
            (&mut reader).take(bytes).read_to_end(&mut body).unwrap();
            line.clear();
            reader.read_line(&mut line).unwrap();
            if bytes == 0 {
                break;
            }
        }
    } else {
        // A server may close abruptly once it has answered.
        let _ = reader.read_to_end(&mut body);
    }
    Answer { status, headers, body }
}
