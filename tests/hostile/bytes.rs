//! Bytes with a special meaning for some parser: magic keys, depth, exponents, halves of surrogate pairs.
//!
//! One dictionary is sent to every listener and format of one daemon. The daemon survives with bounded memory, keeps
//! the honest records, shows the refused ones, and starts again with all of them stored.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Write;

use serde_json::{Value, json};
use tallyd_client::Record;

use crate::client::Api;
use crate::support::until;

/// The README's bound of the daemon's memory.
const MEMORY_BYTES: u64 = 256 << 20;

/// Values that have broken a parser, or PostgreSQL, as JSON.
fn dictionary() -> Vec<String> {
    let mut values = Vec::new();
    for key in ["$serde_json::private::RawValue", "$serde_json::private::Number", "$__toml_private_datetime"] {
        for bytes in [2_000, 15_000, 45_000] {
            // Text within text: a library that interprets the key would parse each level again.
            let mut nested = "1".to_owned();
            while nested.len() < bytes {
                nested = json!({ key: nested }).to_string();
            }
            values.push(nested);
            values.push(json!({ key: "[".repeat(bytes) }).to_string());
            values.push(format!("{}1{}", format!("{{\"{key}\":").repeat(bytes / 50), "}".repeat(bytes / 50)));
        }
        values.push(json!({ key: "x", "a": 1 }).to_string());
        values.push(json!({ "a": { key: "1e999999" } }).to_string());
    }
    for depth in [70, 127, 128, 129, 2_000, 20_000] {
        values.push(format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)));
        values.push(format!("{{\"a\":{}", "[{\"a\":".repeat(depth)));
    }
    values.push(format!("{{\"a\":[1e131071{}]}}", ",1e131071".repeat(1_700)));
    values.push(format!("{{\"a\":[1e64{}]}}", ",1e64".repeat(3_000)));
    values.push(format!("{{\"a\":{}}}", "9".repeat(15_000)));
    for number in ["1e999999", "-1e-999999", "1e131072", "1e-16384", "1e99999999999999999999", "0e999999", "-0"] {
        values.push(format!("{{\"a\":{number}}}"));
    }
    let texts = [r"x\ud83d", r"\ude00\ud83d", r"\u0000", r"\u0000\ud800\\u0000", r"\ud83d\ude00"];
    values.extend(texts.map(|text| format!("{{\"{text}\":\"{text}\"}}")));
    values
}

/// Lines of records: each value as metadata, as units, as a text, and as the record itself.
fn lines(door: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, value) in dictionary().iter().enumerate() {
        for field in ["metadata", "extra_units", "model", "cost_usd", "input_tokens", "colour"] {
            let id = format!("{door}-{number}-{field}");
            lines.push(format!(
                r#"{{"provider":"rentcast","endpoint":"/avm","user_id":"u-hostile","request_id":"{id}","{field}":{value}}}"#
            ));
        }
        lines.push(value.clone());
    }
    lines
}

/// The honest client sends one more record, which must be accepted.
fn is_honest(api: &Api, sent: &mut usize) {
    *sent += 1;
    let answers = api.daemon.lines(&format!("{{\"provider\":\"rentcast\",\"request_id\":\"honest-{sent}\"}}\n"));
    assert_eq!(answers[0]["ok"], true, "{answers:?}");
}

fn assert_small(api: &Api, door: &str) {
    let (_, most) = api.daemon.resident_bytes();
    println!("{door}: the daemon has had {} MiB at most", most >> 20);
    assert!(most < MEMORY_BYTES, "{door}: the daemon has had {most} bytes");
}

fn assert_readable(api: &Api, read: &str) {
    for path in
        ["/api/v1/records?limit=10000", "/api/v1/records?format=csv", "/api/v1/dead-letters", "/api/v1/overview"]
    {
        let answer = api.get(path, read);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.body.len() < 8 << 20, "{path}: {} bytes", answer.body.len());
    }
    let first = api.get("/api/v1/records?limit=10000", read).ok();
    assert!(first["records"].as_array().is_some_and(|records| !records.is_empty()));
}

/// Records as MessagePack, with each text of the dictionary as metadata.
fn frames(api: &Api) {
    let mut session = api.daemon.session("hostile-frames");
    for (seq, value) in (1..).zip(dictionary()) {
        let record = Record { metadata: Some(value.into()), ..Record::rentcast("/avm").user("u-hostile") };
        session.send(seq, std::slice::from_ref(&record)).unwrap();
        let ack = session.recv_ack().unwrap();
        assert_eq!(ack.seq, seq);
        assert!(ack.rejected.iter().all(|refused| ["too_long", "format"].contains(&&*refused.code)), "{ack:?}");
    }
}

fn otlp(api: &Api, ingest: &str) {
    for value in dictionary() {
        let text = serde_json::to_string(&value).unwrap();
        let attributes = format!(
            r#"[{{"key":"gen_ai.operation.name","value":{{"stringValue":"chat"}}}},{{"key":"x","value":{{"stringValue":{text}}}}},
                {{"key":"y","value":{value}}}]"#
        );
        let spans = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"attributes":{attributes}}}]}}]}}]}}"#);
        for body in
            [spans, format!(r#"{{"resourceSpans":[{value}]}}"#), format!(r#"{{"resourceSpans":{value}}}"#), value]
        {
            let answer = api.post("/v1/traces", ingest, &body);
            assert!(matches!(answer.status, 200 | 400), "{}: {}", answer.status, answer.text());
        }
    }
}

fn headers_of_tokens(api: &Api) {
    for value in dictionary().iter().filter(|value| value.len() < 5_500) {
        for header in
            [format!(r#"{{"alg":"HS256","crit":{value}}}"#), format!(r#"{{"alg":"HS256","x":{value}}}"#), value.clone()]
        {
            let claims = URL_SAFE_NO_PAD.encode(value.as_bytes());
            let bearer = format!(
                "Bearer {}.{}.AAAA",
                URL_SAFE_NO_PAD.encode(header.as_bytes()),
                &claims[..claims.len().min(500)]
            );
            assert_eq!(api.get("/api/v1/costs", &bearer).status, 401, "{header}");
        }
    }
}

fn import(api: &Api) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.ndjson");
    let text = lines("import").iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    });
    std::fs::write(&file, text).unwrap();
    let output = api.daemon.run(&["import", file.to_str().unwrap()]);
    assert!(output.status.code().is_some(), "the import was ended by a signal");
}

#[test]
fn no_bytes_by_any_door_bring_the_daemon_down_or_keep_it_from_starting() {
    let settings = [
        ("TALLYD_AUTH_ISSUER", "http://127.0.0.1:1"),
        ("TALLYD_AUTH_HS256_SECRET", "a shared secret of more than thirty-two bytes"),
        ("TALLYD_AUTH_FAILURES_PER_MINUTE", "1000000"),
    ];
    let mut api = Api::with(&settings);
    let (ingest, read) = (api.token("ingest"), api.token("read"));
    let mut honest = 0;

    let sent = lines("line");
    let answers = api.daemon.lines(&(sent.join("\n") + "\n"));
    assert_eq!(answers.len(), sent.len());
    let known = ["too_long", "format", "type", "range", "unknown_field", "missing", "nul", "invalid"];
    for (line, answer) in sent.iter().zip(&answers) {
        let is_known = answer["ok"] == true || known.contains(&answer["error"]["code"].as_str().unwrap_or_default());
        assert!(is_known, "{answer}: {}", &line[..line.len().min(200)]);
    }
    is_honest(&api, &mut honest);
    assert_small(&api, "lines");

    for line in lines("http") {
        let answer = api.post("/api/v1/records", &ingest, &line);
        assert!(matches!(answer.status, 200 | 400 | 422), "{}: {}", answer.status, answer.text());
    }
    let array = format!(
        "[{}]",
        lines("array")
            .iter()
            .filter(|line| serde_json::from_str::<Value>(line).is_ok())
            .cloned()
            .collect::<Vec<_>>()
            .join(",")
    );
    assert_eq!(api.post("/api/v1/records", &ingest, &array).status, 200);
    is_honest(&api, &mut honest);
    assert_small(&api, "HTTP");

    frames(&api);
    otlp(&api, &ingest);
    headers_of_tokens(&api);
    import(&api);
    is_honest(&api, &mut honest);
    assert_small(&api, "frames, OTLP, tokens, import");

    // All accepted records are in the call log, and none was poison.
    until("everything is loaded", || {
        let status = api.daemon.status().ok_or("no status")?;
        let records = api.postgres.psql("SELECT count(*) FROM api_usage_log WHERE request_id LIKE 'honest-%'");
        let waiting = status["pipeline"]["backlog_records"].as_u64().or(status["backlog_records"].as_u64());
        if records == honest.to_string() && waiting.unwrap_or(0) == 0 {
            Ok(())
        } else {
            Err(format!("{records} {waiting:?}"))
        }
    });
    let taken = answers.iter().filter(|answer| answer["ok"] == true).count();
    api.postgres.until("SELECT count(*) FROM api_usage_log WHERE request_id LIKE 'line-%'", &taken.to_string());
    assert_eq!(api.postgres.psql("SELECT count(*) FROM dead_letters WHERE kind = 'poison'"), "0");
    assert!(
        api.postgres.psql("SELECT max(octet_length(metadata::text)) FROM api_usage_log").parse::<u64>().unwrap()
            < 500_000
    );
    assert_readable(&api, &read);

    // A user who may read can open the refused records, and forgetting a user skips them.
    let ids = api.postgres.psql("SELECT id FROM dead_letters ORDER BY octet_length(payload) DESC, id LIMIT 150");
    for id in ids.split_whitespace() {
        let answer = api.get(&format!("/api/v1/dead-letters/{id}"), &read);
        assert_eq!(answer.ok()["id"].to_string(), id);
    }
    let output = api.daemon.run(&["users", "forget", "u-hostile", "--yes"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = "SELECT count(*) FROM api_usage_log WHERE user_id = 'u-hostile'";
    assert_eq!(api.postgres.psql(left), "0");
    is_honest(&api, &mut honest);
    assert_small(&api, "letters");

    // Stored records do not prevent a start: neither those in the WAL nor those in the database.
    api.postgres.down(crate::support::postgres::Stop::Fast);
    api.daemon.lines(&(lines("stored").join("\n") + "\n"));
    is_honest(&api, &mut honest);
    api.daemon.kill();
    api.daemon.spawn();
    api.daemon.until_accepting();
    api.postgres.up();
    api.postgres.until("SELECT count(*) FROM api_usage_log WHERE request_id LIKE 'honest-%'", &honest.to_string());
    assert_eq!(api.postgres.psql("SELECT count(*) FROM dead_letters WHERE kind = 'poison'"), "0");
    until("the page answers", || match api.get("/api/v1/records", &read).status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    assert_readable(&api, &read);
    assert_small(&api, "a restart");
    api.daemon.assert_reconciled();
    assert!(!api.daemon.log().contains("panicked"), "a thread panicked");
}
