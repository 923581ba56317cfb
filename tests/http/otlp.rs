//! OTLP/HTTP: the exports of real exporters, each call once, in both encodings.

use std::io::Write;

use serde_json::{Value, json};

use crate::client::{Answer, Api};

/// A span of a call with 1,000 input tokens, 400 of them from the cache, and 101 output tokens.
fn span(number: u8, more: &[(&str, Value)]) -> Value {
    let mut attributes = vec![
        json!({"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}),
        json!({"key": "gen_ai.provider.name", "value": {"stringValue": "anthropic"}}),
        json!({"key": "gen_ai.request.model", "value": {"stringValue": "claude-sonnet-4-5"}}),
        json!({"key": "gen_ai.usage.cache_read.input_tokens", "value": {"intValue": "400"}}),
        json!({"key": "gen_ai.usage.output_tokens", "value": {"intValue": 101}}),
        json!({"key": "gen_ai.input.messages", "value": {"arrayValue": {"values": [{"stringValue": "secret"}]}}}),
    ];
    attributes.extend(more.iter().map(|(key, value)| json!({"key": key, "value": value})));
    json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": format!("eee19b7ec3c1b1{number:02x}"), "kind": 3,
        "name": "chat", "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001250000000",
        "attributes": attributes})
}

fn input(tokens: i64) -> (&'static str, Value) {
    ("gen_ai.usage.input_tokens", json!({"intValue": tokens.to_string()}))
}

fn traces(spans: &[Value]) -> String {
    json!({"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}},
        {"key": "user.id", "value": {"stringValue": "u-1"}}]}, "scopeSpans": [{"scope": {"name": "test"}, "spans": spans}]}]})
    .to_string()
}

fn send(api: &Api, token: &str, signal: &str, kind: &str, body: &[u8]) -> Answer {
    api.send("POST", &format!("/v1/{signal}"), &[("authorization", token), ("content-type", kind)], body)
}

fn json(api: &Api, token: &str, signal: &str, body: &str) -> Answer {
    send(api, token, signal, "application/json", body.as_bytes())
}

/// A protobuf field of bytes.
fn field(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag << 3 | 2];
    let mut left = body.len();
    while left > 0x7f {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend_from_slice(body);
    bytes
}

fn text(name: &str, value: &str) -> Vec<u8> {
    [field(1, name.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
}

/// A request with one span of `tokens` < 128 input tokens, or of -1.
pub fn protobuf(number: u8, tokens: i8) -> Vec<u8> {
    let varint = match u8::try_from(tokens) {
        Ok(tokens) => vec![3 << 3, tokens],
        Err(_) => [&[3 << 3][..], &[0xff; 9], &[1]].concat(),
    };
    let span = [
        field(1, &[0x5b; 16]),
        field(2, &[number; 8]),
        field(5, b"chat"),
        vec![6 << 3, 3],
        [&[8 << 3 | 1], &1_790_000_001_250_000_000_u64.to_le_bytes()[..]].concat(),
        field(9, &text("gen_ai.operation.name", "chat")),
        field(9, &text("gen_ai.system", "anthropic")),
        field(9, &text("gen_ai.response.model", "claude-sonnet-4-5")),
        field(9, &[field(1, b"gen_ai.usage.input_tokens"), field(2, &varint)].concat()),
    ]
    .concat();
    let resource = field(1, &field(1, &text("service.name", "shop")));
    field(1, &[resource, field(2, &field(2, &span))].concat())
}

#[test]
fn spans_of_calls_are_recorded_once_in_either_encoding_and_over_a_kill() {
    let mut api = Api::start();
    let token = api.token("ingest");
    let agent = [("gen_ai.operation.name", json!({"stringValue": "invoke_agent"})), input(5_000)];
    let mut around = span(9, &[]);
    around["attributes"] = json!(agent.map(|(key, value)| json!({"key": key, "value": value})));
    let body = traces(&[span(1, &[input(1_000)]), around, span(2, &[input(1_000)])]);
    let small = protobuf(7, 100);
    for round in 0..2 {
        let answer = json(&api, &token, "traces", &body);
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{round}");
        let answer = send(&api, &token, "traces", "application/x-protobuf", &small);
        assert_eq!((answer.status, answer.body.as_slice()), (200, &[][..]), "{round}");
        assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body.as_bytes()).unwrap();
        let kind = "application/json; charset=utf-8";
        let headers = [("authorization", token.as_str()), ("content-encoding", "gzip"), ("content-type", kind)];
        assert_eq!(api.send("POST", "/v1/traces", &headers, &encoder.finish().unwrap()).status, 200, "{round}");
        api.daemon.kill();
        api.daemon.up();
        crate::support::until("the token is known", || match json(&api, &token, "traces", "{}").status {
            200 => Ok(()),
            other => Err(other.to_string()),
        });
    }
    api.postgres.until_calls(3);
    // 600 at 3, 400 at 0.30 and 101 at 15 USD per million; 100 at 3.
    let sql =
        "SELECT model, endpoint, user_id, app, input_tokens, cache_read_tokens, output_tokens, latency_ms, cost_usd,
               metadata ->> 'trace_id', count(*) FROM api_usage_log GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY 5";
    let id = "5b8efff798038103d269b633813fc60c";
    let expected = format!(
        "claude-sonnet-4-5|chat||shop|100|0|0||0.0003|{}|1\n\
         claude-sonnet-4-5|chat|u-1|shop|600|400|101|1250|0.003435|{id}|2",
        "5b".repeat(16)
    );
    assert_eq!(api.postgres.psql(sql), expected);
    assert_eq!(api.postgres.psql("SELECT count(*) FROM api_usage_log WHERE metadata::text ~ 'secret'"), "0");
    // A collector that groups the spans anew, and a framework's span of the same response as its SDK's.
    assert_eq!(
        json(&api, &token, "traces", &traces(&[span(1, &[input(1_000)]), span(3, &[input(1_000)])])).text(),
        "{}"
    );
    let response = |id: &str| ("gen_ai.response.id", json!({"stringValue": id}));
    let framework = |number| {
        let mut span = span(number, &[input(1_000), response("msg_1")]);
        // The framework does not report the cached tokens separately.
        span["attributes"]
            .as_array_mut()
            .unwrap()
            .retain(|attribute| attribute["key"] != "gen_ai.usage.cache_read.input_tokens");
        span
    };
    let sdk = span(12, &[input(1_000), response("msg_1")]);
    let other = span(13, &[input(1_000), response("msg_2")]);
    assert_eq!(json(&api, &token, "traces", &traces(&[framework(11), sdk, other])).text(), "{}");
    assert_eq!(json(&api, &token, "traces", &traces(&[framework(14)])).text(), "{}");
    api.postgres.until_calls(6);
    let sql = "SELECT request_id, count(*), max(cache_read_tokens) FROM api_usage_log GROUP BY 1 ORDER BY 1";
    assert_eq!(api.postgres.psql(sql), "|4|400\nmsg_1|1|400\nmsg_2|1|400");
    let status = api.daemon.status().unwrap();
    assert_eq!(status["wal"]["identities"]["duplicates"], 2, "span 1 and span 14");
    assert!(status["stood_out"]["passed_over"].to_string().contains("another span of a recorded response"));
    api.daemon.assert_reconciled();
}

#[test]
fn refused_records_are_named_in_the_partial_success_and_kept_and_the_others_are_durable() {
    let api = Api::start();
    let token = api.token("ingest");
    let answer =
        json(&api, &token, "traces", &traces(&[span(1, &[input(-5)]), span(2, &[input(7)]), json!({"kind": "x"})]));
    assert_eq!(answer.status, 200);
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "2", "{partial}");
    assert!(partial["errorMessage"].as_str().unwrap().contains("and 1 more"), "{partial}");
    let answer = send(&api, &token, "traces", "application/x-protobuf", &protobuf(1, -1));
    // ExportTraceServiceResponse.partial_success.rejected_spans is 1.
    assert_eq!((answer.status, &answer.body[..1], &answer.body[2..4]), (200, &[0x0a][..], &[0x08, 1][..]));
    assert!(String::from_utf8_lossy(&answer.body).contains("kept with the dead letters"), "{:?}", answer.text());
    api.postgres.until_calls(1);
    api.postgres.until(
        "SELECT count(*), min(convert_from(payload, 'UTF8')::jsonb ->> 'provider') FROM dead_letters",
        "2|anthropic",
    );
    assert_eq!(api.metric("tallyd_otlp_items_total{signal=\"traces\",outcome=\"taken\"}"), 3.0);
    assert_eq!(api.metric("tallyd_otlp_items_total{signal=\"traces\",outcome=\"rejected\"}"), 1.0);
    api.daemon.assert_reconciled();
}

#[test]
fn wrong_requests_are_told_so_in_their_own_encoding() {
    let api = Api::with(&[("TALLYD_HTTP_MAX_BODY_BYTES", "10000")]);
    let token = api.token("ingest");
    assert_eq!(send(&api, &token, "traces", "text/plain", b"{}").status, 415);
    assert_eq!(api.send("POST", "/v1/logs", &[("authorization", token.as_str())], b"{}").status, 415);
    for signal in ["traces", "logs", "metrics"] {
        for broken in ["{", "[]", r#"{"resourceSpans": 1}"#, r#"{"resourceLogs": [{"scopeLogs": [[]]}]}"#] {
            let answer = json(&api, &token, signal, broken);
            assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)), "{signal} {broken}");
        }
        let answer = send(&api, &token, signal, "application/x-protobuf", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        // google.rpc.Status.code is INVALID_ARGUMENT.
        assert_eq!((answer.status, &answer.body[..2]), (400, &[0x08, 3][..]), "{signal}");
        assert_eq!(json(&api, &token, signal, &" ".repeat(20_000)).status, 413, "{signal}");
        assert_eq!(json(&api, &api.token("read"), signal, "{}").status, 403, "{signal}");
        assert_eq!(json(&api, "Bearer tallyd_1_none", signal, "{}").status, 401, "{signal}");
    }
}

/// Claude Code's events of a request and of a failure, and its token sums, of the same call.
fn claude_code(temporality: i64) -> (String, String) {
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "claude-code"}}]});
    let log = |name: &str, attributes: &[(&str, Value)]| {
        let mut all = vec![json!({"key": "event.name", "value": {"stringValue": name}})];
        all.extend(attributes.iter().map(|(key, value)| json!({"key": key, "value": value})));
        json!({"timeUnixNano": "1790000000000000000", "body": {"stringValue": format!("claude_code.{name}")}, "attributes": all})
    };
    let model = ("model", json!({"stringValue": "claude-sonnet-4-5-20250929"}));
    let user = ("user.id", json!({"stringValue": "dev"}));
    let count = |name: &'static str, tokens: u64| (name, json!({"intValue": tokens.to_string()}));
    let events = [
        log("user_prompt", std::slice::from_ref(&user)),
        log(
            "api_request",
            &[model.clone(), user.clone(), count("input_tokens", 1_000), count("cache_read_tokens", 10_000)],
        ),
        log("api_error", &[model.clone(), user.clone(), ("status_code", json!({"stringValue": "529"}))]),
    ];
    let point = |kind: &str, tokens: u64| {
        json!({"asInt": tokens.to_string(), "timeUnixNano": "1790000000000000000", "attributes": [
            {"key": "type", "value": {"stringValue": kind}}, {"key": "model", "value": model.1},
            {"key": "user.id", "value": user.1}]})
    };
    let points = json!([point("input", 1_000), point("cacheRead", 10_000)]);
    let sum = json!({"name": "claude_code.token.usage", "sum": {"aggregationTemporality": temporality, "isMonotonic": true,
        "dataPoints": points}});
    (
        json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": events}]}]}).to_string(),
        json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [sum]}]}]}).to_string(),
    )
}

#[test]
fn claude_code_is_recorded_from_its_events_or_its_metrics_and_never_from_both() {
    let (logs, metrics) = claude_code(1);
    let totals = claude_code(2).1;
    for (setting, rows) in [("logs", "1000|10000|200\n0|0|529"), ("metrics", "1000|10000|200"), ("none", "")] {
        let api = Api::with(&[("TALLYD_OTLP_CLAUDE_CODE", setting)]);
        let token = api.token("ingest");
        for _ in 0..2 {
            assert_eq!(json(&api, &token, "logs", &logs).text(), "{}", "{setting}");
            assert_eq!(json(&api, &token, "metrics", &metrics).text(), "{}", "{setting}");
        }
        let partial = json(&api, &token, "metrics", &totals).json()["partialSuccess"].clone();
        assert_eq!(partial["rejectedDataPoints"] == "1", setting == "metrics", "{partial}");
        api.postgres.until_calls(rows.lines().count());
        let sql =
            "SELECT input_tokens, cache_read_tokens, status FROM api_usage_log WHERE user_id = 'dev' ORDER BY status";
        assert_eq!(api.postgres.psql(sql), rows, "{setting}");
        api.daemon.assert_reconciled();
    }
}

/// JavaScript and Python may cut text between the halves of a surrogate pair.
#[test]
fn half_of_a_surrogate_pair_is_a_replacement_character_and_costs_no_call() {
    let api = Api::start();
    let token = api.token("ingest");
    let body = traces(&[span(1, &[input(1_000), ("gen_ai.prompt.title", json!({"stringValue": "CUT"}))])]);
    let half = body.replace("u-1", "u\\ud83d").replace("CUT", "\\ude00x\\ud83d").replace("\"shop\"", "\"shop\\ud83d\"");
    let answer = json(&api, &token, "traces", &half);
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{half}");
    let line = r#"{"provider":"rentcast","user_id":"l\ud83d","app":"\ude00","metadata":{"t\ud83d":"\ud83d"}}"#;
    assert_eq!(api.daemon.lines(line)[0]["ok"], true);
    let posted = api.post("/api/v1/records", &token, &line.replace("l\\ud83d", "p\\ud83d"));
    assert_eq!(posted.status, 200, "{}", posted.text());
    let file = api.daemon.data().with_file_name("half.ndjson");
    std::fs::write(&file, line.replace("l\\ud83d", "f\\ud83d")).unwrap();
    assert!(api.daemon.run(&["import", &file.display().to_string()]).status.success());
    api.postgres.until_calls(4);
    let users = "SELECT string_agg(user_id || ':' || (cost_usd IS NOT NULL), ',' ORDER BY user_id) FROM api_usage_log";
    let expected = ["f", "l", "p", "u"].map(|user| format!("{user}\u{fffd}:true")).join(",");
    assert_eq!(api.postgres.psql(users), expected);
    assert_eq!(api.postgres.psql("SELECT count(*) FROM dead_letters"), "0");
}

#[test]
fn exports_are_taken_while_the_database_is_down() {
    let mut api = Api::start();
    let token = api.token("ingest");
    api.postgres.down(crate::support::postgres::Stop::Fast);
    let body = traces(&[span(1, &[input(1_000)])]);
    assert_eq!(json(&api, &token, "traces", &body).text(), "{}");
    assert_eq!(json(&api, &token, "traces", &body).text(), "{}");
    api.postgres.up();
    api.postgres.until_calls(1);
    api.daemon.assert_reconciled();
}

#[test]
fn spans_around_calls_that_have_tokens_are_counted_apart_and_shown() {
    let api = Api::start();
    let token = api.token("ingest");
    let around = |number: u8, pairs: &[(&str, Value)]| {
        let mut span = span(number, &[]);
        span["attributes"] = pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        span
    };
    let text = |text: &str| json!({"stringValue": text});
    let spans = [
        around(1, &[("gen_ai.operation.name", text("invoke_agent")), input(5_000)]),
        around(2, &[("operation.name", text("ai.streamText")), input(7)]),
        around(3, &[("gen_ai.operation.name", text("invoke_agent"))]),
        around(4, &[("http.request.method", text("POST"))]),
    ];
    assert_eq!(json(&api, &token, "traces", &traces(&spans)).text(), "{}");
    let items =
        |outcome: &str| api.metric(&format!("tallyd_otlp_items_total{{signal=\"traces\",outcome=\"{outcome}\"}}"));
    assert_eq!([items("passed_over"), items("ignored"), items("taken")], [2.0, 2.0, 0.0]);
    assert_eq!(api.metric("tallyd_otlp_passed_over_total{what=\"ai.streamText\"}"), 1.0);
    let shown = String::from_utf8(api.daemon.run(&["status"]).stdout).unwrap();
    assert!(shown.contains("passed over   1 × ai.streamText"), "{shown}");
    assert!(shown.contains("1 × gen_ai.operation.name invoke_agent"), "{shown}");
}
