//! OTLP numbers that cannot be read: such a call is unpriced or refused, named and counted, and never free.

use serde_json::{Value, json};

use crate::client::Api;

/// A span of 100 output tokens, with `value` as its input tokens.
fn span(number: usize, value: Value) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({"traceId": format!("{:032x}", number + 1), "spanId": format!("{:016x}", number + 1), "kind": 3,
        "endTimeUnixNano": "1790000000000000000", "attributes": [
            text("gen_ai.operation.name", "chat"), text("gen_ai.system", "anthropic"),
            text("gen_ai.request.model", "claude-sonnet-4-5"), text("user.id", &format!("u-{number}")),
            json!({"key": "gen_ai.usage.output_tokens", "value": {"intValue": "100"}}),
            json!({"key": "gen_ai.usage.input_tokens", "value": value})]})
}

fn export(api: &Api, token: &str, spans: &[Value]) -> Value {
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string();
    api.post("/v1/traces", token, &body).ok()
}

#[test]
fn a_count_that_does_not_read_is_never_nothing() {
    let api = Api::start();
    let token = api.token("ingest");
    let unreadable = [
        json!({"doubleValue": "NaN"}),
        json!({"doubleValue": "Infinity"}),
        json!({"doubleValue": "-Infinity"}),
        json!({"stringValue": "1,200"}),
        json!({"stringValue": "1 200"}),
        json!({"stringValue": "many"}),
        json!({"stringValue": "NaN"}),
        json!({"stringValue": "0x10"}),
        json!({"doubleValue": 12.5}),
        json!({"stringValue": "12.5"}),
        json!({"boolValue": true}),
        json!({"arrayValue": {"values": [{"intValue": "7"}]}}),
        json!({"kvlistValue": {"values": []}}),
        json!({"bytesValue": "AAAA"}),
        json!({"stringValue": "9".repeat(5_000)}),
        json!({"doubleValue": 1e300}),
        json!({}),
        json!({"int_value": "500"}),
        json!({"intValue": null}),
        json!({"intValue": "500", "stringValue": ""}),
        Value::Null,
    ];
    let beyond = [
        json!({"doubleValue": 1e17}),
        json!({"stringValue": "1e17"}),
        json!({"intValue": "-5"}),
        json!({"stringValue": "9".repeat(30)}),
    ];
    let whole = [
        json!({"stringValue": "1000.0"}),
        json!({"doubleValue": 1000.0}),
        json!({"stringValue": " 1000 "}),
        json!({"intValue": 1000}),
    ];
    let values: Vec<Value> = unreadable.iter().chain(&beyond).chain(&whole).cloned().collect();
    let spans: Vec<Value> = values.iter().cloned().enumerate().map(|(number, value)| span(number, value)).collect();
    let answer = export(&api, &token, &spans);
    // Numbers beyond a record's bound are refused, as on any other way in, and kept.
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], beyond.len().to_string(), "{answer}");
    // An integer that its own encoding cannot hold is refused with a message.
    let answer = export(&api, &token, &[span(90, json!({"intValue": "12.5"})), span(91, json!({"intValue": "1e17"}))]);
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "2", "{answer}");
    api.postgres.until_calls(unreadable.len() + whole.len());
    api.postgres.until("SELECT count(*) FROM dead_letters", &beyond.len().to_string());
    let unpriced = "SELECT count(*), min(metadata ->> 'tallyd.not_understood'), max(input_tokens), min(output_tokens) \
                    FROM api_usage_log WHERE cost_usd IS NULL";
    assert_eq!(api.postgres.psql(unpriced), format!("{}|gen_ai.usage.input_tokens|0|100", unreadable.len()));
    // 1,000 at 3 and 100 at 15 USD per million.
    let priced = "SELECT count(*), min(input_tokens), max(cost_usd), min(cost_usd) FROM api_usage_log WHERE cost_usd IS NOT NULL";
    assert_eq!(api.postgres.psql(priced), format!("{}|1000|0.0045|0.0045", whole.len()));
    let counted = api.metric("tallyd_not_understood_total{what=\"gen_ai.usage.input_tokens\"}");
    assert_eq!(counted, unreadable.len() as f64);
    assert_eq!(api.metric("tallyd_otlp_items_total{signal=\"traces\",outcome=\"rejected\"}"), 2.0);
    api.daemon.assert_reconciled();
}

/// Claude Code's events and sums, each with one unreadable number.
#[test]
fn claude_codes_numbers_are_read_alike() {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let resource = json!({"attributes": [text("service.name", "claude-code")]});
    let number = |key: &str, value: Value| json!({"key": key, "value": value});
    let event = |value: Value| {
        json!({"timeUnixNano": "1790000000000000000", "attributes": [text("event.name", "api_request"),
            text("model", "claude-sonnet-4-5"), number("output_tokens", json!({"intValue": "100"})), number("input_tokens", value)]})
    };
    let events =
        [json!({"stringValue": "1,200"}), json!({"doubleValue": "NaN"}), json!({"doubleValue": 1000.0})].map(event);
    let logs = json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": events}]}]}).to_string();
    let api = Api::start();
    assert_eq!(api.post("/v1/logs", &api.token("ingest"), &logs).ok(), json!({}));
    api.postgres.until_calls(3);
    let sql = "SELECT cost_usd, metadata ->> 'tallyd.not_understood', count(*) FROM api_usage_log GROUP BY 1, 2 ORDER BY 1, 2";
    assert_eq!(api.postgres.psql(sql), "0.0045||1\n|input_tokens|2");

    let point = |kind: &str, value: Value| {
        let mut point = json!({"timeUnixNano": "1790000000000000000",
            "attributes": [text("type", kind), text("model", "claude-sonnet-4-5")]});
        point.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        point
    };
    let sum = |points: Value| {
        let sum =
            json!({"name": "claude_code.token.usage", "sum": {"aggregationTemporality": 1, "dataPoints": points}});
        json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [sum]}]}]}).to_string()
    };
    let api = Api::with(&[("TALLYD_OTLP_CLAUDE_CODE", "metrics")]);
    let token = api.token("ingest");
    for points in [
        json!([point("output", json!({"asInt": "100"})), point("input", json!({"asDouble": 12.5}))]),
        json!([point("output", json!({"asInt": "100"})), point("thought", json!({"asInt": "7"}))]),
        json!([point("output", json!({"asInt": "100"})), point("input", json!({"asDouble": 1000.0}))]),
    ] {
        assert_eq!(api.post("/v1/metrics", &token, &sum(points)).ok(), json!({}));
    }
    api.postgres.until_calls(3);
    assert_eq!(
        api.postgres.psql(sql),
        "0.0045||1\n|claude_code.token.usage input|1\n|claude_code.token.usage thought|1"
    );
}
