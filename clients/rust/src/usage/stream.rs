//! The usage of a stream of events.

use serde_json::{Map, Value, json};
use tallyd_protocol::Record;

use super::{anthropic, google, list, openai, text};

/// Collects the usage of a stream's events, in the form of Anthropic, OpenAI or Gemini. An incomplete stream has its usage so
/// far, and `incomplete` in its metadata.
///
/// OpenAI sends a streamed chat's usage only if the request has `stream_options.include_usage`.
#[derive(Debug, Default, Clone)]
pub struct StreamUsage {
    /// Anthropic's message. Its usage is cumulative, so the last count wins.
    message: Map<String, Value>,
    /// Gemini's answer, made of the events' last values.
    answer: Map<String, Value>,
    openai: Option<Record>,
    /// Whether the last event with usage has arrived.
    is_whole: bool,
}

impl StreamUsage {
    /// Takes the JSON of one event's `data:`. `[DONE]` is not JSON: leave it out.
    pub fn event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("message_start") => {
                self.message = event["message"].as_object().cloned().unwrap_or_default();
            }
            Some("message_delta") => {
                self.gather(&event["usage"]);
                self.message.insert("stop_reason".to_owned(), event["delta"]["stop_reason"].clone());
            }
            Some("message_stop") => self.is_whole = true,
            Some(kind) if kind.starts_with("response.") => self.of_openai(&event["response"]),
            _ if event.get("usageMetadata").is_some() || event.get("candidates").is_some() => self.of_google(event),
            _ => self.of_openai(event),
        }
    }

    fn gather(&mut self, usage: &Value) {
        let said = usage.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let known = self.message.entry("usage").or_insert(Value::Null);
        if !known.is_object() {
            *known = json!({});
        }
        if let Some(known) = known.as_object_mut() {
            known.extend(said.map(|(name, value)| (name.clone(), value.clone())));
        }
    }

    fn of_openai(&mut self, answer: &Value) {
        if let Some(record) = openai(answer) {
            self.openai = Some(record);
        }
    }

    fn of_google(&mut self, event: &Value) {
        let candidates = list(&event["candidates"]);
        self.is_whole |= candidates.iter().any(|one| !text(&one["finishReason"]).is_empty());
        for name in ["modelVersion", "usageMetadata"] {
            if !event[name].is_null() {
                self.answer.insert(name.to_owned(), event[name].clone());
            }
        }
        if candidates.iter().any(|one| one.get("groundingMetadata").is_some()) {
            self.answer.insert("candidates".to_owned(), event["candidates"].clone());
        }
    }

    /// The record of the usage so far; None without usage.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        if let Some(record) = &self.openai {
            return Some(record.clone());
        }
        let message = anthropic(&Value::Object(self.message.clone()));
        let mut record = message.or_else(|| google(&Value::Object(self.answer.clone())))?;
        if !self.is_whole {
            let own = record.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let mut metadata: Map<String, Value> = own.unwrap_or_default();
            metadata.insert("incomplete".to_owned(), json!(true));
            record.metadata = Some(Value::Object(metadata).to_string().into());
        }
        Some(record)
    }
}
