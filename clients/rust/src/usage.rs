//! Converts vendors' usage into records. Pure: JSON in, record out.
//!
//! A record's token buckets are disjoint; vendors differ in the tokens that they count twice:
//!
//! * Anthropic's `input_tokens` exclude cached tokens. A compaction is billed in addition to the answer; a declined attempt
//!   of a fallback is not billed.
//! * OpenAI's `prompt_tokens` and `input_tokens` include tokens read from and written to the cache, and audio and image
//!   tokens, which have rates of their own. Cached audio is part of both the cached tokens and the audio. Azure,
//!   OpenRouter, DeepSeek, Groq, Moonshot, xAI and LiteLLM use the same names, with some counts of their own.
//! * Gemini's prompt includes the cached content. Thoughts and the prompts of tools are separate.
//!
//! A unit without a rate in the catalog makes the call unpriced. So does a count that is not understood; its name goes into
//! the metadata. Leaving it out would make the call too cheap. `clients/vectors/usage.json` has cases for every client.

mod answers;
mod anthropic;
mod counts;
mod google;
mod openai;
mod stream;

use serde_json::{Map, Value, json};
use tallyd_protocol::record::Text;

pub use self::answers::{Family, NotAResult, record_of, record_of_result, records_of_batch};
pub use self::anthropic::anthropic;
use self::counts::{Counts, Doubts};
pub use self::google::google;
pub use self::openai::openai;
pub use self::stream::StreamUsage;

/// Tiers without an effect on the price. The daemon decides about all others.
const STANDARD: [&str; 6] = ["", "standard", "default", "auto", "global", "not_available"];

/// Tier, speed and region as one text: `batch+us`.
fn tier(parts: [&Value; 3]) -> Text {
    let told: Vec<&str> = parts.into_iter().map(text).filter(|part| !STANDARD.contains(part)).collect();
    if told.is_empty() { "standard".into() } else { told.join("+").into() }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn owned(value: &Value) -> Text {
    text(value).to_owned().into()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The units above 0, in the order of their names.
fn units<const N: usize>(counts: [(&'static str, u64); N]) -> Vec<(Text, Text)> {
    let used = counts.into_iter().filter(|(_, count)| *count > 0);
    let mut units: Vec<(Text, Text)> = used.map(|(unit, count)| (unit.into(), count.to_string().into())).collect();
    units.sort();
    units
}

/// The metadata text of `more` and the first doubt; None if both are empty.
fn noted(doubts: &Doubts, mut more: Map<String, Value>) -> Option<Text> {
    if let Some(name) = doubts.first() {
        more.insert("tallyd.not_understood".to_owned(), json!(name));
    }
    (!more.is_empty()).then(|| Value::Object(more).to_string().into())
}

/// The vendor's own charge in USD: `cost` of OpenRouter and Perplexity. With the caller's own key, OpenRouter's `cost` is its
/// fee, and the upstream vendor's charge is added. A cost of 0 counts only from OpenRouter; for other vendors it means
/// unknown.
fn charged(counts: &mut Counts<'_>) -> Option<Text> {
    let path = if counts.get("cost").get("total_cost").is_some() { "cost.total_cost" } else { "cost" };
    if counts.get(path).is_null() {
        return None;
    }
    let cost = counts.number(path);
    match counts.get("is_byok").as_bool() {
        Some(true) => Some((cost + counts.number("cost_details.upstream_inference_cost")).to_string().into()),
        Some(false) if counts.get(path).as_f64() == Some(0.0) => Some("0".into()),
        _ => (cost > 0.0).then(|| cost.to_string().into()),
    }
}
