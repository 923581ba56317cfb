//! Claude Code's events (its documentation, "Monitoring"): one `api_request` with its usage for each request to the
//! API, one `api_error` for each that failed. Its input tokens exclude the cached ones, as the API's do.
//!
//! The reported cost is Claude Code's own estimate at list prices: it is kept in the metadata, and the record is priced
//! like any other. It also reveals one thing that the counts do not: the number of cache-write tokens that live for an
//! hour. The split is chosen, within the written tokens, so that the catalog's cost is nearest to the reported one. A
//! remaining difference is kept in the metadata and counted by model.
//!
//! The model `<synthetic>` is Claude Code's name for an answer that it made itself: not a call. Other log records are
//! ignored, including `gen_ai.client.inference.operation.details` of the conventions, because their spans have the same
//! content.

use super::attributes::{Attributes, Count};
use super::items::{Event, ItemSource};
use super::record::Draft;
use super::{ItemContext, Took};
use crate::stands_out::differ;
use tallyd_config::ClaudeCode;
use tallyd_model::pricing::{Catalog, Priced, Tokens, Usage, Usd, normalise_provider, normalise_tier};

/// The prefix of its events' full names.
const PREFIX: &str = "claude_code.";
/// The model of answers without a call.
pub(super) const SYNTHETIC: &str = "<synthetic>";
/// The event's counts. Others whose names mention tokens are not understood.
const COUNTS: [&str; 4] = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens"];
/// Attributes with fields of their own in a record.
const MAPPED: [&str; 11] = [
    "event.name",
    "event.timestamp",
    "model",
    "request_id",
    "duration_ms",
    "status_code",
    "cost_usd",
    "session.id",
    "speed",
    "query_source",
    "error",
];

/// True if Claude Code has sent it.
pub(super) fn is_claude_code(source: &ItemSource) -> bool {
    source.scope.starts_with("com.anthropic.claude_code")
        || source.resource.text(&["service.name"]) == Some("claude-code")
}

/// The event's record, if it is about an API request.
///
/// # Errors
/// None: a record's errors are found at admission.
pub fn records(
    reading: &ItemContext<'_>,
    source: &ItemSource,
    event: Event,
    drafts: &mut Vec<Draft>,
) -> Result<Took, String> {
    if reading.config.claude_code != ClaudeCode::Logs {
        return Ok(Took::Ignored);
    }
    let attributes = &event.attributes;
    let names = [event.name.as_str(), attributes.text(&["event.name"]).unwrap_or_default(), event.body.as_str()];
    let is_theirs = is_claude_code(source);
    let is_called = |wanted: &str| {
        names.iter().any(|name| match name.strip_prefix(PREFIX) {
            Some(name) => name == wanted,
            // Other programs may also call an event `api_request`.
            None => is_theirs && *name == wanted,
        })
    };
    let failed = is_called("api_error");
    let model = attributes.text(&["model"]);
    if !failed && !is_called("api_request") || model == Some(SYNTHETIC) {
        return Ok(Took::Ignored);
    }
    let mut draft = Draft::default();
    let time_ns = if event.time_ns > 0 { event.time_ns } else { event.observed_ns };
    draft.occurred_at(time_ns);
    draft.text("provider", Some(PROVIDER));
    draft.text("model", model);
    draft.text("endpoint", Some("/v1/messages"));
    draft.text("user_id", source.user(reading.config, attributes));
    draft.text("app", source.resource.text(&["service.name"]));
    draft.tags(source.tags(reading.config, attributes));
    draft.text("request_id", attributes.text(&["request_id"]));
    draft.number("latency_ms", attributes.integer(&["duration_ms"]).unwrap_or(0));
    draft.text("service_tier", tier(attributes));
    if failed {
        let status = attributes.integer(&["status_code"]).filter(|status| (100..=999).contains(status));
        draft.number("status", status.unwrap_or(500));
    } else {
        used(reading.catalog, attributes, (time_ns / 1_000) as i64, &mut draft);
    }
    draft.note("session_id", attributes.text(&["session.id"]));
    draft.note("speed", attributes.text(&["speed"]));
    draft.note("query_source", attributes.text(&["query_source"]));
    let is_kept = |name: &str| !MAPPED.contains(&name) && !(COUNTS.contains(&name));
    draft.keep(None, attributes, is_kept);
    source.keep(&mut draft);
    drafts.push(draft);
    Ok(Took::Record)
}

const PROVIDER: &str = "anthropic";

/// The speed is a tier of its own, except the usual speed.
fn tier(attributes: &Attributes) -> Option<&str> {
    attributes.text(&["speed"]).filter(|speed| !["standard", "normal", "default"].contains(speed))
}

/// The event's usage, with the split of cache writes.
fn used(catalog: &Catalog, attributes: &Attributes, at_us: i64, draft: &mut Draft) {
    let mut counts = [0_i64; COUNTS.len()];
    for (name, value) in attributes.iter() {
        match (COUNTS.iter().position(|known| *known == name), value.count()) {
            (Some(at), Count::Whole(number)) => counts[at] = number,
            (_, Count::Nothing | Count::Whole(0)) => {}
            (Some(_), Count::Unreadable) => draft.not_understood(name),
            (None, _) if name.ends_with("_tokens") && !name.contains("max_") => draft.not_understood(name),
            (None, _) => {}
        }
    }
    let [input, output, read, written] = counts;
    let reported = attributes.number_text("cost_usd");
    let reported_usd = reported.as_deref().and_then(|text| Usd::parse_rounded(text.trim()).ok());
    let call = |hour: i64| price(catalog, attributes, at_us, [input, output, read, written - hour, hour]);
    let hour = reported_usd.map_or(0, |usd| for_an_hour(usd, written, call));
    for (field, count) in [
        ("input_tokens", input),
        ("output_tokens", output),
        ("cache_read_tokens", read),
        ("cache_write_5m_tokens", written - hour),
        ("cache_write_1h_tokens", hour),
    ] {
        draft.number(field, count);
    }
    draft.note("reported_cost_usd", reported.as_deref());
    if let (Some(reported), Some(ours)) = (reported_usd, call(hour))
        && differ(reported, ours)
    {
        let difference = reported.checked_sub(ours).map(|usd| usd.to_string());
        draft.note("reported_cost_difference_usd", difference.as_deref());
        let model = attributes.text(&["model"]).unwrap_or_default();
        draft.cost_differs = Some(format!("{}/{model}", normalise_provider(PROVIDER)));
    }
}

/// The number of written tokens that live for an hour such that the catalog's cost is nearest to the reported one.
fn for_an_hour(reported: Usd, written: i64, price: impl Fn(i64) -> Option<Usd>) -> i64 {
    let (Some(none), Some(all)) = (price(0), price(written)) else { return 0 };
    let (step, over) = (all.attos() - none.attos(), reported.attos() - none.attos());
    if written <= 0 || step <= 0 || over <= 0 {
        return 0;
    }
    // The nearest whole number of tokens. Costs and counts of one call are far from an overflow here.
    let share =
        i128::from(written).checked_mul(over).map_or(i128::from(written), |product| (product + step / 2) / step);
    i64::try_from(share.max(0)).unwrap_or(written).min(written)
}

/// The catalog's cost, for tokens of input, output, cache reads, and cache writes for five minutes and for an hour.
fn price(catalog: &Catalog, attributes: &Attributes, at_us: i64, counts: [i64; 5]) -> Option<Usd> {
    let mut tokens = [0_u64; 5];
    for (token, count) in tokens.iter_mut().zip(counts) {
        *token = u64::try_from(count).ok()?;
    }
    let [input, output, cache_read, cache_write_5m, cache_write_1h] = tokens;
    let provider = normalise_provider(PROVIDER);
    let usage = Usage {
        provider: &provider,
        platform: "",
        model: attributes.text(&["model"]).unwrap_or_default(),
        endpoint: "/v1/messages",
        service_tier: &normalise_tier(tier(attributes).unwrap_or_default()),
        occurred_at_us: at_us,
        tokens: Tokens { input, output, cache_read, cache_write_5m, cache_write_1h },
        requests: 1,
        extra_units: &[],
    };
    match catalog.price(&usage) {
        Priced::Catalog { cost, .. } => Some(cost),
        Priced::Unpriced(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::attributes::AttributeValue;
    use super::*;
    use tallyd_config::Otlp;
    use tallyd_model::pricing::PricingOptions;

    fn source(service: &str) -> ItemSource {
        ItemSource { resource: Attributes::from([("service.name", service.into())]), scope: String::new() }
    }

    fn request(name: &str) -> Event {
        let attributes = Attributes::from([
            ("event.name", name.into()),
            ("model", "claude-sonnet-4-5-20250929".into()),
            ("input_tokens", "12".into()),
            ("output_tokens", 340.into()),
            ("cache_read_tokens", 20_000.into()),
            ("cache_creation_tokens", 1_500.into()),
            // 12 at 3, 340 at 15, 20,000 at 0.30, 1,000 at 3.75 and 500 at 6 USD per million.
            ("cost_usd", AttributeValue::Float(0.017886)),
            ("duration_ms", 2_100.into()),
            ("status_code", "529".into()),
            ("user.id", "f00d".into()),
            ("session.id", "s-1".into()),
        ]);
        Event { time_ns: 1_790_000_000_000_000_000, attributes, ..Event::default() }
    }

    fn read(config: &Otlp, service: &str, event: Event) -> Vec<Draft> {
        let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
        let mut drafts = Vec::new();
        records(&ItemContext { config, catalog: &catalog }, &source(service), event, &mut drafts).unwrap();
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
            ("cache_write_5m_tokens", json!(1_000)),
            ("cache_write_1h_tokens", json!(500)),
            ("cost_usd", json!(null)),
            ("latency_ms", json!(2_100)),
            ("user_id", json!("f00d")),
            ("status", json!(null)),
            ("metadata", json!({"reported_cost_usd": "0.017886", "session_id": "s-1", "user.id": "f00d"})),
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

    #[test]
    fn the_reported_cost_tells_what_was_written_for_an_hour_and_a_difference_is_kept() {
        for (cost, hour, difference) in [
            (0.016761, 0, None),
            (0.020136, 1_500, None),
            (0.01, 0, Some("-0.006761")),
            (0.03, 1_500, Some("0.009864")),
        ] {
            let mut event = request("api_request");
            let mut attributes = Attributes::from([("cost_usd", AttributeValue::Float(cost))]);
            event.attributes.iter().for_each(|(name, value)| attributes.insert(name.to_owned(), value.clone()));
            event.attributes = attributes;
            let drafts = read(&Otlp::default(), "claude-code", event);
            let found = drafts[0].get("cache_write_1h_tokens").as_i64().unwrap_or(0);
            let kept = drafts[0].get("metadata").get("reported_cost_difference_usd").and_then(|text| text.as_str());
            assert_eq!((found, kept), (hour, difference), "{cost}");
            let counted = difference.map(|_| "claude/claude-sonnet-4-5-20250929".to_owned());
            assert_eq!(drafts[0].cost_differs, counted, "{cost}");
        }
    }

    #[test]
    fn an_answer_that_was_made_up_is_no_call_and_a_speed_is_a_tier() {
        let mut event = request("api_request");
        let mut attributes = Attributes::from([("model", SYNTHETIC.into()), ("event.name", "api_request".into())]);
        event.attributes = attributes.clone();
        assert_eq!(read(&Otlp::default(), "claude-code", event.clone()), []);
        attributes = Attributes::from([("speed", "fast".into()), ("event.name", "api_request".into())]);
        attributes.insert("thinking_tokens".into(), 5.into());
        event.attributes = attributes;
        let drafts = read(&Otlp::default(), "claude-code", event);
        assert_eq!(drafts[0].get("service_tier"), "fast");
        assert_eq!(drafts[0].get("metadata")["tallyd.not_understood"], "thinking_tokens");
    }
}
