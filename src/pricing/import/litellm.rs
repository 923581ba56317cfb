//! LiteLLM's map: an object of models, each an object of fields. Rates are USD a token; a rate's name says its bucket,
//! then the prompt size above which it holds, then the service tier (`input_cost_per_token_above_200k_tokens_batches`).

use serde_json::{Map, Value};

use super::{ImportOptions, Imported, amount, tier_mut};
use crate::pricing::catalog::{PriceSpec, Rates, SizeTier};

/// LiteLLM's names of providers, where they are not ours.
const PROVIDERS: [(&str, &str); 3] =
    [("anthropic", "claude"), ("gemini", "google"), ("text-completion-openai", "openai")];
/// Ends of names, and the service tiers that they mean.
const TIERS: [(&str, &str); 3] = [("_batches", "batch"), ("_priority", "priority"), ("_flex", "flex")];
/// Fields that say nothing about prices.
const OTHER: [&str; 16] = [
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
    "rpm",
    "tpm",
    "rpd",
    "comment",
    "thinking_always_on",
];

pub(super) fn read(models: &Map<String, Value>, options: &ImportOptions) -> Imported {
    let mut imported = Imported::default();
    for (name, fields) in models {
        let Value::Object(fields) = fields else { continue };
        let listed = fields.get("litellm_provider").and_then(Value::as_str).unwrap_or_default();
        let provider = PROVIDERS.iter().find(|(theirs, _)| *theirs == listed).map_or(listed, |(_, ours)| ours);
        if !options.providers.iter().any(|wanted| wanted == provider) {
            continue;
        }
        let model = name.strip_prefix(listed).and_then(|name| name.strip_prefix('/')).unwrap_or(name);
        if model.contains('/') {
            imported.skip(name, "a regional or resold variant, which records do not name");
            continue;
        }
        read_model(&mut imported, options, provider, model, fields);
    }
    imported
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
    model: &str,
    fields: &Map<String, Value>,
) {
    let mut tiers: Vec<(&str, Tier)> = vec![("standard", Tier::default())];
    for (field, value) in fields {
        match read_field(&mut tiers, field, value) {
            Ok(true) => {}
            Ok(false) => imported.unread(field),
            Err(reason) => return imported.skip(model, format!("{field}: {reason}")),
        }
    }
    // One search price holds whatever the service tier.
    let extra = tiers[0].1.rates.extra.clone();
    for (service_tier, mut tier) in tiers {
        if service_tier != "standard" {
            tier.rates.extra.clone_from(&extra);
        }
        imported.take(PriceSpec {
            provider: provider.to_owned(),
            model: model.to_owned(),
            service_tier: service_tier.to_owned(),
            effective_from_us: options.from_us,
            rates: tier.rates,
            above: tier.above,
            source: options.source.clone(),
            source_date: options.source_date.clone(),
        });
    }
}

/// Reads one field. False if it is not known.
fn read_field(tiers: &mut Vec<(&'static str, Tier)>, field: &str, value: &Value) -> Result<bool, String> {
    if OTHER.contains(&field) || field.starts_with("supports_") || field.starts_with("max_") {
        return Ok(true);
    }
    if field == "search_context_cost_per_query" {
        return read_search(&mut tiers[0].1.rates, value);
    }
    let Some((bucket, above, service_tier)) = parse_name(field) else { return Ok(false) };
    let rate = match value {
        Value::Number(number) => amount(number, 1)?,
        Value::Null => return Ok(true),
        _ => return Ok(false),
    };
    let at = tiers.iter().position(|(name, _)| *name == service_tier).unwrap_or_else(|| {
        tiers.push((service_tier, Tier::default()));
        tiers.len() - 1
    });
    let tier = &mut tiers[at].1;
    let rates = above.map_or(&mut tier.rates, |size| tier_mut(&mut tier.above, size));
    *match bucket {
        Bucket::Input => &mut rates.input,
        Bucket::Output => &mut rates.output,
        Bucket::CacheRead => &mut rates.cache_read,
        Bucket::CacheWrite5m => &mut rates.cache_write_5m,
        Bucket::CacheWrite1h => &mut rates.cache_write_1h,
    } = Some(rate);
    Ok(true)
}

#[derive(Clone, Copy)]
enum Bucket {
    Input,
    Output,
    CacheRead,
    CacheWrite5m,
    CacheWrite1h,
}

/// A rate's bucket, the prompt size above which it holds, and its service tier.
fn parse_name(field: &str) -> Option<(Bucket, Option<u64>, &'static str)> {
    let ends = TIERS.iter().find_map(|(end, tier)| field.strip_suffix(end).map(|rest| (rest, *tier)));
    let (rest, tier) = ends.unwrap_or((field, "standard"));
    let size = rest.strip_suffix("k_tokens").and_then(|rest| rest.rsplit_once("_above_"));
    let (rest, above) = match size {
        Some((rest, thousands)) => (rest, Some(thousands.parse::<u64>().ok()?.checked_mul(1_000)?)),
        None => (rest, None),
    };
    let bucket = match rest {
        "input_cost_per_token" => Bucket::Input,
        "output_cost_per_token" => Bucket::Output,
        "cache_read_input_token_cost" => Bucket::CacheRead,
        "cache_creation_input_token_cost" => Bucket::CacheWrite5m,
        "cache_creation_input_token_cost_above_1hr" => Bucket::CacheWrite1h,
        _ => return None,
    };
    Some((bucket, above, tier))
}

/// A search's price, where it is the same for every size of context: usage records do not tell the size.
fn read_search(rates: &mut Rates, value: &Value) -> Result<bool, String> {
    let Value::Object(sizes) = value else { return Ok(false) };
    let prices = sizes.values().map(|price| match price {
        Value::Number(number) => amount(number, 1),
        _ => Err("a price that is no number".to_owned()),
    });
    let prices = prices.collect::<Result<Vec<_>, _>>()?;
    match prices.split_first() {
        Some((first, rest)) if rest.iter().all(|price| price == first) => {
            rates.extra.push(("web_search".to_owned(), *first));
            Ok(true)
        }
        _ => Ok(false),
    }
}
