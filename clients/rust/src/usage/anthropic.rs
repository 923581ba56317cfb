//! Usage in Anthropic's form.

use serde_json::{Map, Value, json};
use tallyd_protocol::Record;

use super::{Counts, Doubts, charged, list, noted, owned, text, tier, units};

/// The record of a complete answer of Anthropic's Messages API. None without usage.
///
/// ```
/// let body = serde_json::json!({"model": "claude-sonnet-4-5", "usage": {"input_tokens": 12, "output_tokens": 5}});
/// let record = tallyd_client::usage::anthropic(&body).expect("it has a usage").user("u-42");
/// assert_eq!((record.input_tokens, record.output_tokens), (12, 5));
/// ```
#[must_use]
pub fn anthropic(message: &Value) -> Option<Record> {
    let usage = &message["usage"];
    if usage.get("input_tokens").is_none() && usage.get("output_tokens").is_none() {
        return None;
    }
    let doubts = Doubts::default();
    let mut counts = Counts::of(usage, "usage", &doubts);
    let mut used = buckets(&mut counts);
    let mut more = Map::new();
    // A refusal before any output is not billed.
    if message["stop_reason"] == "refusal" && used[1] == 0 {
        used = [0; 5];
        more.insert("unbilled".to_owned(), json!("refusal"));
    }
    let searches = counts.count("server_tool_use.web_search_requests");
    counts.part(["server_tool_use.web_fetch_requests", "iterations", "fallback_credit"]);
    for iteration in list(&usage["iterations"]) {
        match text(&iteration["type"]) {
            "compaction" => {
                let mut own = Counts::of(iteration, "usage.iterations.compaction", &doubts);
                let beside = buckets(&mut own);
                used = std::array::from_fn(|at| used[at].saturating_add(beside[at]));
                own.rest();
            }
            // Billed ones are part of the answer's own counts.
            "message" | "fallback_message" => {}
            other => counts.doubt(&format!("iterations.{other}")),
        }
    }
    // The bill then counts some cache writes as reads, and the usage does not say how many.
    if usage["fallback_credit"]["status"]["type"] == "redeemed" {
        counts.doubt("fallback_credit");
    }
    let cost_usd = charged(&mut counts);
    counts.rest();
    let [input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens] = used;
    Some(Record {
        provider: "claude".into(),
        model: owned(&message["model"]),
        input_tokens,
        output_tokens,
        cache_read_tokens,
        cache_write_5m_tokens,
        cache_write_1h_tokens,
        extra_units: units([("web_search", searches)]),
        service_tier: tier([&usage["service_tier"], &usage["speed"], &usage["inference_geo"]]),
        cost_usd,
        metadata: noted(&doubts, more),
        ..Record::default()
    })
}

/// The buckets of an answer or of one iteration: input, output, cache read, 5-minute and 1-hour cache write.
fn buckets(counts: &mut Counts<'_>) -> [u64; 5] {
    let [input, output, read] =
        ["input_tokens", "output_tokens", "cache_read_input_tokens"].map(|name| counts.count(name));
    let written = counts.count("cache_creation_input_tokens");
    let five = counts.count("cache_creation.ephemeral_5m_input_tokens");
    let hour = counts.count("cache_creation.ephemeral_1h_input_tokens");
    counts.part(["output_tokens_details"]);
    // Writes that the split leaves out are those of five minutes, the default.
    if written >= five.saturating_add(hour) {
        return [input, output, read, written - hour, hour];
    }
    if written > 0 {
        counts.doubt("cache_creation_input_tokens");
    }
    [input, output, read, five, hour]
}
