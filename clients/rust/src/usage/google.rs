//! Usage in the form of Gemini, at Google or on Vertex.

use serde_json::{Map, Value};
use tallyd_protocol::Record;

use super::{Counts, Doubts, StreamUsage, list, noted, owned, text, tier, units};

const MODALITIES: [&str; 6] = ["TEXT", "AUDIO", "IMAGE", "VIDEO", "DOCUMENT", "MODALITY_UNSPECIFIED"];

/// The record of a complete answer of Gemini, or of the array of a stream's events. None without usage.
#[must_use]
pub fn google(answer: &Value) -> Option<Record> {
    if let Some(events) = answer.as_array() {
        let mut stream = StreamUsage::default();
        events.iter().for_each(|event| stream.event(event));
        return stream.record();
    }
    let meta = &answer["usageMetadata"];
    let fields = meta.as_object().filter(|meta| !meta.is_empty())?;
    let doubts = Doubts::default();
    let mut counts = Counts::of(meta, "usageMetadata", &doubts);
    let [prompt, cached, tool] =
        ["promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"].map(|name| counts.count(name));
    let said = counts.one(["candidatesTokenCount", "responseTokenCount"]);
    let [thoughts, total] = ["thoughtsTokenCount", "totalTokenCount"].map(|name| counts.count(name));
    let [asked, again, tools, candidates, responses] = [
        "promptTokensDetails",
        "cacheTokensDetails",
        "toolUsePromptTokensDetails",
        "candidatesTokensDetails",
        "responseTokensDetails",
    ]
    .map(|name| {
        counts.part([name]);
        Modalities::of(&meta[name], name, &doubts)
    });
    let heard = asked.sum(&["AUDIO"]).saturating_add(tools.sum(&["AUDIO"]));
    let heard_again = again.sum(&["AUDIO"]);
    let spoken = candidates.sum(&["AUDIO"]).saturating_add(responses.sum(&["AUDIO"]));
    let drawn = candidates.sum(&["IMAGE"]).saturating_add(responses.sum(&["IMAGE"]));
    // Only Live models have a rate of their own for image and video input.
    let seen = if fields.contains_key("responseTokenCount") { asked.sum(&["IMAGE", "VIDEO"]) } else { 0 };
    let sum = [prompt, said, thoughts, tool].into_iter().fold(0, u64::saturating_add);
    if total > 0 && total != sum {
        counts.doubt("totalTokenCount");
    }
    if cached > 0 && heard > 0 && !meta["cacheTokensDetails"].is_array() {
        counts.doubt("cachedContentTokenCount");
    }
    let heard_new = counts.less("promptTokensDetails", heard, [heard_again]);
    let input_tokens = counts.less("promptTokenCount", prompt.saturating_add(tool), [cached, heard_new, seen]);
    let cache_read_tokens = counts.less("cachedContentTokenCount", cached, [heard_again]);
    let output_tokens = counts.less("candidatesTokenCount", said, [spoken, drawn]).saturating_add(thoughts);
    counts.rest();
    let (web_search, maps_search) = grounded(answer);
    let traffic = if meta["serviceTier"].is_null() { &meta["trafficType"] } else { &meta["serviceTier"] };
    let traffic = if text(traffic).ends_with("UNSPECIFIED") { &Value::Null } else { traffic };
    Some(Record {
        provider: "google".into(),
        model: owned(&answer["modelVersion"]),
        input_tokens,
        output_tokens,
        cache_read_tokens,
        extra_units: units([
            ("audio_cache_read_token", heard_again),
            ("audio_input_token", heard_new),
            ("audio_output_token", spoken),
            ("image_input_token", seen),
            ("image_output_token", drawn),
            ("maps_search", maps_search),
            ("web_search", web_search),
        ]),
        service_tier: tier([traffic, &Value::Null, &Value::Null]),
        metadata: noted(&doubts, Map::new()),
        ..Record::default()
    })
}

/// Tokens by modality.
struct Modalities<'a>(Vec<(&'a str, u64)>);

impl<'a> Modalities<'a> {
    fn of(details: &'a Value, name: &str, doubts: &'a Doubts) -> Self {
        let told = list(details).iter().map(|one| {
            let modality = one["modality"].as_str().filter(|name| !name.is_empty()).unwrap_or("MODALITY_UNSPECIFIED");
            if !MODALITIES.contains(&modality) {
                doubts.add(format!("usageMetadata.{name}.{modality}"));
            }
            (modality, Counts::of(one, format!("usageMetadata.{name}"), doubts).count("tokenCount"))
        });
        Self(told.collect())
    }

    fn sum(&self, modalities: &[&str]) -> u64 {
        let of = self.0.iter().filter(|(modality, _)| modalities.contains(modality));
        of.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// Units of web and maps searches: up to Gemini 2.5 one per prompt, from Gemini 3 on one per query.
fn grounded(answer: &Value) -> (u64, u64) {
    let (mut queries, mut maps) = (0, 0);
    for candidate in list(&answer["candidates"]) {
        let grounding = &candidate["groundingMetadata"];
        queries += list(&grounding["webSearchQueries"]).iter().filter(|query| **query != "").count() as u64;
        if list(&grounding["groundingChunks"]).iter().any(|chunk| chunk.get("maps").is_some()) {
            maps = 1;
        }
    }
    let version = text(&answer["modelVersion"]).strip_prefix("gemini-").unwrap_or_default();
    let digits = version.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    let is_by_query = digits.parse::<u32>().is_ok_and(|generation| generation >= 3);
    (if is_by_query { queries } else { queries.min(1) }, maps)
}
