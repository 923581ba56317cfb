//! Open connections are bounded. Beyond the bound health is served, and other requests are refused as busy.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::client::{Api, free_address, send};
use crate::support::{PATIENCE, until};

const PLACES: usize = 8;

fn ask(stream: &mut TcpStream, path: &str, token: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: tallyd\r\nauthorization: {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

fn status(stream: &mut TcpStream) -> u16 {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[9..]).parse().unwrap()
}

#[test]
fn a_connection_too_many_is_served_health_and_told_to_come_again() {
    let api = Api::with(&[("TALLYD_HTTP_MAX_CONNECTIONS", &PLACES.to_string())]);
    let token = api.token("read");
    // One place is kept for health. A connection with a valid token is not displaced at once.
    let mut open = Vec::new();
    for _ in 1..PLACES {
        let mut stream = TcpStream::connect(&api.address).unwrap();
        ask(&mut stream, "/api/v1/pipeline", &token);
        assert_eq!(status(&mut stream), 200);
        open.push(stream);
    }
    let busy = api.get("/api/v1/pipeline", &token);
    assert_eq!((busy.status, busy.code().as_str()), (503, "busy"));
    assert!(busy.header("retry-after").is_some());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(api.get(path, "").status, 200, "{path}");
    }
    drop(open.pop());
    until("there is room", || match api.get("/api/v1/pipeline", &token).status {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
}

#[test]
fn metrics_have_an_address_of_their_own_where_one_is_set() {
    let address = free_address();
    let api = Api::with(&[("TALLYD_HTTP_METRICS_LISTEN", &address)]);
    let there = |path: &str| send(&address, "GET", path, &[], b"");
    assert!(there("/metrics").text().contains("tallyd_records_acked_total"));
    assert_eq!(there("/healthz").status, 200);
    assert_eq!(there("/api/v1/costs").status, 404, "nothing else is served there");
    assert_eq!(api.get("/metrics", "").status, 404);
    assert_eq!(api.get("/healthz", "").status, 200);
}
