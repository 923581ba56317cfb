//! genai-prices' list: an array of providers, each with models. A model's `prices` are one object, or a list of them with
//! the dates from which they hold; `price_variants` are the prices of other service tiers. Rates are USD a million tokens.

use chrono::{NaiveDate, NaiveTime};
use serde_json::{Map, Value};

use super::{ImportOptions, Imported, amount, tier_mut};
use crate::pricing::Usd;
use crate::pricing::catalog::{PriceSpec, Rates};

/// Their names of providers, where they are not ours.
const PROVIDERS: [(&str, &str); 1] = [("anthropic", "claude")];
const MILLION: i128 = 1_000_000;
const THOUSAND: i128 = 1_000;
/// Fields of a model that say nothing about prices. `match` is one: names are matched by tallyd's own rules.
const OTHER: [&str; 7] = ["id", "name", "description", "match", "context_window", "price_comments", "deprecated"];

pub(super) fn read(providers: &[Value], options: &ImportOptions) -> Imported {
    let mut imported = Imported::default();
    for provider in providers {
        let listed = provider.get("id").and_then(Value::as_str).unwrap_or_default();
        let ours = PROVIDERS.iter().find(|(theirs, _)| *theirs == listed).map_or(listed, |(_, ours)| ours);
        if !options.providers.iter().any(|wanted| wanted == ours) {
            continue;
        }
        for model in provider.get("models").and_then(Value::as_array).into_iter().flatten() {
            let Value::Object(model) = model else { continue };
            read_model(&mut imported, options, ours, model);
        }
    }
    imported
}

fn read_model(imported: &mut Imported, options: &ImportOptions, provider: &str, model: &Map<String, Value>) {
    let name = model.get("id").and_then(Value::as_str).unwrap_or_default();
    for (field, value) in model {
        match (field.as_str(), value) {
            ("prices", Value::Object(_)) => {
                let dated = serde_json::json!({ "prices": value });
                read_timeline(imported, options, provider, name, "standard", std::slice::from_ref(&dated));
            }
            ("prices", Value::Array(prices)) => {
                read_timeline(imported, options, provider, name, "standard", prices);
            }
            ("price_variants", Value::Array(variants)) => read_variants(imported, options, provider, name, variants),
            (field, _) if OTHER.contains(&field) => {}
            (field, _) => imported.unread(field),
        }
    }
}

/// The prices of other service tiers: `{"when": {"processing": "batch"}, "prices": …}`.
fn read_variants(imported: &mut Imported, options: &ImportOptions, provider: &str, model: &str, variants: &[Value]) {
    let mut tiers: Vec<(&str, Vec<Value>)> = Vec::new();
    for variant in variants {
        let when = variant.get("when").and_then(Value::as_object);
        let processing = when.filter(|when| when.len() == 1).and_then(|when| when.get("processing")?.as_str());
        let Some(tier) = processing else {
            imported.unread("price_variants.when");
            continue;
        };
        match tiers.iter_mut().find(|(known, _)| *known == tier) {
            Some((_, prices)) => prices.push(variant.clone()),
            None => tiers.push((tier, vec![variant.clone()])),
        }
    }
    for (tier, prices) in tiers {
        read_timeline(imported, options, provider, model, tier, &prices);
    }
}

/// Prices with the dates from which they hold: what holds at `options.from_us`, and what comes later.
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
        match read_prices(imported, &mut spec, prices) {
            Ok(()) => imported.take(spec),
            Err(reason) => imported.skip(model, reason),
        }
    }
}

/// When a constraint begins to hold; the name of a constraint that is not a date.
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

fn read_prices(imported: &mut Imported, spec: &mut PriceSpec, prices: &Map<String, Value>) -> Result<(), String> {
    for (field, value) in prices {
        match (field.as_str(), value) {
            (_, Value::Null) => {}
            ("requests_kcount", Value::Number(number)) => spec.rates.request = Some(amount(number, THOUSAND)?),
            ("web_searches_kcount", Value::Number(number)) => {
                spec.rates.extra.push(("web_search".to_owned(), amount(number, THOUSAND)?));
            }
            (field, Value::Number(number)) if bucket(&mut spec.rates, field).is_some() => {
                let rate = amount(number, MILLION).map_err(|error| format!("{field}: {error}"))?;
                bucket(&mut spec.rates, field).into_iter().for_each(|bucket| *bucket = Some(rate));
            }
            (field, Value::Object(tiered)) if bucket(&mut spec.rates, field).is_some() => {
                read_tiered(spec, field, tiered).map_err(|error| format!("{field}: {error}"))?;
            }
            (field, _) => imported.unread(field),
        }
    }
    Ok(())
}

/// `{"base": 3, "tiers": [{"start": 200000, "price": 6}]}`. A tier holds for the whole request.
fn read_tiered(spec: &mut PriceSpec, field: &str, tiered: &Map<String, Value>) -> Result<(), String> {
    let rate = |value: Option<&Value>| match value {
        Some(Value::Number(number)) => amount(number, MILLION),
        _ => Err("a tier without a price".to_owned()),
    };
    let base = rate(tiered.get("base"))?;
    set(&mut spec.rates, field, base);
    for tier in tiered.get("tiers").and_then(Value::as_array).into_iter().flatten() {
        let start = tier.get("start").and_then(Value::as_u64).ok_or("a tier without a start")?;
        let price = rate(tier.get("price"))?;
        set(tier_mut(&mut spec.above, start), field, price);
    }
    Ok(())
}

fn set(rates: &mut Rates, field: &str, rate: Usd) {
    bucket(rates, field).into_iter().for_each(|bucket| *bucket = Some(rate));
}

fn bucket<'r>(rates: &'r mut Rates, field: &str) -> Option<&'r mut Option<Usd>> {
    Some(match field {
        "input_mtok" => &mut rates.input,
        "output_mtok" => &mut rates.output,
        "cache_read_mtok" => &mut rates.cache_read,
        "cache_write_mtok" | "cache_write_5m_mtok" => &mut rates.cache_write_5m,
        "cache_write_1h_mtok" => &mut rates.cache_write_1h,
        _ => return None,
    })
}
