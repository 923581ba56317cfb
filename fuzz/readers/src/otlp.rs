//! OTLP exports: the first byte chooses signal and encoding, the rest is the request's body.

use std::sync::LazyLock;

use bytes::Bytes;

use tallyd_config::{ClaudeCode, Otlp};
use tallyd_intake::otlp::document::{Encoding, each};
use tallyd_intake::otlp::items::{Event, Metric, Span};
use tallyd_intake::otlp::record::Draft;
use tallyd_intake::otlp::{ItemContext, logs, spans, sums};
use tallyd_model::pricing::{Catalog, PricingOptions};

/// Names of a document.
pub const WORDS: [&[u8]; 12] = [
    b"{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{",
    b"\"attributes\":[{\"key\":\"",
    b"\"value\":{\"intValue\":\"7\"}}",
    b"gen_ai.operation.name",
    b"gen_ai.usage.input_tokens",
    b"gen_ai.usage.cache_read.input_tokens",
    b"claude_code.api_request",
    b"claude_code.token.usage",
    b"service.name",
    b"\x0a\x04\x12\x02\x12\x00",
    b"\x39\x00\x00\x00\x00\x00\x00\x00\x7f",
    b"\"aggregationTemporality\":1",
];

/// Reads a request as the daemon does. Each resulting record is a JSON object. The body's length bounds their number.
pub fn run(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let encoding = if choice & 1 == 0 { Encoding::Protobuf } else { Encoding::Json };
    let claude_code = if choice & 8 == 0 { ClaudeCode::Logs } else { ClaudeCode::Metrics };
    let config = Otlp { claude_code, input_includes_cached: choice & 16 == 0, ..Otlp::default() };
    static CATALOG: LazyLock<Catalog> =
        LazyLock::new(|| Catalog::builtin(&PricingOptions::default()).expect("the built-in catalog is one"));
    let reading = ItemContext { config: &config, catalog: &CATALOG };
    let body = Bytes::copy_from_slice(body);
    let mut drafts = Vec::new();
    let read = match choice >> 1 & 3 {
        0 => each::<Span>(encoding, &body, |source, item| {
            let _ = item.and_then(|item| spans::records(&reading, source, item, &mut drafts));
        }),
        1 => each::<Event>(encoding, &body, |source, item| {
            let _ = item.and_then(|item| logs::records(&reading, source, item, &mut drafts));
        }),
        _ => each::<Metric>(encoding, &body, |source, item| {
            let _ = item.and_then(|item| sums::records(&reading, source, item, &mut drafts));
        }),
    };
    if let Err(error) = read {
        assert!(!error.is_empty());
    }
    assert!(drafts.len() <= body.len(), "{} records of {} bytes", drafts.len(), body.len());
    for text in drafts.iter().map(Draft::to_json) {
        let object: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(&text);
        assert!(object.is_ok(), "{object:?}");
    }
}

/// A request of each signal in each encoding.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let pair = |name: &str, value: Vec<u8>| field(1, name.as_bytes()).into_iter().chain(field(2, &value)).collect();
    let text = |name: &str, value: &str| -> Vec<u8> { pair(name, field(1, value.as_bytes())) };
    let number = |name: &str, value: u8| -> Vec<u8> { pair(name, vec![3 << 3, value]) };
    let claude_code = |items: Vec<u8>| {
        let resource = field(1, &field(1, &text("service.name", "claude-code")));
        let scope = [field(1, &field(1, b"com.anthropic.claude_code.events")), field(2, &items)].concat();
        field(1, &[resource, field(2, &scope)].concat())
    };
    let span = [
        field(1, &[0xab; 16]),
        field(2, &[1; 8]),
        vec![6 << 3, 3],
        [&[7 << 3 | 1], &1_790_000_000_000_000_000_u64.to_le_bytes()[..]].concat(),
        [&[8 << 3 | 1], &1_790_000_001_000_000_000_u64.to_le_bytes()[..]].concat(),
        field(9, &text("gen_ai.operation.name", "chat")),
        field(9, &text("gen_ai.provider.name", "anthropic")),
        field(9, &number("gen_ai.usage.input_tokens", 100)),
        field(9, &number("gen_ai.usage.cache_read.input_tokens", 60)),
        field(15, &[3 << 3, 2]),
    ]
    .concat();
    let event = [
        field(5, &field(1, b"claude_code.api_request")),
        field(6, &text("model", "claude-sonnet-4-5")),
        field(6, &number("input_tokens", 9)),
        field(6, &pair("cost_usd", [&[4 << 3 | 1], &0.5_f64.to_le_bytes()[..]].concat())),
    ]
    .concat();
    let point = [[&[6 << 3 | 1], &7_i64.to_le_bytes()[..]].concat(), field(7, &text("type", "input"))].concat();
    let sum = [field(1, &point), vec![2 << 3, 1]].concat();
    let metric = [field(1, b"claude_code.token.usage"), field(7, &sum)].concat();
    let spans = field(1, &field(2, &field(2, &span)));
    let json = |choice: u8, text: &str| [&[choice], text.as_bytes()].concat();
    vec![
        [&[0], spans.as_slice()].concat(),
        [&[2], claude_code(event).as_slice()].concat(),
        [&[12], claude_code(metric).as_slice()].concat(),
        json(
            1,
            r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},
            "scopeSpans":[{"scope":{"name":"i"},"spans":[{"traceId":"abababababababababababababababab","spanId":"0101010101010101",
            "kind":3,"startTimeUnixNano":"1790000000000000000","endTimeUnixNano":1790000001000000000,"status":{"code":2},
            "attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},
            {"key":"gen_ai.usage.input_tokens","value":{"intValue":"100"}},{"key":"x","value":{"arrayValue":{"values":[]}}}]}]}]}]}"#,
        ),
        json(
            3,
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1790000000000000000","eventName":"claude_code.api_error",
            "body":{"stringValue":"claude_code.api_error"},"attributes":[{"key":"status_code","value":{"intValue":529}}]}]}]}]}"#,
        ),
        json(
            13,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"claude_code.token.usage","sum":{"aggregationTemporality":1,
            "isMonotonic":true,"dataPoints":[{"asDouble":7.0,"timeUnixNano":"1790000000000000000",
            "attributes":[{"key":"type","value":{"stringValue":"cacheRead"}}]}]}}]}]}]}"#,
        ),
    ]
}

/// A length-delimited field of up to 16,383 bytes.
fn field(tag: u8, body: &[u8]) -> Vec<u8> {
    let head = [tag << 3 | 2, body.len() as u8 & 0x7f | 0x80, (body.len() >> 7) as u8];
    [&head, body].concat()
}
