//! What a vendor's answer says was used, as a record. Pure: JSON in, record out.
//!
//! A record's token buckets are disjoint; vendors differ in what they count twice:
//!
//! * Anthropic's `input_tokens` leave out everything cached. `cache_creation` splits writes by lifetime; without it they are of five
//!   minutes, the default there.
//! * OpenAI's `prompt_tokens` and `input_tokens` hold those read from and written to the cache, and those of audio, which have a
//!   price of their own and become extra units.
//!
//! What the catalog has no rate for makes the call *unpriced*, which somebody sees. Leaving it out would make it cheap.
//! `clients/vectors/usage.json` holds every client to the same reading.

use serde_json::Value;
use tallyd_protocol::Record;
use tallyd_protocol::record::Text;

/// The record of an answer of Anthropic's Messages API: the whole body. None if it has no usage.
///
/// ```
/// let body = serde_json::json!({"model": "claude-sonnet-4-5", "usage": {"input_tokens": 12, "output_tokens": 5}});
/// let record = tallyd_client::usage::anthropic(&body).expect("it has a usage").user("u-42");
/// assert_eq!((record.input_tokens, record.output_tokens), (12, 5));
/// ```
#[must_use]
pub fn anthropic(answer: &Value) -> Option<Record> {
    anthropic_usage(&answer["model"], &answer["usage"])
}

fn anthropic_usage(model: &Value, usage: &Value) -> Option<Record> {
    if usage.get("input_tokens").is_none() && usage.get("output_tokens").is_none() {
        return None;
    }
    let created = &usage["cache_creation"];
    let hour = count(&created["ephemeral_1h_input_tokens"]);
    let short = match count(&created["ephemeral_5m_input_tokens"]) {
        0 => count(&usage["cache_creation_input_tokens"]).saturating_sub(hour),
        short => short,
    };
    let tier = usage["service_tier"].as_str().filter(|tier| !tier.is_empty()).unwrap_or("standard");
    let tier = match (usage["speed"].as_str(), tier) {
        (Some("fast"), "standard") => "fast".to_owned(),
        (Some("fast"), tier) => format!("{tier}-fast"),
        (_, tier) => tier.to_owned(),
    };
    Some(Record {
        provider: "claude".into(),
        model: text(model),
        input_tokens: count(&usage["input_tokens"]),
        output_tokens: count(&usage["output_tokens"]),
        cache_read_tokens: count(&usage["cache_read_input_tokens"]),
        cache_write_5m_tokens: short,
        cache_write_1h_tokens: hour,
        extra_units: units([("web_search", count(&usage["server_tool_use"]["web_search_requests"]))]),
        service_tier: tier.into(),
        ..Record::default()
    })
}

/// The record of an answer of OpenAI's: chat completions, completions, embeddings, responses; the whole body. None if it has no usage.
#[must_use]
pub fn openai(answer: &Value) -> Option<Record> {
    let usage = answer["usage"].as_object().filter(|usage| !usage.is_empty())?;
    let usage_of = |name: &str| usage.get(name).unwrap_or(&Value::Null);
    let (prompt, completion) = match usage.contains_key("input_tokens") {
        true => ("input_tokens", "output_tokens"),
        false => ("prompt_tokens", "completion_tokens"),
    };
    let (asked, said) = (usage_of(&format!("{prompt}_details")), usage_of(&format!("{completion}_details")));
    let (cached, written) = (count(&asked["cached_tokens"]), count(&asked["cache_write_tokens"]));
    let (heard, spoken) = (count(&asked["audio_tokens"]), count(&said["audio_tokens"]));
    let calls = |kind: &str| {
        let items = answer["output"].as_array().into_iter().flatten();
        items.filter(|item| item["type"] == kind).count() as u64
    };
    let tier = match answer["service_tier"].as_str() {
        // Its names for what it charges the standard price for.
        None | Some("" | "default" | "auto") => Text::Borrowed("standard"),
        Some(tier) => tier.to_owned().into(),
    };
    Some(Record {
        provider: "openai".into(),
        model: text(&answer["model"]),
        input_tokens: count(usage_of(prompt)).saturating_sub(cached + written + heard),
        output_tokens: count(usage_of(completion)).saturating_sub(spoken),
        cache_read_tokens: cached,
        cache_write_5m_tokens: written,
        extra_units: units([
            ("audio_input_token", heard),
            ("audio_output_token", spoken),
            ("file_search", calls("file_search_call")),
            ("web_search", calls("web_search_call")),
        ]),
        service_tier: tier,
        ..Record::default()
    })
}

/// Gathers the usage of a stream of events, of either vendor. A stream that is left has what it had told until then.
///
/// OpenAI tells a streamed chat's usage only if `stream_options.include_usage` asks for it.
#[derive(Debug, Default, Clone)]
pub struct StreamUsage {
    model: Value,
    /// Anthropic's, which is cumulative: what is said last holds.
    usage: serde_json::Map<String, Value>,
    openai: Option<Record>,
}

impl StreamUsage {
    /// Takes the JSON of one event's `data:`; `[DONE]` is none.
    pub fn event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("message_start") => {
                self.model = event["message"]["model"].clone();
                self.gather(&event["message"]["usage"]);
            }
            Some("message_delta") => self.gather(&event["usage"]),
            Some(kind) if kind.starts_with("response.") => {
                if let Some(record) = openai(&event["response"]) {
                    self.openai = Some(record);
                }
            }
            _ if event["usage"].is_object() => self.openai = openai(event),
            _ => {}
        }
    }

    fn gather(&mut self, usage: &Value) {
        let said = usage.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        self.usage.extend(said.map(|(name, value)| (name.clone(), value.clone())));
    }

    /// The record of what was told until now; None if nothing was.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        let anthropic = anthropic_usage(&self.model, &Value::Object(self.usage.clone()));
        anthropic.or_else(|| self.openai.clone())
    }
}

/// A count; 0 where there is none.
fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn text(value: &Value) -> Text {
    value.as_str().unwrap_or_default().to_owned().into()
}

/// Those that were used, in the order of their names.
fn units<const N: usize>(counts: [(&'static str, u64); N]) -> Vec<(Text, Text)> {
    counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(unit, count)| (unit.into(), count.to_string().into()))
        .collect()
}
