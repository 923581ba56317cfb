//! Records over HTTP: durable when answered, refused alone, and counted once with a key.

use std::io::Write;

use serde_json::json;
use sha2::{Digest, Sha256};
use tallyd_client::SessionError;

use crate::client::{Answer, Api};

const PATH: &str = "/api/v1/records";
const THREE: &str = r#"[{"provider":"rentcast","endpoint":"/a","cost_usd":0.1},
    {"provider":"claude","model":"claude-sonnet-4-5","input_tokens":1000,"output_tokens":101},
    {"provider":"rentcast","endpoint":"/b","cost_usd":0.2}]"#;

fn post(api: &Api, token: &str, key: &str, body: &str) -> Answer {
    let headers = [("authorization", token), ("idempotency-key", key), ("content-type", "application/json")];
    api.send("POST", PATH, &headers, body.as_bytes())
}

#[test]
fn one_an_array_and_lines_are_recorded_and_a_broken_one_is_refused_alone() {
    let api = Api::with(&[("TALLYD_ALERTS_INTERVAL_MS", "100")]);
    let token = api.token("ingest");
    let one =
        post(&api, &token, "", r#"{"provider":"anthropic","model":"claude-sonnet-4-5","input_tokens":1000}"#).ok();
    assert_eq!((&one["accepted"], &one["results"][0]["cost_usd"]), (&1.into(), &json!("0.003")));
    assert_eq!(post(&api, &token, "", THREE).ok()["accepted"], 3);
    let lines = "{\"provider\":\"rentcast\"}\n{\"provider\":\"\"}\n{broken\n{\"provider\":\"acme\"}\n";
    let mixed = post(&api, &token, "", lines).ok();
    assert_eq!((&mixed["accepted"], &mixed["refused"]), (&2.into(), &2.into()));
    let codes: Vec<_> = mixed["results"].as_array().unwrap().iter().map(|result| &result["error"]["code"]).collect();
    assert_eq!(codes, [&json!(null), &json!("missing"), &json!("format"), &json!(null)]);
    let refused = post(&api, &token, "", r#"{"provider":7}"#);
    assert_eq!((refused.status, &refused.json()["refused"]), (422, &1.into()));
    assert_eq!(post(&api, &token, "", "[{").code(), "invalid_body");
    assert_eq!(post(&api, &token, "", "[]").ok()["accepted"], 0);
    api.postgres.until_calls(6);
    api.postgres.until("SELECT count(*) FROM dead_letters", "3");
    api.daemon.assert_reconciled();
    for (role, status) in [("read", 403), ("admin", 200)] {
        assert_eq!(post(&api, &api.token(role), "", "[]").status, status, "{role}");
    }
    assert_eq!(api.get(PATH, &token).status, 403, "who sends may not ask");
    let two = r#"[{"provider":"rentcast","user_id":"u-1","cost_usd":1},{"provider":"rentcast","user_id":"u-2"}]"#;
    assert_eq!(post(&api, &token, "", two).ok()["results"][0]["should_throttle"], json!(null), "there is no budget");
    assert!(api.daemon.run(&["budgets", "set", "0.5", "--scope", "user", "--value", "u-1"]).status.success());
    crate::support::until("a record's answer tells that its user's budget is used up", || {
        let results = &post(&api, &token, "", two).ok()["results"];
        assert_eq!(results[1]["should_throttle"], json!(null), "another user's is not");
        if results[0]["should_throttle"] == true { Ok(()) } else { Err(results.to_string()) }
    });
}

#[test]
fn a_request_with_a_key_counts_once_also_over_a_kill_and_another_body_is_found_out() {
    let mut api = Api::start();
    let (token, other) = (api.token("ingest"), api.token("ingest"));
    let first = post(&api, &token, "k-1", THREE).ok();
    assert_eq!((&first["accepted"], &first["duplicates"]), (&3.into(), &0.into()));
    for round in 0..2 {
        let again = post(&api, &token, "k-1", THREE).ok();
        assert_eq!((&again["accepted"], &again["duplicates"]), (&3.into(), &3.into()), "{round}");
        for at in 0..3 {
            assert_eq!(again["results"][at]["id"], first["results"][at]["id"], "{round}");
        }
        api.daemon.kill();
        api.daemon.up();
        // The copy of the tokens is had anew.
        crate::support::until("the token is known", || match post(&api, &token, "", "[]").status {
            200 => Ok(()),
            other => Err(other.to_string()),
        });
    }
    let reused = post(&api, &token, "k-1", r#"{"provider":"rentcast"}"#);
    assert_eq!((reused.status, reused.code().as_str()), (422, "idempotency_key_reused"));
    assert_eq!(post(&api, &other, "k-1", THREE).ok()["duplicates"], 0, "a key is its sender's own");
    assert_eq!(post(&api, &token, "k-2", THREE).ok()["duplicates"], 0, "another key is another request");
    for key in ["two words", &"k".repeat(256)] {
        assert_eq!(post(&api, &token, key, THREE).code(), "invalid_parameter", "{key}");
    }
    api.postgres.until_calls(9);
    api.daemon.assert_reconciled();
}

#[test]
fn bodies_are_bounded_before_and_after_decompression() {
    let api = Api::with(&[("TALLYD_HTTP_MAX_BODY_BYTES", "10000")]);
    let token = api.token("ingest");
    let gzip = |body: &str, encoding: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body.as_bytes()).unwrap();
        let headers = [("authorization", token.as_str()), ("content-encoding", encoding)];
        api.send("POST", PATH, &headers, &encoder.finish().unwrap())
    };
    assert_eq!(gzip(THREE, "gzip").ok()["accepted"], 3);
    assert_eq!(gzip(&" ".repeat(1_000_000), "gzip").code(), "too_large");
    assert_eq!(post(&api, &token, "", &" ".repeat(20_000)).code(), "too_large");
    // Two members, as `cat a.gz b.gz` makes them, are one text. What follows them and is not gzip is not passed over.
    let member = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let headers =
        [("authorization", token.as_str()), ("content-encoding", "gzip"), ("content-type", "application/x-ndjson")];
    let line = "{\"provider\":\"rentcast\"}\n";
    let two = [member(line), member(""), member(line)].concat();
    assert_eq!(api.send("POST", PATH, &headers, &two).ok()["accepted"], 2);
    assert_eq!(api.send("POST", PATH, &headers, &[member(line), b"and more".to_vec()].concat()).code(), "invalid_body");
    assert_eq!(api.send("POST", PATH, &headers, &member(line)[..20]).code(), "invalid_body");
    assert_eq!(gzip(THREE, "compress").status, 415);
    let broken = [("authorization", token.as_str()), ("content-encoding", "gzip")];
    assert_eq!(api.send("POST", PATH, &broken, b"no gzip").code(), "invalid_body");
}

#[test]
fn records_are_taken_while_the_database_is_down() {
    let mut api = Api::start();
    let token = api.token("ingest");
    api.postgres.down(crate::support::postgres::Stop::Fast);
    assert_eq!(post(&api, &token, "k", THREE).ok()["accepted"], 3);
    assert_eq!(post(&api, &token, "k", THREE).ok()["duplicates"], 3);
    api.postgres.up();
    api.postgres.until_calls(3);
    api.daemon.assert_reconciled();
}

#[test]
fn a_key_is_of_one_token_and_no_neighbour_on_the_socket_can_use_it_up() {
    let api = Api::start();
    let (one, two) = (api.token("ingest"), api.token("ingest"));
    // The producer of the first token's key, as anybody could work it out.
    let scope = "token:1 test";
    let digest =
        Sha256::new().chain_update((scope.len() as u64).to_be_bytes()).chain_update(scope).chain_update("key-1");
    let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let refused = api.daemon.try_session(&format!("request:{hex}"));
    assert!(matches!(&refused, Err(SessionError::Refused { code, .. }) if code == "reserved_name"), "{refused:?}");
    for (token, endpoint) in [(&one, "/one"), (&two, "/two")] {
        let body = format!(r#"{{"provider":"rentcast","endpoint":"{endpoint}"}}"#);
        for duplicates in [0, 1] {
            assert_eq!(post(&api, token, "key-1", &body).ok()["duplicates"], duplicates);
        }
    }
    api.postgres.until_calls(2);
}
