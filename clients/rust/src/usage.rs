//! What a vendor's answer says was used, as a record. Pure: JSON in, record out.
//!
//! A record's token buckets are disjoint; vendors differ in what they count twice:
//!
//! * Anthropic's `input_tokens` leave out everything cached. A compaction is billed beside the answer, a declined attempt of a
//!   fallback is not.
//! * OpenAI's `prompt_tokens` and `input_tokens` hold those read from and written to the cache, and those of audio and pictures,
//!   which have prices of their own; cached audio is within the cached tokens and within the audio. Azure, OpenRouter, DeepSeek,
//!   Groq, Moonshot, xAI and LiteLLM spell their usage so, with some counts of their own.
//! * Gemini's prompt holds the cached content; thoughts and the prompts of tools stand beside.
//!
//! What the catalog has no rate for makes the call *unpriced*, which somebody sees, and so does what is not understood: its name goes
//! with the record, in its metadata. Leaving it out would make the call cheap. `clients/vectors/usage.json` holds every client to the
//! same reading.

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

/// Names that say nothing of the price. Every other one is the daemon's to know.
const STANDARD: [&str; 6] = ["", "standard", "default", "auto", "global", "not_available"];

/// Tier, speed and place in one: `batch+us`.
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

/// Those that were used, in the order of their names.
fn units<const N: usize>(counts: [(&'static str, u64); N]) -> Vec<(Text, Text)> {
    let used = counts.into_iter().filter(|(_, count)| *count > 0);
    let mut units: Vec<(Text, Text)> = used.map(|(unit, count)| (unit.into(), count.to_string().into())).collect();
    units.sort();
    units
}

/// Metadata, if there is any: what was not understood, and more.
fn noted(doubts: &Doubts, mut more: Map<String, Value>) -> Option<Text> {
    if let Some(name) = doubts.first() {
        more.insert("tallyd.not_understood".to_owned(), json!(name));
    }
    (!more.is_empty()).then(|| Value::Object(more).to_string().into())
}

/// What the vendor itself charges, in USD: OpenRouter's `cost`, and Perplexity's. With a key of one's own OpenRouter's is its fee, and
/// the vendor's charge comes beside it. A cost of 0 is one only where OpenRouter says so: others mean that they do not know.
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
