//! Long answers that clients do not read.

use std::io::Read;
use std::net::TcpStream;

use serde_json::json;
use tallyd_client::Record;

use crate::client::Api;
use crate::listeners::{assert_small, connect_from, push, until_honest, with_many_files};
use crate::support::PATIENCE;

#[test]
fn long_answers_that_nobody_takes_are_few_and_hold_up_no_other_sender() {
    with_many_files();
    let api = Api::start();
    let (read, other) = (api.token("read"), api.token("read"));
    let mut honest = api.daemon.session("honest");
    let filled =
        Record { metadata: Some(json!({ "a": "x".repeat(4_000) }).to_string().into()), ..Record::rentcast("/honest") };
    for frame in 0..5 {
        honest.send(frame * 200 + 1, &vec![filled.clone(); 200]).unwrap();
        assert_eq!(honest.recv_ack().unwrap().seq, frame * 200 + 200);
    }
    until_honest(&api.postgres, 1_000);
    // Each request differs, and its answer has 4 MiB.
    let asked = |number: u8| {
        let limit = 9_000 + u32::from(number);
        format!("GET /api/v1/records?limit={limit} HTTP/1.1\r\nhost: x\r\nauthorization: {read}\r\n\r\n").into_bytes()
    };
    let deaf: Vec<_> = (0..100).map(|number| deaf(&api, number, &asked(number))).collect();
    let answer = api.get("/api/v1/records?limit=1000", &other);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answered(deaf) <= 8);
    assert_small(&api.daemon);
}

#[test]
fn long_answers_to_short_requests_are_few_where_nobody_takes_them() {
    with_many_files();
    let api = Api::start();
    let (token, other) = (api.token("ingest"), api.token("ingest"));
    // Each line is refused, and the answer gives a reason for each: 2 MiB.
    let lines = "{}\n".repeat(16_384);
    let head = format!(
        "POST /api/v1/records HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {}\r\n\r\n",
        lines.len()
    );
    let posted = [head.as_bytes(), lines.as_bytes()].concat();
    let deaf: Vec<_> = (0..100).map(|number| deaf(&api, number, &posted)).collect();
    let recorded = api.post("/api/v1/records", &other, r#"{"provider":"rentcast","endpoint":"/http"}"#);
    assert_eq!(recorded.status, 200, "{}", recorded.text());
    assert!(answered(deaf) <= 8);
    assert_small(&api.daemon);
}

/// A connection that sends a request and does not read the answer.
fn deaf(api: &Api, number: u8, asked: &[u8]) -> TcpStream {
    let mut stream = connect_from(number % 4 + 1, &api.address);
    push(&mut stream, asked, 1);
    stream.set_nonblocking(false).unwrap();
    stream
}

/// The number of connections whose answer has begun. The others got no place in time, and were told so.
fn answered(deaf: Vec<TcpStream>) -> usize {
    let begins = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = [0; 12];
        // A connection that was closed after waiting too long for its client had a place.
        if stream.read_exact(&mut head).is_err() {
            return (stream, true);
        }
        assert!(
            [b"HTTP/1.1 200", b"HTTP/1.1 422", b"HTTP/1.1 503"].contains(&&head),
            "{}",
            String::from_utf8_lossy(&head)
        );
        (stream, &head != b"HTTP/1.1 503")
    };
    // All stay open until the last has begun: one that is closed gives its place to another.
    let begun: Vec<_> = deaf.into_iter().map(begins).collect();
    begun.iter().filter(|(_, answered)| *answered).count()
}
