//! LiteLLM's map: an object of models, each an object of fields. Rates are USD per unit. A rate's name has the unit,
//! then the prompt size above which it applies, then the service tier
//! (`input_cost_per_token_above_200k_tokens_batches`).

use std::borrow::Cow;

use crate::json::Value;
use crate::json::value::Map;

use super::{ImportOptions, Imported, amount, tier_mut};
use crate::pricing::Usd;
use crate::pricing::catalog::{PriceSpec, Rates, SizeTier};
use crate::pricing::names::normalise_provider;

/// Suffixes of names, with their service tiers.
const TIERS: [(&str, &str); 7] = [
    ("_batches", "batch"),
    ("_priority", "priority"),
    ("_flex", "flex"),
    ("_fast", "fast"),
    ("_balanced", "balanced"),
    ("_ultrafast", "ultrafast"),
    ("_decisions", "decisions"),
];
/// Rates and their units: the five token buckets, `request`, and names of `extra_units`.
const RATES: [(&str, &str); 34] = [
    ("input_cost_per_token", "input"),
    ("output_cost_per_token", "output"),
    ("cache_read_input_token_cost", "cache_read"),
    ("input_cost_per_token_cache_hit", "cache_read"),
    ("cache_creation_input_token_cost", "cache_write_5m"),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h"),
    ("input_cost_per_audio_token", "audio_input_token"),
    ("output_cost_per_audio_token", "audio_output_token"),
    ("cache_read_input_audio_token_cost", "audio_cache_read_token"),
    ("cache_creation_input_audio_token_cost", "audio_cache_write_token"),
    ("input_cost_per_image_token", "image_input_token"),
    ("output_cost_per_image_token", "image_output_token"),
    ("cache_read_input_image_token_cost", "image_cache_read_token"),
    ("input_cost_per_video_token", "video_input_token"),
    ("output_cost_per_video_token", "video_output_token"),
    ("input_cost_per_character", "character"),
    ("output_cost_per_character", "output_character"),
    ("input_cost_per_image", "image_input"),
    ("output_cost_per_image", "image"),
    ("input_cost_per_pixel", "pixel_input"),
    ("output_cost_per_pixel", "pixel"),
    ("input_cost_per_second", "second"),
    ("cost_per_second", "second"),
    ("input_cost_per_audio_per_second", "audio_second"),
    ("input_cost_per_video_per_second", "video_input_second"),
    ("output_cost_per_video_per_second", "video_second"),
    ("output_cost_per_second", "video_second"),
    ("input_cost_per_query", "request"),
    ("input_cost_per_request", "request"),
    ("ocr_cost_per_page", "page"),
    ("annotation_cost_per_page", "annotated_page"),
    ("google_maps_grounding_cost_per_query", "maps_search"),
    ("code_interpreter_cost_per_session", "code_interpreter"),
    ("guardrail_cost_per_unit", "guardrail_unit"),
];
/// Rates whose names end in a resolution or size, which becomes a part of the unit's name.
const SIZED: [(&str, &str); 2] = [("output_cost_per_second_", "video_second_"), ("output_cost_per_image_", "image_")];
/// Fields that do not concern prices.
const OTHER: [&str; 18] = [
    "litellm_provider",
    "mode",
    "source",
    "metadata",
    "deprecation_date",
    "supported_endpoints",
    "supported_modalities",
    "supported_output_modalities",
    "supported_regions",
    "prompt_cache_min_tokens",
    "tool_use_system_prompt_tokens",
    "token_count_model",
    "rpm",
    "tpm",
    "rpd",
    "comment",
    "thinking_always_on",
    "bedrock_output_pricing_unit",
];

pub(super) fn read(models: &Map, options: &ImportOptions) -> Imported {
    let mut imported = Imported::default();
    for (name, fields) in models {
        let Value::Object(fields) = fields else { continue };
        let listed = fields.get("litellm_provider").and_then(Value::as_str).unwrap_or_default();
        let provider = if listed.starts_with("vertex_ai") { "vertex".into() } else { normalise_provider(listed) };
        if provider.is_empty() || !options.wants(&provider) {
            continue;
        }
        let lower = name.to_lowercase();
        let (model, is_named) = without_provider(&lower, &provider);
        imported.entry(fields.iter().any(|(field, value)| field.contains("cost") && is_positive(value)));
        read_model(&mut imported, options, &provider, (model, is_named), fields);
    }
    imported
}

/// A name without the provider before it, and whether there was one.
fn without_provider<'n>(name: &'n str, provider: &str) -> (&'n str, bool) {
    match name.split_once('/') {
        Some((first, rest)) if normalise_provider(first) == provider => (rest, true),
        _ => (name, false),
    }
}

fn is_positive(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.parse().is_ok_and(|number: f64| number > 0.0),
        Value::Object(values) => values.values().any(is_positive),
        _ => false,
    }
}

/// The rates of one service tier.
#[derive(Default)]
struct Tier {
    rates: Rates,
    above: Vec<SizeTier>,
}

fn read_model(
    imported: &mut Imported,
    options: &ImportOptions,
    provider: &str,
    (model, is_named): (&str, bool),
    fields: &Map,
) {
    if fields.contains_key("off_peak_pricing") {
        return imported.skip(model, "its price depends on the time of day");
    }
    let mut tiers: Vec<(Cow<'_, str>, Tier)> = vec![("standard".into(), Tier::default())];
    for (field, value) in fields {
        if !read_field(&mut tiers, field, value) {
            imported.unread(field);
        }
    }
    tell_apart(imported, fields, &mut tiers);
    let standard = Tier { rates: tiers[0].1.rates.clone(), above: tiers[0].1.above.clone() };
    for (_, tier) in tiers.iter_mut().skip(1) {
        complete(tier, &standard);
    }
    if let Some(factors) = fields.get("provider_specific_entry") {
        add_factors(imported, &mut tiers, factors);
    }
    for (service_tier, tier) in tiers {
        let spec = PriceSpec {
            provider: provider.to_owned(),
            model: model.to_owned(),
            service_tier: service_tier.into_owned(),
            effective_from_us: options.from_us,
            rates: tier.rates,
            above: tier.above,
            source: options.source.clone(),
            source_date: options.source_date.clone(),
        };
        imported.take(spec, is_named);
    }
}

/// Reads one field. Returns false if it is unknown or does not fit exactly; its unit then does not have a rate.
fn read_field(tiers: &mut Vec<(Cow<'_, str>, Tier)>, field: &str, value: &Value) -> bool {
    if OTHER.contains(&field)
        || ["supports_", "max_", "search_free_", "provider_specific_", "output_cost_per_reasoning_"]
            .iter()
            .any(|start| field.starts_with(start))
    {
        return true;
    }
    if field == "search_context_cost_per_query" {
        return read_search(&mut tiers[0].1.rates, value);
    }
    let Some((unit, above, service_tier)) = parse_name(field) else { return false };
    let rate = match value {
        Value::Number(number) => amount(number, 1),
        Value::Null => return true,
        _ => return false,
    };
    let Ok(rate) = rate else { return false };
    let at = tiers.iter().position(|(name, _)| *name == service_tier).unwrap_or_else(|| {
        tiers.push((service_tier.into(), Tier::default()));
        tiers.len() - 1
    });
    let tier = &mut tiers[at].1;
    let rates = above.map_or(&mut tier.rates, |size| tier_mut(&mut tier.above, size));
    // Lists write 0 for vendors without a price for cache writes.
    if rate > Usd::ZERO || !unit.starts_with("cache_write") {
        rates.set(&unit, rate);
    }
    true
}

/// A rate's unit, the prompt size above which it applies, and its service tier.
fn parse_name(field: &str) -> Option<(String, Option<u64>, &'static str)> {
    let ends = TIERS.iter().find_map(|(end, tier)| field.strip_suffix(end).map(|rest| (rest, *tier)));
    let (rest, tier) = ends.unwrap_or((field, "standard"));
    let size = rest.strip_suffix("k_tokens").and_then(|rest| rest.rsplit_once("_above_"));
    let (rest, above) = match size {
        Some((rest, thousands)) => (rest, Some(thousands.parse::<u64>().ok()?.checked_mul(1_000)?)),
        None => (rest, None),
    };
    if let Some((_, unit)) = RATES.iter().find(|(name, _)| *name == rest) {
        return Some(((*unit).to_owned(), above, tier));
    }
    let sized = SIZED.iter().find_map(|(start, unit)| Some((unit, rest.strip_prefix(start)?)));
    let (unit, size) = sized.filter(|(_, size)| !size.is_empty() && !size.contains('_'))?;
    Some((format!("{unit}{}", size.to_lowercase()), above, tier))
}

/// Units whose meaning depends on another field.
fn tell_apart(imported: &mut Imported, fields: &Map, tiers: &mut [(Cow<'_, str>, Tier)]) {
    let mode = fields.get("mode").and_then(Value::as_str).unwrap_or_default();
    let standard = &mut tiers[0].1.rates;
    // Speech is billed by the second of audio. The same charge may also be listed as one for written tokens.
    if mode == "audio_transcription"
        && let Some(rate) = standard.remove("second").or_else(|| standard.remove("video_second"))
    {
        standard.remove("video_second");
        standard.set("audio_second", rate);
    }
    // An image model's charge per image, under another name.
    if mode == "image_generation"
        && standard.rate("image").is_none()
        && let Some(rate) = standard.remove("image_input")
    {
        standard.set("image", rate);
    }
    let reasoning = fields.get("output_cost_per_reasoning_token").and_then(|value| match value {
        Value::Number(number) => amount(number, 1).ok(),
        _ => None,
    });
    let is_apart = reasoning.is_some() && reasoning != standard.output;
    // Output of such a model is an image: its tokens are a unit of their own, and never have text's rate.
    let is_image = mode == "image_generation" && standard.rate("image_output_token").is_some();
    if is_apart {
        imported.unread("output_cost_per_reasoning_token");
    }
    if is_apart || is_image {
        for (_, tier) in tiers {
            tier.rates.output = None;
            tier.above.iter_mut().for_each(|above| above.rates.output = None);
        }
    }
}

/// Rates for all service tiers, and sizes that do not have a rate in this tier and therefore no price.
fn complete(tier: &mut Tier, standard: &Tier) {
    for (unit, rate) in &standard.rates.extra {
        if !unit.ends_with("_token") && tier.rates.rate(unit).is_none() {
            tier.rates.set(unit, *rate);
        }
    }
    tier.rates.request = tier.rates.request.or(standard.rates.request);
    if tier.above.is_empty() {
        let unknown = |above: &SizeTier| SizeTier { prompt_tokens: above.prompt_tokens, rates: Rates::default() };
        tier.above = standard.above.iter().map(unknown).collect();
    }
}

/// Anthropic's modifiers, which this list states as factors: `{"us": 1.1, "fast": 2}`.
fn add_factors(imported: &mut Imported, tiers: &mut Vec<(Cow<'_, str>, Tier)>, factors: &Value) {
    let factor = |name: &str| match factors.get(name) {
        Some(Value::Number(number)) => amount(number, 1).ok(),
        _ => None,
    };
    if let Some(factor) = factor("fast")
        && !tiers.iter().any(|(name, _)| name == "fast")
    {
        match times(&tiers[0].1, factor) {
            Some(tier) => tiers.push(("fast".into(), tier)),
            None => imported.unread("provider_specific_entry.fast"),
        }
    }
    if let Some(factor) = factor("us") {
        let bases = tiers.iter().filter(|(name, _)| ["standard", "batch", "fast"].contains(&name.as_ref()));
        let named = bases.map(|(name, tier)| {
            let name = if name == "standard" { "us".to_owned() } else { format!("{name}+us") };
            Some((Cow::Owned(name), times(tier, factor)?))
        });
        match named.collect::<Option<Vec<_>>>() {
            Some(more) => tiers.extend(more),
            None => imported.unread("provider_specific_entry.us"),
        }
    }
    for name in
        factors.as_object().into_iter().flat_map(Map::keys).filter(|name| !["us", "fast"].contains(&name.as_str()))
    {
        imported.unread(&format!("provider_specific_entry.{name}"));
    }
}

/// Every token rate times a factor; none if one does not fit exactly.
fn times(tier: &Tier, factor: Usd) -> Option<Tier> {
    const ONE: i128 = 1_000_000_000_000_000_000;
    let scaled = |rates: &Rates| {
        let mut scaled = rates.clone();
        for rate in scaled.token_rates_mut().into_iter().flatten() {
            let product = rate.attos().checked_mul(factor.attos())?;
            *rate = (product % ONE == 0).then(|| Usd::from_attos(product / ONE))?;
        }
        Some(scaled)
    };
    let above = tier
        .above
        .iter()
        .map(|above| Some(SizeTier { prompt_tokens: above.prompt_tokens, rates: scaled(&above.rates)? }));
    Some(Tier { rates: scaled(&tier.rates)?, above: above.collect::<Option<_>>()? })
}

/// A search's price, if it is the same for every size of context: usage records do not have the size.
fn read_search(rates: &mut Rates, value: &Value) -> bool {
    let Value::Object(sizes) = value else { return false };
    let prices = sizes.values().map(|price| match price {
        Value::Number(number) => amount(number, 1).ok(),
        _ => None,
    });
    match prices.collect::<Option<Vec<_>>>().as_deref() {
        Some([first, rest @ ..]) if rest.iter().all(|price| price == first) => {
            rates.set("web_search", *first);
            true
        }
        _ => false,
    }
}
