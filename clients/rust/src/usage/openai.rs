//! Usage in OpenAI's form, which many vendors use.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tallyd_protocol::Record;

use super::{Counts, Doubts, charged, list, noted, owned, text, tier, units};

/// The record of a complete answer in OpenAI's form: chat completions, completions, embeddings, responses, images,
/// transcriptions, realtime. None without usage. The provider is `openai`: change it for another vendor.
#[must_use]
pub fn openai(answer: &Value) -> Option<Record> {
    let usage = &answer["usage"];
    let fields = usage.as_object().filter(|usage| !usage.is_empty())?;
    let doubts = Doubts::default();
    let mut counts = Counts::of(usage, "usage", &doubts);
    let names = Names::of(fields);
    let (asked, said) = (|name: &str| names.asked(name), |name: &str| names.said(name));
    let [prompt, completion] = [&names.prompt, &names.completion];
    let (mut whole, mut output) = (counts.count(prompt), counts.count(completion));
    let cached = counts.one([
        asked("cached_tokens").as_str(),
        "prompt_cache_hit_tokens",
        "cached_tokens",
        "cache_read_input_tokens",
    ]);
    let written = counts.one([
        asked("cache_write_tokens").as_str(),
        asked("cache_creation_tokens").as_str(),
        "cache_creation_input_tokens",
    ]);
    let hour = counts.count(&asked("cache_creation_token_details.ephemeral_1h_input_tokens"));
    let (heard, seen) = (counts.count(&asked("audio_tokens")), counts.count(&asked("image_tokens")));
    let heard_again = counts.count(&asked("cached_tokens_details.audio_tokens"));
    let seen_again = counts.count(&asked("cached_tokens_details.image_tokens"));
    let (spoken, drawn) = (counts.count(&said("audio_tokens")), counts.count(&said("image_tokens")));
    let (thoughts, total) = (counts.count(&said("reasoning_tokens")), counts.count("total_tokens"));
    let searches = counts.one(["server_tool_use.web_search_requests", asked("web_search_requests").as_str()]);
    let seconds = if usage["type"] == "duration" { counts.number("seconds") } else { 0.0 };
    names.mark_parts(&mut counts);
    // Embeddings and rankings of some vendors have a total only.
    if answer["object"] == "list" && whole == 0 && output == 0 {
        whole = total;
    }
    let sum = whole.saturating_add(output);
    if total > 0 && total == sum.saturating_add(thoughts) {
        output = total.saturating_sub(whole);
    } else if total > 0 && total != sum {
        counts.doubt("total_tokens");
    }
    if cached > 0 && heard.saturating_add(seen) > 0 && counts.get(&asked("cached_tokens_details")).is_null() {
        counts.doubt(&asked("cached_tokens"));
    }
    let heard_new = counts.less(&asked("audio_tokens"), heard, [heard_again]);
    let seen_new = counts.less(&asked("image_tokens"), seen, [seen_again]);
    let cache_read_tokens = counts.less(&asked("cached_tokens"), cached, [heard_again, seen_again]);
    let input_tokens = counts.less(prompt, whole, [cached, written, heard_new, seen_new]);
    let output_tokens = counts.less(completion, output, [spoken, drawn]);
    let cache_write_5m_tokens = counts.less(&asked("cache_creation_token_details"), written, [hour]);
    doubt_attempts(usage, &counts);
    let cost_usd = charged(&mut counts);
    counts.rest();
    let items = Items::of(answer, &doubts);
    let mut extra_units = units([
        ("audio_cache_read_token", heard_again),
        ("audio_input_token", heard_new),
        ("audio_output_token", spoken),
        ("code_interpreter", items.code_interpreter),
        ("file_search", items.file_search),
        ("image_cache_read_token", seen_again),
        ("image_generation", items.image_generation),
        ("image_input_token", seen_new),
        ("image_output_token", drawn),
        ("web_search", searches.saturating_add(items.web_search)),
    ]);
    if seconds > 0.0 {
        extra_units.push(("audio_second".into(), seconds.to_string().into()));
        extra_units.sort();
    }
    let own_tier = if answer["service_tier"].is_null() { &usage["service_tier"] } else { &answer["service_tier"] };
    Some(Record {
        provider: "openai".into(),
        model: owned(&answer["model"]),
        input_tokens,
        output_tokens,
        cache_read_tokens,
        cache_write_5m_tokens,
        cache_write_1h_tokens: hour,
        extra_units,
        service_tier: tier([own_tier, &usage["speed"], &usage["inference_geo"]]),
        cost_usd,
        metadata: noted(&doubts, Map::new()),
        ..Record::default()
    })
}

/// The names in this vendor's usage.
struct Names {
    prompt: String,
    completion: String,
    asked: String,
    said: String,
}

impl Names {
    fn of(usage: &Map<String, Value>) -> Self {
        let is_new = usage.contains_key("input_tokens");
        let [prompt, completion] = if is_new { ["input", "output"] } else { ["prompt", "completion"] };
        // Realtime and transcriptions use the singular.
        let details = |name: &str| {
            let singular = format!("{name}_token_details");
            if usage.contains_key(&singular) { singular } else { format!("{name}_tokens_details") }
        };
        Self {
            asked: details(prompt),
            said: details(completion),
            prompt: format!("{prompt}_tokens"),
            completion: format!("{completion}_tokens"),
        }
    }

    fn asked(&self, name: &str) -> String {
        format!("{}.{name}", self.asked)
    }

    fn said(&self, name: &str) -> String {
        format!("{}.{name}", self.said)
    }

    fn mark_parts(&self, counts: &mut Counts<'_>) {
        counts.part([
            self.asked("text_tokens").as_str(),
            self.asked("cached_tokens_details.text_tokens").as_str(),
            self.asked("cache_creation_token_details.ephemeral_5m_input_tokens").as_str(),
            self.said("text_tokens").as_str(),
            self.said("accepted_prediction_tokens").as_str(),
            self.said("rejected_prediction_tokens").as_str(),
            "prompt_cache_miss_tokens",
            "server_tool_use.web_fetch_requests",
            "iterations",
        ]);
    }
}

/// Doubts attempts in LiteLLM's sums, which include unbilled attempts of Anthropic and those of other models.
fn doubt_attempts(usage: &Value, counts: &Counts<'_>) {
    for kind in list(&usage["iterations"]).iter().map(|one| text(&one["type"])) {
        if kind != "message" && kind != "compaction" {
            counts.doubt(&format!("iterations.{kind}"));
        }
    }
}

/// Whether the shell runs on the application's side.
fn is_local(environment: &Value) -> bool {
    environment.is_null() || environment == "local"
}

/// Units that a response's items, or a model that always searches, cost in addition to tokens.
#[derive(Default)]
struct Items {
    web_search: u64,
    file_search: u64,
    image_generation: u64,
    code_interpreter: u64,
}

impl Items {
    fn of(answer: &Value, doubts: &Doubts) -> Self {
        let mut items = Self::default();
        let mut containers = BTreeSet::new();
        let model = text(&answer["model"]);
        let always_searches = model.contains("-search-preview") || model.contains("-search-api");
        if always_searches && text(&answer["object"]).starts_with("chat.completion") {
            items.web_search = 1;
        }
        for item in list(&answer["output"]) {
            let is_done = item["status"].is_null() || item["status"] == "completed";
            match text(&item["type"]) {
                // Opening a page, or searching in one, is not billed.
                "web_search_call" => {
                    let is_search = matches!(text(&item["action"]["type"]), "" | "search");
                    items.web_search += u64::from(is_done && is_search);
                }
                "file_search_call" => items.file_search += u64::from(is_done),
                "image_generation_call" => items.image_generation += u64::from(item["status"] != "failed"),
                "code_interpreter_call" => {
                    let container = text(&item["container_id"]);
                    items.code_interpreter += u64::from(container.is_empty() || containers.insert(container));
                }
                // These cost only their tokens.
                "function_call" | "custom_tool_call" | "computer_call" | "mcp_call" | "local_shell_call"
                | "apply_patch_call" | "tool_search_call" => {}
                "shell_call" if is_local(&item["environment"]["type"]) => {}
                other if other.ends_with("_call") => doubts.add(format!("output.{other}")),
                _ => {}
            }
        }
        items
    }
}
