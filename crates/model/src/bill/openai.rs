//! OpenAI's organization API: `/v1/organization/costs` and `/v1/organization/usage/…`.
//!
//! Buckets begin at `start_time`, seconds since 1970 in UTC. `amount.value` is a number of dollars. A `line_item`, if
//! costs are grouped by it, begins with the model's name (`gpt-4o-mini-2024-07-18, input`). `input_tokens` *include*
//! those from a cache. Usage of images and audio has no tokens. Described by <https://platform.openai.com/docs/api-reference/usage>, read on 2026-11-23 in
//! generated clients.

use std::collections::BTreeSet;

use crate::json::Value;
use chrono::{DateTime, NaiveDate};

use super::{BillError, BillPart, BillTokens, Kind, Line, Page, amount, count};
use crate::pricing::normalise_tier;

const PROVIDER: &str = "openai";
/// Results of usage by model, and their kinds.
const USAGE: [(&str, Kind); 6] = [
    ("organization.usage.completions.result", Kind::Usage),
    ("organization.usage.embeddings.result", Kind::Other("embeddings")),
    ("organization.usage.moderations.result", Kind::Other("moderations")),
    ("organization.usage.images.result", Kind::Other("images")),
    ("organization.usage.audio_speeches.result", Kind::Other("audio_speeches")),
    ("organization.usage.audio_transcriptions.result", Kind::Other("audio_transcriptions")),
];

pub(super) fn read(page: &mut Page<'_>, buckets: &[Value]) -> Result<(), BillError> {
    let mut kind = None;
    for bucket in buckets {
        let place = format!("the bucket of {}", bucket["start_time"]);
        let day = day(bucket).ok_or_else(|| page.wrong(&place, "start_time is not a number of seconds"))?;
        let mut kinds = BTreeSet::new();
        for result in bucket["results"].as_array().into_iter().flatten() {
            kinds.insert(read_result(page, day, &place, result)?);
        }
        for found in kinds {
            page.once(&place, found)?;
            kind = Some(found);
        }
    }
    if let Some(kind) = kind {
        for day in buckets.iter().filter_map(day) {
            page.covers(day, PROVIDER, kind);
        }
    }
    Ok(())
}

/// The day on which a bucket begins.
pub(super) fn day(bucket: &Value) -> Option<NaiveDate> {
    DateTime::from_timestamp(bucket["start_time"].as_i64()?, 0).map(|at| at.date_naive())
}

fn read_result(page: &mut Page<'_>, day: NaiveDate, place: &str, result: &Value) -> Result<Kind, BillError> {
    let object = result["object"].as_str().unwrap_or_default();
    if object == "organization.costs.result" {
        let Some(value) = result["amount"].get("value") else { return Ok(Kind::Cost) };
        let currency = result["amount"]["currency"].as_str().unwrap_or("usd");
        if !currency.eq_ignore_ascii_case("usd") {
            return Err(page.wrong(place, format!("amounts are in {currency}, and only USD is kept")));
        }
        // JSON numbers keep their digits here; some pages have text.
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let usd = amount(&text, 0).map_err(|reason| page.wrong(place, reason))?;
        let model = model_of(result["line_item"].as_str().unwrap_or_default());
        let part = BillPart { workspace: workspace(result), tier: String::new() };
        page.add_cost(Line { day, provider: PROVIDER, model, part }, place, usd)?;
        return Ok(Kind::Cost);
    }
    let kind = USAGE.iter().find(|(known, _)| *known == object).ok_or_else(|| page.unknown())?.1;
    let counts = ["input_tokens", "input_cached_tokens", "output_tokens"].map(|field| count(result, field));
    let read = |[input, cached, output]: [Result<u64, String>; 3]| Ok(tokens(input?, cached?, output?));
    let tokens = read(counts).map_err(|reason: String| page.wrong(place, reason))?;
    let model = result["model"].as_str().unwrap_or_default();
    let part = BillPart { workspace: workspace(result), tier: tier(result) };
    page.add_tokens(Line { day, provider: PROVIDER, model, part }, kind, tokens);
    Ok(kind)
}

fn workspace(result: &Value) -> String {
    result["project_id"].as_str().unwrap_or_default().to_owned()
}

/// A batch is told apart from the tiers.
fn tier(result: &Value) -> String {
    let is_batch = result["batch"] == Value::Bool(true);
    normalise_tier(if is_batch { "batch" } else { result["service_tier"].as_str().unwrap_or_default() }).into_owned()
}

/// Converts to disjoint buckets: the vendor's input includes cached tokens.
pub(super) const fn tokens(input: u64, cached: u64, output: u64) -> BillTokens {
    BillTokens { input: input.saturating_sub(cached), output, cache_read: cached, cache_write: 0, cache_write_1h: 0 }
}

/// The model at the beginning of a line item; empty for items without one (`web search tool calls`).
pub(super) fn model_of(line_item: &str) -> &str {
    match line_item.split_once(',') {
        Some((model, _)) => model.trim(),
        None if line_item.contains(' ') => "",
        None => line_item,
    }
}
