//! HTTP on the record socket: the routes that take records, for every process that may open the socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Answer, Api, exchange, free_address};
use crate::support::PATIENCE;

const PATH: &str = "/api/v1/records";
const ONE: &str = r#"{"provider":"rentcast","endpoint":"/avm","cost_usd":"0.2"}"#;

fn connect(api: &Api) -> UnixStream {
    let stream = UnixStream::connect(api.daemon.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(api: &Api, method: &str, path: &str, key: &str, body: &str) -> Answer {
    exchange(connect(api), method, path, &[("idempotency-key", key)], body.as_bytes())
}

#[test]
fn records_are_taken_without_a_token_and_nothing_else_is_served() {
    let mut api = Api::start();
    let answer = ask(&api, "POST", PATH, "", ONE).ok();
    assert_eq!((&answer["accepted"], &answer["results"][0]["cost_usd"]), (&1.into(), &json!("0.2")));
    let mixed = ask(&api, "POST", PATH, "", "{\"provider\":\"rentcast\"}\n{\"provider\":7}\n").ok();
    assert_eq!((&mixed["accepted"], &mixed["refused"]), (&1.into(), &1.into()));
    let dear = ask(&api, "POST", PATH, "", r#"{"provider":"x","cost_usd":"10001"}"#);
    assert_eq!((dear.status, &dear.json()["results"][0]["error"]["code"]), (422, &json!("range")));
    assert_eq!(ask(&api, "POST", "/v1/traces", "", "").status, 415, "OTLP is taken, but not as text");
    assert_eq!(ask(&api, "GET", PATH, "", "").status, 405, "who sends may not ask");
    for path in ["/", "/api/v1/costs", "/api/v1/overview", "/status", "/link", "/metrics", "/api/openapi.json"] {
        assert_eq!(ask(&api, "GET", path, "", "").code(), "not_found", "{path}");
    }
    // Two requests at once on one connection, then lines and frames on the same socket.
    let mut stream = connect(&api);
    let request =
        |close: &str| format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{close}content-length: {}\r\n\r\n{ONE}", ONE.len());
    stream.write_all((request("") + &request("connection: close\r\n")).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!(api.daemon.lines(&format!("{ONE}\n"))[0]["ok"], true);
    drop(api.daemon.session("beside"));
    // With a key a request counts once, also over a kill.
    assert_eq!(ask(&api, "POST", PATH, "k-1", ONE).ok()["duplicates"], 0);
    api.daemon.kill();
    api.daemon.up();
    assert_eq!(ask(&api, "POST", PATH, "k-1", ONE).ok()["duplicates"], 1);
    api.postgres.until_calls(6);
    api.daemon.assert_reconciled();
}

#[test]
fn what_the_documents_show_for_curl_records_a_call() {
    let api = Api::start();
    let readme = include_str!("../../clients/README.md");
    let shown = readme.split("```sh\n").find_map(|block| block.starts_with("curl ").then(|| block.split("```").next()));
    let command = shown.flatten().expect("clients/README.md shows curl");
    let socket = api.daemon.socket();
    let command = command.replace("/run/tallyd/tallyd.sock", socket.to_str().unwrap());
    let output = Command::new("sh").args(["-ec", &command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(r#""ok":true"#), "{said}{output:?}");
    api.postgres.until_calls(1);
}

#[test]
fn over_tcp_http_is_not_spoken_where_lines_and_frames_are() {
    let address = free_address();
    let api = Api::with(&[("TALLYD_LISTEN_TCP", &address), ("TALLYD_LISTEN_TCP_TOKENS", "s3cret-of-16-characters")]);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("POST {PATH} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("too_large"), "{said:?}");
    assert_eq!(api.postgres.psql("SELECT count(*) FROM api_usage_log"), "0");
}

#[test]
fn who_leaves_a_request_unfinished_does_not_hold_up_the_end() {
    let mut api = Api::start();
    let mut unfinished = connect(&api);
    unfinished
        .write_all(format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{{").as_bytes())
        .unwrap();
    // An idle connection, whose answer shows that the daemon serves both.
    let mut idle = connect(&api);
    idle.write_all(format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{ONE}", ONE.len()).as_bytes())
        .unwrap();
    idle.read_exact(&mut [0; 100]).unwrap();
    let begun = Instant::now();
    assert!(api.daemon.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    api.postgres.until_calls(1);
}
