//! Claude Code's events (its documentation, "Monitoring"): one `api_request` for each request to the API with what it has
//! used, one `api_error` for each that failed. Its input tokens exclude the cached ones, as the API's do.
//!
//! The cost that it reports is its own estimate at list prices: it is kept beside, and the record is priced like any other.
//! Other log records are passed over, those of the conventions' `gen_ai.client.inference.operation.details` too: their spans say
//! the same.

use super::document::Source;
use super::items::Event;
use super::record::Draft;
use super::spans::user;
use crate::config::{ClaudeCode, Otlp};

/// What its events' names begin with, where they are whole.
const PREFIX: &str = "claude_code.";

/// True if Claude Code has sent it.
pub(super) fn is_claude_code(source: &Source) -> bool {
    source.scope.starts_with("com.anthropic.claude_code")
        || source.resource.text(&["service.name"]) == Some("claude-code")
}

/// The event's record, if it is one of an API request.
///
/// # Errors
/// None: what is wrong with a record is found when it is taken.
pub fn records(config: &Otlp, source: &Source, event: Event, drafts: &mut Vec<Draft>) -> Result<(), String> {
    if config.claude_code != ClaudeCode::Logs {
        return Ok(());
    }
    let attributes = &event.attributes;
    let names = [event.name.as_str(), attributes.text(&["event.name"]).unwrap_or_default(), event.body.as_str()];
    let is_theirs = is_claude_code(source);
    let is_called = |wanted: &str| {
        names.iter().any(|name| match name.strip_prefix(PREFIX) {
            Some(name) => name == wanted,
            // Anybody may call an event `api_request`.
            None => is_theirs && *name == wanted,
        })
    };
    let failed = is_called("api_error");
    if !failed && !is_called("api_request") {
        return Ok(());
    }
    let mut draft = Draft::default();
    let count = |name: &str| attributes.integer(&[name]).unwrap_or(0);
    let time_ns = if event.time_ns > 0 { event.time_ns } else { event.observed_ns };
    draft.occurred_at(time_ns);
    draft.text("provider", Some("anthropic"));
    draft.text("model", attributes.text(&["model"]));
    draft.text("endpoint", Some("/v1/messages"));
    draft.text("user_id", user(config, source, attributes));
    draft.text("app", source.resource.text(&["service.name"]));
    draft.text("request_id", attributes.text(&["request_id"]));
    draft.number("latency_ms", count("duration_ms"));
    if failed {
        let status = attributes.integer(&["status_code"]).filter(|status| (100..=999).contains(status));
        draft.number("status", status.unwrap_or(500));
    } else {
        draft.number("input_tokens", count("input_tokens"));
        draft.number("output_tokens", count("output_tokens"));
        draft.number("cache_read_tokens", count("cache_read_tokens"));
        draft.number("cache_write_5m_tokens", count("cache_creation_tokens"));
        draft.note("reported_cost_usd", attributes.number_text("cost_usd").as_deref());
    }
    draft.note("session_id", attributes.text(&["session.id"]));
    draft.note("speed", attributes.text(&["speed"]));
    draft.note("query_source", attributes.text(&["query_source"]));
    drafts.push(draft);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::attributes::{Attributes, Value};
    use super::*;

    fn source(service: &str) -> Source {
        Source { resource: Attributes::from([("service.name", service.into())]), scope: String::new() }
    }

    fn request(name: &str) -> Event {
        let attributes = Attributes::from([
            ("event.name", name.into()),
            ("model", "claude-sonnet-4-5-20250929".into()),
            ("input_tokens", "12".into()),
            ("output_tokens", 340.into()),
            ("cache_read_tokens", 20_000.into()),
            ("cache_creation_tokens", 1_500.into()),
            ("cost_usd", Value::Float(0.0168)),
            ("duration_ms", 2_100.into()),
            ("status_code", "529".into()),
            ("user.id", "f00d".into()),
            ("session.id", "s-1".into()),
        ]);
        Event { time_ns: 1_790_000_000_000_000_000, attributes, ..Event::default() }
    }

    fn read(config: &Otlp, service: &str, event: Event) -> Vec<Draft> {
        let mut drafts = Vec::new();
        records(config, &source(service), event, &mut drafts).unwrap();
        drafts
    }

    #[test]
    fn a_request_is_a_record_with_its_own_buckets_and_no_cost() {
        let drafts = read(&Otlp::default(), "claude-code", request("api_request"));
        let [draft] = drafts.as_slice() else { panic!("{drafts:?}") };
        for (field, value) in [
            ("input_tokens", json!(12)),
            ("output_tokens", json!(340)),
            ("cache_read_tokens", json!(20_000)),
            ("cache_write_5m_tokens", json!(1_500)),
            ("cost_usd", json!(null)),
            ("latency_ms", json!(2_100)),
            ("user_id", json!("f00d")),
            ("status", json!(null)),
            ("metadata", json!({"reported_cost_usd": "0.0168", "session_id": "s-1"})),
        ] {
            assert_eq!(draft.get(field), &value, "{field}");
        }
    }

    #[test]
    fn a_failure_has_a_status_and_has_used_nothing() {
        let drafts = read(&Otlp::default(), "claude-code", request("api_error"));
        assert_eq!((drafts[0].get("status"), drafts[0].get("output_tokens")), (&json!(529), &json!(null)));
    }

    #[test]
    fn other_events_other_senders_and_other_settings_are_passed_over() {
        let metrics = Otlp { claude_code: ClaudeCode::Metrics, ..Otlp::default() };
        for (config, service, name, count) in [
            (&Otlp::default(), "claude-code", "user_prompt", 0),
            (&Otlp::default(), "somebody", "api_request", 0),
            (&Otlp::default(), "somebody", "claude_code.api_request", 1),
            (&metrics, "claude-code", "api_request", 0),
        ] {
            assert_eq!(read(config, service, request(name)).len(), count, "{service} {name}");
        }
        let mut named = request("x");
        named.name = "claude_code.api_request".into();
        assert_eq!(read(&Otlp::default(), "claude-code", named).len(), 1);
    }
}
