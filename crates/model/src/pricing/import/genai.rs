//! genai-prices' list: an array of providers, each with models. A model's `prices` are one object, or a list of them
//! with start dates; `price_variants` are the prices of other service tiers. Rates are USD per million tokens.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime};

use super::{ImportOptions, Imported, amount, tier_mut};
use crate::json::Value;
use crate::json::value::Map;
use crate::pricing::catalog::{PriceSpec, Rates};
use crate::pricing::names::normalise_provider;

const MILLION: i128 = 1_000_000;
const THOUSAND: i128 = 1_000;
/// Fields of a model that do not concern prices. `match` is one: tallyd matches names by its own rules.
const OTHER: [&str; 7] = ["id", "name", "description", "match", "context_window", "price_comments", "deprecated"];
/// Rates, their units, and the number of units that a rate is for.
const RATES: [(&str, &str, i128); 20] = [
    ("input_mtok", "input", MILLION),
    ("output_mtok", "output", MILLION),
    ("cache_read_mtok", "cache_read", MILLION),
    ("cache_write_mtok", "cache_write_5m", MILLION),
    ("cache_write_5m_mtok", "cache_write_5m", MILLION),
    ("cache_write_1h_mtok", "cache_write_1h", MILLION),
    ("input_audio_mtok", "audio_input_token", MILLION),
    ("output_audio_mtok", "audio_output_token", MILLION),
    ("cache_audio_read_mtok", "audio_cache_read_token", MILLION),
    ("cache_audio_write_mtok", "audio_cache_write_token", MILLION),
    ("input_image_mtok", "image_input_token", MILLION),
    ("output_image_mtok", "image_output_token", MILLION),
    ("cache_image_read_mtok", "image_cache_read_token", MILLION),
    ("input_video_mtok", "video_input_token", MILLION),
    ("output_video_mtok", "video_output_token", MILLION),
    ("web_searches_kcount", "web_search", THOUSAND),
    ("storage_searches_kcount", "file_search", THOUSAND),
    ("code_executions_kcount", "code_interpreter", THOUSAND),
    ("requests_kcount", "request", THOUSAND),
    ("rerank_searches_kcount", "request", THOUSAND),
];

pub(super) fn read(providers: &[Value], options: &ImportOptions) -> Imported {
    let mut imported = Imported::default();
    for provider in providers {
        let listed = provider.get("id").and_then(Value::as_str).unwrap_or_default();
        let ours = normalise_provider(listed);
        if ours.is_empty() || !options.wants(&ours) {
            continue;
        }
        for model in provider.get("models").and_then(Value::as_array).into_iter().flatten() {
            let Value::Object(model) = model else { continue };
            imported.entry(model.contains_key("prices"));
            read_model(&mut imported, options, &ours, model);
        }
    }
    imported
}

fn read_model(imported: &mut Imported, options: &ImportOptions, provider: &str, model: &Map) {
    let name = model.get("id").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let standard = match model.get("prices") {
        Some(Value::Object(_)) => vec![Value::Object(Map::from([("prices".to_owned(), model["prices"].clone())]))],
        Some(Value::Array(prices)) => prices.clone(),
        _ => Vec::new(),
    };
    read_timeline(imported, options, provider, &name, "standard", &standard);
    let variants = model.get("price_variants").and_then(Value::as_array);
    for (tier, prices) in variants.map(|variants| by_tier(imported, variants)).unwrap_or_default() {
        let whole: Vec<Value> = prices.iter().filter_map(|variant| over(&standard, variant, options.from_us)).collect();
        read_timeline(imported, options, provider, &name, &tier, &whole);
    }
    for field in model.keys().filter(|field| !OTHER.contains(&field.as_str())) {
        if !["prices", "price_variants"].contains(&field.as_str()) {
            imported.unread(field);
        }
    }
}

/// The prices of other service tiers: `{"when": {"processing": "batch"}, "prices": …}`.
fn by_tier(imported: &mut Imported, variants: &[Value]) -> BTreeMap<String, Vec<Value>> {
    let mut tiers = BTreeMap::<String, Vec<Value>>::new();
    for variant in variants {
        let when = variant.get("when").and_then(Value::as_object).filter(|when| when.len() == 1);
        let named =
            when.and_then(|when| when.iter().next()).and_then(|(key, value)| Some((key.as_str(), value.as_str()?)));
        match named {
            // The standard tier's prices are the model's.
            Some(("service_tier", "default" | "standard")) => {}
            Some(("processing" | "service_tier" | "speed", tier)) => {
                tiers.entry(tier.to_owned()).or_default().push(variant.clone());
            }
            _ => imported.unread("price_variants.when"),
        }
    }
    tiers
}

/// A variant with its missing rates from the standard prices: it overrides them, key by key.
fn over(standard: &[Value], variant: &Value, from_us: i64) -> Option<Value> {
    let start = |entry: &Value| start_us(entry.get("constraint"));
    let at_us = start(variant).ok()?.max(from_us);
    let held = standard.iter().filter(|entry| start(entry).is_ok_and(|start| start <= at_us));
    let base = held.max_by_key(|entry| start(entry).unwrap_or(i64::MIN)).or(standard.first());
    let mut prices = base.and_then(|base| base.get("prices")?.as_object().cloned()).unwrap_or_default();
    for (key, price) in variant.get("prices")?.as_object()? {
        prices.insert(key.clone(), price.clone());
    }
    let mut whole = variant.as_object()?.clone();
    whole.insert("prices".to_owned(), Value::Object(prices));
    Some(Value::Object(whole))
}

/// Prices with their start dates: the one in force at `options.from_us`, and later ones.
fn read_timeline(
    imported: &mut Imported,
    options: &ImportOptions,
    provider: &str,
    model: &str,
    service_tier: &str,
    entries: &[Value],
) {
    let mut dated = Vec::new();
    for entry in entries {
        let from_us = match start_us(entry.get("constraint")) {
            Ok(from_us) => from_us,
            Err(field) => {
                imported.unread(&format!("constraint.{field}"));
                continue;
            }
        };
        let Some(Value::Object(prices)) = entry.get("prices") else { continue };
        dated.push((from_us, prices));
    }
    dated.sort_by_key(|(from_us, _)| *from_us);
    let current = dated.iter().rposition(|(from_us, _)| *from_us <= options.from_us).unwrap_or(0);
    for (from_us, prices) in dated.into_iter().skip(current) {
        let mut spec = PriceSpec {
            provider: provider.to_owned(),
            model: model.to_owned(),
            service_tier: service_tier.to_owned(),
            effective_from_us: from_us.max(options.from_us),
            rates: Rates::default(),
            above: Vec::new(),
            source: options.source.clone(),
            source_date: options.source_date.clone(),
        };
        read_prices(imported, &mut spec, prices);
        imported.take(spec, true);
    }
}

/// The start of a constraint, or the name of a constraint that is not a date.
fn start_us(constraint: Option<&Value>) -> Result<i64, String> {
    let constraint = match constraint {
        None | Some(Value::Null) => return Ok(i64::MIN),
        Some(Value::Object(constraint)) => constraint,
        Some(_) => return Err("(not an object)".into()),
    };
    if let Some(field) = constraint.keys().find(|field| !["start_date", "type"].contains(&field.as_str())) {
        return Err(field.clone());
    }
    let date = constraint.get("start_date").and_then(Value::as_str).and_then(|text| text.parse::<NaiveDate>().ok());
    date.map(|date| date.and_time(NaiveTime::MIN).and_utc().timestamp_micros()).ok_or_else(|| "start_date".into())
}

fn read_prices(imported: &mut Imported, spec: &mut PriceSpec, prices: &Map) {
    for (field, value) in prices.iter().filter(|(_, value)| !value.is_null()) {
        let rate = RATES.iter().find(|(name, ..)| name == field);
        let read = rate.and_then(|(_, unit, per)| match value {
            Value::Number(number) => amount(number, *per).ok().map(|rate| spec.rates.set(unit, rate)),
            Value::Object(tiered) => read_tiered(spec, unit, *per, tiered),
            _ => None,
        });
        if read.is_none() {
            imported.unread(field);
        }
    }
    // Output of an image model is an image, and never has text's rate.
    if spec.model.contains("image") && spec.rates.rate("image_output_token").is_some() {
        spec.rates.output = None;
        spec.above.iter_mut().for_each(|above| above.rates.output = None);
    }
}

/// `{"base": 3, "tiers": [{"start": 200000, "price": 6}]}`. A tier applies to the whole request.
fn read_tiered(spec: &mut PriceSpec, unit: &str, per: i128, tiered: &Map) -> Option<()> {
    let rate = |value: Option<&Value>| match value {
        Some(Value::Number(number)) => amount(number, per).ok(),
        _ => None,
    };
    let base = rate(tiered.get("base"))?;
    let tiers = tiered.get("tiers").and_then(Value::as_array).into_iter().flatten();
    let tiers = tiers.map(|tier| Some((tier.get("start")?.as_u64()?, rate(tier.get("price"))?)));
    let tiers: Vec<_> = tiers.collect::<Option<_>>()?;
    spec.rates.set(unit, base);
    tiers.into_iter().for_each(|(start, rate)| tier_mut(&mut spec.above, start).set(unit, rate));
    Some(())
}
