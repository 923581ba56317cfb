//! Open connections are bounded: those beyond wait, and are served once there is room.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::client::{Api, free_address, send};
use crate::support::PATIENCE;

const PLACES: usize = 8;

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: tallyd\r\n\r\n").unwrap();
}

fn answered(stream: &mut TcpStream, within: Duration) -> Result<(), ErrorKind> {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes).map_err(|error| error.kind())?;
    assert_eq!(&bytes, b"HTTP/1.1 200");
    Ok(())
}

#[test]
fn a_connection_too_many_waits_for_room() {
    let api = Api::with(&[("TALLYD_HTTP_MAX_CONNECTIONS", &PLACES.to_string())]);
    let mut open: Vec<_> = (0..PLACES).map(|_| TcpStream::connect(&api.address).unwrap()).collect();
    for stream in &mut open {
        ask(stream);
        answered(stream, PATIENCE).unwrap();
    }
    let mut next = TcpStream::connect(&api.address).unwrap();
    ask(&mut next);
    let early = answered(&mut next, Duration::from_millis(300));
    assert_eq!(early, Err(ErrorKind::WouldBlock), "no more than {PLACES} are served at a time");
    drop(open.pop());
    answered(&mut next, PATIENCE).unwrap();
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
