//! Spans of model calls, by the semantic conventions for generative AI (open-telemetry/semantic-conventions-genai, all of it in
//! development; names of earlier versions are read, too).
//!
//! *Which spans.* Those whose `gen_ai.operation.name` is a call of a model; of other operations, and where there is none, the
//! clients' spans that have used tokens. An agent's, a workflow's or a tool's span repeats what its calls have used, and
//! is passed over. So are Claude Code's own spans: its events say the same ([`super::logs`]).
//!
//! *Tokens.* `gen_ai.usage.input_tokens` includes what was read from and written to the cache, as the conventions have it; the
//! record's buckets are disjoint, so both are subtracted. Instrumentations that report Anthropic's numbers as Anthropic does,
//! without the cached ones, need `otlp.input_includes_cached = false`. The conventions do not tell how long a cache entry
//! lives: what is written counts as five minutes', the default of the one provider that bills it.

use super::attributes::Attributes;
use super::document::Source;
use super::items::{KIND_CLIENT, Span};
use super::record::{Draft, hex};
use crate::config::Otlp;

/// Operations that call a model.
const CALLS: [&str; 5] = ["chat", "generate_content", "text_completion", "embeddings", "completion"];
/// Operations around such calls.
const AROUND: [&str; 5] = ["invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "plan"];

const PROVIDER: [&str; 2] = ["gen_ai.provider.name", "gen_ai.system"];
const MODEL: [&str; 2] = ["gen_ai.response.model", "gen_ai.request.model"];
const INPUT: [&str; 2] = ["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"];
const OUTPUT: [&str; 2] = ["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"];
const CACHE_READ: [&str; 2] = ["gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"];
const CACHE_WRITE: [&str; 3] = [
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
];
const TIER: [&str; 3] =
    ["openai.response.service_tier", "gen_ai.openai.response.service_tier", "gen_ai.response.service_tier"];

/// The span's record, if it is a model call's.
///
/// # Errors
/// None: what is wrong with a record is found when it is taken.
pub fn records(config: &Otlp, source: &Source, span: Span, drafts: &mut Vec<Draft>) -> Result<(), String> {
    if !is_call(source, &span) {
        return Ok(());
    }
    let mut draft = Draft::default();
    let attributes = &span.attributes;
    draft.id("otlp span", &[&span.trace_id, &span.span_id]);
    draft.occurred_at(if span.end_ns > 0 { span.end_ns } else { span.start_ns });
    draft.latency(span.start_ns, span.end_ns);
    draft.text("provider", attributes.text(&PROVIDER));
    draft.text("model", attributes.text(&MODEL));
    draft.text("endpoint", attributes.text(&["http.route", "gen_ai.operation.name"]));
    draft.text("user_id", user(config, source, attributes));
    draft.text("app", source.resource.text(&["service.name"]));
    draft.text("request_id", attributes.text(&["gen_ai.response.id"]));
    draft.text("service_tier", attributes.text(&TIER));
    draft.number("status", status(&span));
    tokens(config, attributes, &mut draft);
    draft.note("trace_id", Some(&hex(&span.trace_id)));
    draft.note("span_id", Some(&hex(&span.span_id)));
    draft.note("session_id", attributes.text(&["gen_ai.conversation.id", "session.id"]));
    draft.note("error_type", attributes.text(&["error.type"]));
    drafts.push(draft);
    Ok(())
}

fn is_call(source: &Source, span: &Span) -> bool {
    if super::logs::is_claude_code(source) {
        return false;
    }
    match span.attributes.text(&["gen_ai.operation.name"]) {
        Some(operation) if CALLS.contains(&operation) => true,
        Some(operation) if AROUND.contains(&operation) => false,
        _ => span.kind == KIND_CLIENT && (span.attributes.has(&INPUT) || span.attributes.has(&OUTPUT)),
    }
}

/// The first of the configured attributes that names somebody.
pub(super) fn user<'a>(config: &Otlp, source: &'a Source, attributes: &'a Attributes) -> Option<&'a str> {
    let names: Vec<&str> = config.user_attributes.iter().map(String::as_str).collect();
    attributes.text(&names).or_else(|| source.resource.text(&names))
}

/// The call's HTTP status, as well as a span tells it.
fn status(span: &Span) -> i64 {
    let told = span.attributes.integer(&["http.response.status_code", "http.status_code", "error.type"]);
    match told.filter(|status| (100..=999).contains(status)) {
        Some(status) => status,
        None if span.failed || span.attributes.has(&["error.type"]) => 500,
        None => 200,
    }
}

fn tokens(config: &Otlp, attributes: &Attributes, draft: &mut Draft) {
    let count = |names: &[&str]| attributes.integer(names).unwrap_or(0);
    let (input, read, write) = (count(&INPUT), count(&CACHE_READ), count(&CACHE_WRITE));
    let cached = read.saturating_add(write);
    let uncached = if config.input_includes_cached && input >= cached { input - cached } else { input };
    draft.number("input_tokens", uncached);
    draft.number("output_tokens", count(&OUTPUT));
    draft.number("cache_read_tokens", read);
    draft.number("cache_write_5m_tokens", write);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::attributes::Value;
    use super::*;

    fn span(attributes: Attributes) -> Span {
        Span {
            trace_id: vec![0xab; 16],
            span_id: vec![1; 8],
            kind: KIND_CLIENT,
            start_ns: 1_790_000_000_000_000_000,
            end_ns: 1_790_000_001_500_000_000,
            attributes,
            failed: false,
        }
    }

    fn read(config: &Otlp, span: Span) -> Vec<Draft> {
        let resource = Attributes::from([("service.name", "shop".into()), ("user.id", "of the resource".into())]);
        let mut drafts = Vec::new();
        records(config, &Source { resource, scope: "a".into() }, span, &mut drafts).unwrap();
        drafts
    }

    #[test]
    fn a_call_has_its_fields_and_disjoint_buckets() {
        let call = span(Attributes::from([
            ("gen_ai.operation.name", "chat".into()),
            ("gen_ai.provider.name", "anthropic".into()),
            ("gen_ai.request.model", "claude-sonnet-4".into()),
            ("gen_ai.response.model", "claude-sonnet-4-5-20250929".into()),
            ("gen_ai.response.id", "msg_1".into()),
            ("gen_ai.usage.input_tokens", 1_000.into()),
            ("gen_ai.usage.output_tokens", "50".into()),
            ("gen_ai.usage.cache_read.input_tokens", 600.into()),
            ("gen_ai.usage.cache_creation.input_tokens", 150.into()),
            ("user.id", "u-1".into()),
        ]));
        let drafts = read(&Otlp::default(), call.clone());
        let [draft] = drafts.as_slice() else { panic!("{drafts:?}") };
        for (field, value) in [
            ("provider", json!("anthropic")),
            ("model", json!("claude-sonnet-4-5-20250929")),
            ("endpoint", json!("chat")),
            ("app", json!("shop")),
            ("user_id", json!("u-1")),
            ("request_id", json!("msg_1")),
            ("occurred_at", json!(1_790_000_001_500_000_i64)),
            ("latency_ms", json!(1_500)),
            ("status", json!(200)),
            ("input_tokens", json!(250)),
            ("output_tokens", json!(50)),
            ("cache_read_tokens", json!(600)),
            ("cache_write_5m_tokens", json!(150)),
        ] {
            assert_eq!(draft.get(field), &value, "{field}");
        }
        assert_eq!(draft.get("metadata")["trace_id"], hex(&[0xab; 16]));
        assert_eq!(draft.get("id"), read(&Otlp::default(), call.clone())[0].get("id"), "it is made of the span's");
        let other = Span { span_id: vec![2; 8], ..call.clone() };
        assert_ne!(draft.get("id"), read(&Otlp::default(), other)[0].get("id"));
        let exclusive = Otlp { input_includes_cached: false, ..Otlp::default() };
        assert_eq!(read(&exclusive, call)[0].get("input_tokens"), &json!(1_000));
    }

    #[test]
    fn an_input_below_its_cached_part_does_not_include_it() {
        let call = span(Attributes::from([
            ("gen_ai.system", "anthropic".into()),
            ("gen_ai.usage.prompt_tokens", 10.into()),
            ("gen_ai.usage.cache_read_input_tokens", 600.into()),
        ]));
        let drafts = read(&Otlp::default(), call);
        assert_eq!((drafts[0].get("input_tokens"), drafts[0].get("cache_read_tokens")), (&json!(10), &json!(600)));
    }

    #[test]
    fn what_is_around_calls_or_used_nothing_is_passed_over() {
        let of = |operation: &str, kind| {
            let attributes = Attributes::from([
                ("gen_ai.operation.name", operation.into()),
                ("gen_ai.usage.input_tokens", 5.into()),
            ]);
            read(&Otlp::default(), Span { kind, ..span(attributes) }).len()
        };
        assert_eq!(["chat", "embeddings", "responses"].map(|operation| of(operation, KIND_CLIENT)), [1, 1, 1]);
        assert_eq!(["invoke_agent", "execute_tool"].map(|operation| of(operation, KIND_CLIENT)), [0, 0]);
        assert_eq!([of("chat", 1), of("responses", 1)], [1, 0], "a model in the process, and somebody's wrapper");
        let http = span(Attributes::from([("http.route", "/v1/messages".into())]));
        assert_eq!(read(&Otlp::default(), http).len(), 0);
    }

    #[test]
    fn an_error_has_a_status_and_the_user_comes_from_the_configured_attributes() {
        let failed = |error: Value, code: Option<i64>| {
            let mut attributes = Attributes::from([("gen_ai.operation.name", "chat".into()), ("error.type", error)]);
            if let Some(code) = code {
                attributes.insert("http.response.status_code".into(), code.into());
            }
            read(&Otlp::default(), span(attributes))[0].get("status").as_i64().unwrap()
        };
        assert_eq!(failed("429".into(), None), 429);
        assert_eq!(failed("timeout".into(), None), 500);
        assert_eq!(failed("overloaded_error".into(), Some(529)), 529);
        let named = Otlp { user_attributes: vec!["tenant".into(), "user.email".into()], ..Otlp::default() };
        let attributes =
            Attributes::from([("gen_ai.operation.name", "chat".into()), ("user.email", "a@example.com".into())]);
        assert_eq!(read(&named, span(attributes.clone()))[0].get("user_id"), "a@example.com");
        assert_eq!(read(&Otlp::default(), span(attributes))[0].get("user_id"), "of the resource");
    }
}
