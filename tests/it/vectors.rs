//! The shared wire vectors, replayed against the running daemon: it gives exactly the codes that they state.
//! (`crates/intake/src/vectors_test.rs` checks the decoder against them, fields and values included.)

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;
use tallyd_protocol::{Ack, ClientMessage, ErrorFrame, ServerMessage, frame, message};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

fn vectors(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/vectors").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(vector: &Value) -> Vec<u8> {
    hex::decode(vector["hex"].as_str().unwrap()).unwrap()
}

fn hello(stream: &mut UnixStream, producer: &str) {
    let mut out = Vec::new();
    ClientMessage::Hello(crate::support::hello(producer)).write_frame(&mut out);
    stream.write_all(&out).unwrap();
    assert!(matches!(answer(stream), ServerMessage::Welcome(_)));
}

fn answer(stream: &mut UnixStream) -> ServerMessage {
    let mut prefix = [0; frame::PREFIX_BYTES];
    stream.read_exact(&mut prefix).unwrap();
    let mut body = vec![0; frame::body_bytes(prefix, 8 << 20).unwrap()];
    stream.read_exact(&mut body).unwrap();
    ServerMessage::read(&body).unwrap()
}

/// Sends one encoded record in a frame of its own, between two good ones.
fn send_between_good_ones(daemon: &Daemon, producer: &str, record: &[u8]) -> Ack {
    let mut stream = daemon.connect();
    hello(&mut stream, producer);
    let good = tallyd_client::Record::rentcast("/good");
    let mut out = Vec::new();
    frame::write(&mut out, |body| {
        message::write_records_head(body, 1, 3);
        tallyd_protocol::record::write(body, &good);
        body.extend_from_slice(record);
        tallyd_protocol::record::write(body, &good);
    });
    stream.write_all(&out).unwrap();
    match answer(&mut stream) {
        ServerMessage::Ack(ack) => ack,
        other => panic!("{other:?}"),
    }
}

#[test]
fn malformed_bytes_are_answered_with_their_code_and_the_connection_is_closed() {
    let postgres = Postgres::stopped();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_LIMITS_STATED_COSTS", "allow").start();
    for (number, vector) in vectors("malformed.json").iter().enumerate() {
        let mut stream = daemon.connect();
        if vector["after_hello"] == true {
            hello(&mut stream, &format!("malformed-{number}"));
        }
        stream.write_all(&bytes(vector)).unwrap();
        let ServerMessage::Error(ErrorFrame { code, message }) = answer(&mut stream) else {
            panic!("{} is not refused", vector["name"])
        };
        assert_eq!(vector["code"], code, "{}: {message}", vector["name"]);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{}: the connection stays open", vector["name"]);
    }
}

#[test]
fn refused_and_accepted_records_are_told_apart_alone_and_end_where_they_belong() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_LIMITS_STATED_COSTS", "allow").start();
    let (refused, accepted) = (vectors("refused.json"), vectors("accepted.json"));
    for (number, vector) in refused.iter().enumerate() {
        let ack = send_between_good_ones(&daemon, &format!("refused-{number}"), &bytes(vector));
        let [rejection] = ack.rejected.as_slice() else { panic!("{}: {ack:?}", vector["name"]) };
        let found = (rejection.seq, &*rejection.code, rejection.field.as_deref());
        let expected = (2, vector["code"].as_str().unwrap(), vector["field"].as_str());
        assert_eq!(found, expected, "{}: {}", vector["name"], rejection.message);
    }
    let mut known = 0;
    for (number, vector) in accepted.iter().enumerate() {
        let ack = send_between_good_ones(&daemon, &format!("accepted-{number}"), &bytes(vector));
        assert_eq!(ack.rejected, [], "{}", vector["name"]);
        known += ack.duplicates.len();
    }
    assert_eq!(known, 1, "two of them state the same id");
    postgres.until_calls(2 * refused.len() + 3 * accepted.len() - known);
    let letters = postgres.psql("SELECT code, encode(payload, 'hex') FROM dead_letters ORDER BY id");
    let mut letters: Vec<_> = letters.lines().collect();
    let mut expected: Vec<_> = refused
        .iter()
        .map(|vector| format!("{}|{}", vector["code"].as_str().unwrap(), vector["hex"].as_str().unwrap()))
        .collect();
    letters.sort_unstable();
    expected.sort_unstable();
    assert_eq!(letters, expected);
    daemon.assert_reconciled();
}

#[test]
fn lines_are_answered_one_by_one() {
    let postgres = Postgres::stopped();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_LIMITS_STATED_COSTS", "allow").start();
    let vectors = vectors("ndjson.json");
    let lines: String = vectors.iter().map(|vector| format!("{}\n", vector["line"].as_str().unwrap())).collect();
    let answers = daemon.lines(&lines);
    assert_eq!(answers.len(), vectors.len());
    for (vector, answer) in vectors.iter().zip(&answers) {
        if vector["record"].is_object() {
            assert_eq!(answer["ok"], true, "{}: {answer}", vector["name"]);
        } else {
            let error = &answer["error"];
            assert_eq!((&error["code"], &error["field"]), (&vector["code"], &vector["field"]), "{}", vector["name"]);
        }
    }
}
