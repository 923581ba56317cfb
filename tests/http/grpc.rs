//! OTLP over gRPC: the same records, tokens and answers as over HTTP, each export once.

use std::io::Write;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::client::Api;
use crate::otlp::protobuf;

/// A status and the answer's message.
#[derive(Debug)]
struct Answer {
    status: i32,
    said: String,
    body: Vec<u8>,
}

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn address(api: &Api) -> String {
    api.daemon.status().unwrap()["grpc"].as_str().expect("it listens").to_owned()
}

/// A message in its frame.
fn frame(message: &[u8], compressed: bool) -> Vec<u8> {
    let mut message = message.to_vec();
    if compressed {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&message).unwrap();
        message = encoder.finish().unwrap();
    }
    [&[u8::from(compressed)], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat()
}

/// Sends each body on a connection of its own.
fn call(address: &str, method: &str, token: &str, body: Vec<u8>) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = hyper::Request::post(format!("http://{address}{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if body.first() == Some(&1) {
            request = request.header("grpc-encoding", "gzip");
        }
        if !token.is_empty() {
            request = request.header("authorization", token);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let head = answer.headers().clone();
        let collected = answer.into_body().collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let text = |name: &str| {
            let value = trailers.get(name).or_else(|| head.get(name));
            value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let status = text("grpc-status").parse().unwrap_or(-1);
        Answer { status, said: text("grpc-message"), body: collected.to_bytes().to_vec() }
    })
}

#[test]
fn exports_are_recorded_once_with_or_without_compression_and_over_a_kill() {
    let mut api = Api::start();
    let token = api.token("ingest");
    for round in 0..2 {
        for (number, compressed) in [(1, false), (2, true), (1, false)] {
            let answer = call(&address(&api), TRACES, &token, frame(&protobuf(number, 100), compressed));
            assert_eq!((answer.status, answer.body.as_slice()), (0, &[0; 5][..]), "{round}: {answer:?}");
        }
        // The same export over HTTP counts as the same.
        let headers = [("authorization", token.as_str()), ("content-type", "application/x-protobuf")];
        assert_eq!(api.send("POST", "/v1/traces", &headers, &protobuf(1, 100)).status, 200);
        api.daemon.kill();
        api.daemon.up();
        crate::support::until("the token is known", || match call(&address(&api), TRACES, &token, frame(&[], false)) {
            answer if answer.status == 0 => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
    }
    api.postgres.until_calls(2);
    let sql = "SELECT model, input_tokens, cost_usd, count(*) FROM api_usage_log GROUP BY 1, 2, 3";
    assert_eq!(api.postgres.psql(sql), "claude-sonnet-4-5|100|0.0003|2");
    api.daemon.assert_reconciled();
}

#[test]
fn what_is_wrong_has_a_status_and_what_is_refused_stands_in_the_partial_success() {
    let api = Api::with(&[("TALLYD_HTTP_MAX_BODY_BYTES", "100000")]);
    let (token, address) = (api.token("ingest"), address(&api));
    let refused = call(&address, TRACES, &token, frame(&protobuf(1, -1), false));
    assert_eq!(refused.status, 0, "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.body).contains("kept with the dead letters"), "{refused:?}");
    let good = || frame(&protobuf(2, 5), false);
    let (unauthenticated, permission_denied, invalid, unimplemented) = (16, 7, 3, 12);
    for (method, token, body, status) in [
        (TRACES, "", good(), unauthenticated),
        (TRACES, "Bearer tallyd_1_none", good(), unauthenticated),
        (TRACES, &api.token("read"), good(), permission_denied),
        (TRACES, &token, frame(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], false), invalid),
        ("/opentelemetry.proto.collector.profiles.v1.ProfilesService/Export", &token, good(), unimplemented),
        ("/nothing", &token, good(), unimplemented),
    ] {
        let answer = call(&address, method, token, body);
        assert_eq!(answer.status, status, "{method}: {answer:?}");
        assert!(!answer.said.is_empty(), "{answer:?}");
    }
    // Too large before or after decompression; a length beyond the body; frames that break off or are not gzip.
    let huge = [&[0, 0xff, 0xff, 0xff, 0xff][..], &[0; 1000]].concat();
    for body in [
        frame(&vec![0; 200_000], false),
        frame(&vec![0; 50_000_000], true),
        huge,
        vec![0, 0, 0],
        vec![1, 0, 0, 0, 3, 1, 2, 3],
    ] {
        let answer = call(&address, TRACES, &token, body);
        assert!(answer.status > 0, "{answer:?}");
    }
    let (_, peak) = api.daemon.resident_bytes();
    assert!(peak < 300 << 20, "{peak} bytes");
    assert_eq!(call(&address, TRACES, &token, good()).status, 0, "others are served");
    api.postgres.until_calls(1);
}

#[test]
fn the_usual_port_is_taken_if_it_is_free_and_nobody_is_kept_from_starting_if_it_is_not() {
    // The port is taken, by this process or by another.
    let _held = std::net::TcpListener::bind("127.0.0.1:4317");
    let api = Api::with(&[("TALLYD_OTLP_GRPC_LISTEN", "auto")]);
    assert!(api.daemon.status().unwrap()["grpc"].is_null());
    assert!(api.daemon.log().contains("OTLP is not taken over gRPC"), "{}", api.daemon.log());
    let api = Api::with(&[("TALLYD_OTLP_GRPC_LISTEN", "")]);
    assert!(api.daemon.status().unwrap()["grpc"].is_null());
}
