//! Spans of model calls, by the semantic conventions for generative AI (open-telemetry/semantic-conventions-genai, all
//! of it in development), earlier versions of them, and the spellings of instrumentations.
//!
//! *Which spans.* Spans with used tokens of any kind, and spans whose operation is a model call. A span of an agent, a
//! workflow or a tool repeats the usage of its calls, as the AI SDK's outer span does. These are ignored, and counted
//! if they have tokens. So are Claude Code's own spans, because its events have the same content ([`super::logs`]).
//!
//! *Tokens.* [`super::table`] has a row for each attribute, [`super::usage`] makes disjoint buckets of them. Unknown
//! usage makes the call unpriced, and is named. A cost in the span is used.

use super::attributes::Attributes;
use super::items::{ItemSource, Span};
use super::record::Draft;
use super::usage::{self, Rule, SpanUsage};
use super::{ItemContext, Took};

/// Operations that call a model.
const CALLS: [&str; 5] = ["chat", "generate_content", "text_completion", "embeddings", "completion"];
/// Operations that enclose such calls.
const AROUND: [&str; 6] = ["invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "plan", "retrieval"];
/// Attributes with a span's kind, and their values for enclosing spans.
const KINDS: [(&str, &[&str]); 4] = [
    ("openinference.span.kind", &["CHAIN", "AGENT", "TOOL", "RETRIEVER", "GUARDRAIL", "EVALUATOR", "PROMPT"]),
    ("traceloop.span.kind", &["workflow", "task", "agent", "tool"]),
    ("langsmith.span.kind", &["chain", "tool", "retriever", "prompt", "parser"]),
    ("langfuse.observation.type", &["span", "agent", "tool", "chain", "retriever", "evaluator", "guardrail"]),
];

const PROVIDER: [&str; 5] =
    ["gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"];
const MODEL: [&str; 8] = [
    "gen_ai.response.model",
    "ai.response.model",
    "gen_ai.request.model",
    "ai.model.id",
    "llm.response.model",
    "llm.model_name",
    "embedding.model_name",
    "llm.request.model",
];
const ENDPOINT: [&str; 4] = ["http.route", "gen_ai.operation.name", "ai.operationId", "llm.request.type"];
const REQUEST_ID: [&str; 2] = ["gen_ai.response.id", "ai.response.id"];
/// The served tier comes before the requested one.
const TIER: [&str; 7] = [
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
    "gen_ai.response.service_tier",
    "openai.request.service_tier",
    "gen_ai.openai.request.service_tier",
    "gen_ai.request.service_tier",
    "llm.service_tier",
];

/// The span's record, if it is a model call.
///
/// # Errors
/// None: a record's errors are found at admission.
pub fn records(
    reading: &ItemContext<'_>,
    source: &ItemSource,
    span: Span,
    drafts: &mut Vec<Draft>,
) -> Result<Took, String> {
    let attributes = &span.attributes;
    let found = SpanUsage::of(attributes);
    match kind(source, attributes) {
        Kind::Around(what) if found.is_used() => return Ok(Took::PassedOver(what)),
        Kind::Around(_) => return Ok(Took::Ignored),
        Kind::Unknown if !found.is_used() => return Ok(Took::Ignored),
        Kind::Call | Kind::Unknown => {}
    }
    let mut draft = Draft::default();
    let provider = attributes.text(&PROVIDER);
    draft.id("otlp span", &[&span.trace_id, &span.span_id]);
    draft.occurred_at(if span.end_ns > 0 { span.end_ns } else { span.start_ns });
    draft.latency(span.start_ns, span.end_ns);
    draft.text("provider", provider);
    draft.text("model", attributes.text(&MODEL));
    draft.text("endpoint", attributes.text(&ENDPOINT));
    draft.text("user_id", source.user(reading.config, attributes));
    draft.text("app", source.resource.text(&["service.name"]));
    draft.tags(source.tags(reading.config, attributes));
    draft.text("request_id", attributes.text(&REQUEST_ID));
    draft.text("service_tier", attributes.text(&TIER));
    draft.number("status", status(&span));
    let input_includes_cached = reading.config.input_includes_cached;
    let rule = Rule { scope: &source.scope, provider: provider.unwrap_or_default(), input_includes_cached };
    used(found, rule, attributes, &mut draft);
    draft.note("trace_id", Some(&hex::encode(&span.trace_id)));
    draft.note("span_id", Some(&hex::encode(&span.span_id)));
    draft.note("session_id", attributes.text(&["gen_ai.conversation.id", "session.id"]));
    draft.note("error_type", attributes.text(&["error.type"]));
    source.keep(&mut draft);
    drafts.push(draft);
    Ok(Took::Record)
}

fn used(found: SpanUsage, rule: Rule<'_>, attributes: &Attributes, draft: &mut Draft) {
    let buckets = found.buckets(rule);
    for (field, count) in &buckets.fields {
        draft.number(field, *count);
    }
    draft.units(&buckets.units);
    if let Some(name) = &buckets.not_understood {
        draft.not_understood(name);
    }
    match usage::cost(attributes) {
        Ok(cost) => draft.text("cost_usd", cost.as_deref()),
        Err(name) => draft.not_understood(name),
    }
}

/// The kind of a span.
enum Kind {
    /// A call of a model, by its operation.
    Call,
    /// Encloses calls, whose spans have the same tokens.
    Around(String),
    /// A call if it has used tokens.
    Unknown,
}

fn kind(source: &ItemSource, attributes: &Attributes) -> Kind {
    if super::logs::is_claude_code(source) {
        return Kind::Around("a span of Claude Code".to_owned());
    }
    let operation = attributes.text(&["gen_ai.operation.name"]).unwrap_or_default();
    if AROUND.contains(&operation) {
        return Kind::Around(format!("gen_ai.operation.name {operation}"));
    }
    for (name, around) in KINDS {
        if let Some(kind) = attributes.text(&[name]).filter(|kind| around.contains(kind)) {
            return Kind::Around(format!("{name} {kind}"));
        }
    }
    // The AI SDK: `ai.streamText` encloses one or more `ai.streamText.doStream`; a function's id may follow a space.
    let name = attributes.text(&["ai.operationId", "operation.name"]).unwrap_or_default();
    let name = name.split(' ').next().unwrap_or_default();
    if name.starts_with("ai.") && !name.contains(".do") {
        return Kind::Around(name.to_owned());
    }
    if CALLS.contains(&operation) { Kind::Call } else { Kind::Unknown }
}

/// The call's HTTP status, as far as a span has it.
fn status(span: &Span) -> i64 {
    let told = span.attributes.integer(&["http.response.status_code", "http.status_code", "error.type"]);
    match told.filter(|status| (100..=999).contains(status)) {
        Some(status) => status,
        None if span.failed || span.attributes.has(&["error.type"]) => 500,
        None => 200,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::attributes::AttributeValue;
    use super::super::items::KIND_CLIENT;
    use super::*;
    use tallyd_config::Otlp;
    use tallyd_model::pricing::{Catalog, PricingOptions};

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

    fn take(config: &Otlp, span: Span) -> (Took, Vec<Draft>) {
        let resource = Attributes::from([("service.name", "shop".into()), ("user.id", "of the resource".into())]);
        let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
        let mut drafts = Vec::new();
        let source = ItemSource { resource, scope: "a".into() };
        let took = records(&ItemContext { config, catalog: &catalog }, &source, span, &mut drafts).unwrap();
        (took, drafts)
    }

    fn read(config: &Otlp, span: Span) -> Vec<Draft> {
        take(config, span).1
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
        assert_eq!(draft.get("metadata")["trace_id"], hex::encode([0xab; 16]));
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
    fn what_has_used_tokens_is_a_call_unless_it_is_around_calls() {
        let of = |name: &str, value: &str, tokens: i64| {
            let attributes = Attributes::from([(name, value.into()), ("gen_ai.usage.input_tokens", tokens.into())]);
            match take(&Otlp::default(), Span { kind: 1, ..span(attributes) }) {
                (Took::Record, drafts) if drafts.len() == 1 => 1,
                (Took::PassedOver(what), drafts) if drafts.is_empty() && what.contains(value) => 0,
                (Took::Ignored, drafts) if drafts.is_empty() => -1,
                other => panic!("{other:?}"),
            }
        };
        let operation = "gen_ai.operation.name";
        assert_eq!(["chat", "embeddings", "responses", "anything"].map(|value| of(operation, value, 5)), [1; 4]);
        assert_eq!(["invoke_agent", "execute_tool", "invoke_workflow"].map(|value| of(operation, value, 5)), [0; 3]);
        assert_eq!([of(operation, "chat", 0), of(operation, "responses", 0), of(operation, "plan", 0)], [1, -1, -1]);
        let outer = ["ai.streamText", "ai.generateText", "ai.embedMany"];
        assert_eq!(outer.map(|value| of("ai.operationId", value, 5)), [0; 3]);
        let inner = ["ai.streamText.doStream", "ai.generateText.doGenerate", "ai.embed.doEmbed"];
        assert_eq!(inner.map(|value| of("operation.name", &format!("{value} my-function"), 5)), [1; 3]);
        assert_eq!(
            ["LLM", "EMBEDDING", "CHAIN", "AGENT"].map(|value| of("openinference.span.kind", value, 5)),
            [1, 1, 0, 0]
        );
        assert_eq!(["workflow", "task"].map(|value| of("traceloop.span.kind", value, 5)), [0; 2]);
        let http = span(Attributes::from([("http.route", "/v1/messages".into())]));
        assert_eq!(take(&Otlp::default(), http), (Took::Ignored, vec![]));
    }

    #[test]
    fn tags_come_from_the_listed_attributes_and_those_of_the_span_win() {
        let config =
            Otlp { tag_attributes: vec!["tenant=customer".into(), "env=environment".into()], ..Otlp::default() };
        let attributes = Attributes::from([
            ("gen_ai.operation.name", "chat".into()),
            ("env", "test".into()),
            ("tenant", 7.into()),
            ("tallyd.tag.team", "search".into()),
            ("tallyd.tag.long", "x".repeat(257).as_str().into()),
            ("tallyd.tag.", "nameless".into()),
        ]);
        let resource = Attributes::from([("env", "of the resource".into()), ("tallyd.tag.region", "eu".into())]);
        let source = ItemSource { resource, scope: "a".into() };
        let tags = source.tags(&config, &attributes);
        let expected = [("customer", "7"), ("environment", "test"), ("region", "eu"), ("team", "search")];
        assert_eq!(tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
        assert_eq!(read(&config, span(attributes))[0].get("tags")["customer"], "7");
    }

    #[test]
    fn an_error_has_a_status_and_the_user_comes_from_the_configured_attributes() {
        let failed = |error: AttributeValue, code: Option<i64>| {
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
