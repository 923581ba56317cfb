//! `LiteLLM_SpendLogs`, the table of LiteLLM's proxy: `\copy … CSV HEADER`, or the answer of `GET /spend/logs`, an
//! object a line.
//!
//! `prompt_tokens` include tokens read from and written to the vendor's cache; `metadata` has the numbers of these. A
//! spend of 0 for used tokens means that LiteLLM knows no price, and the catalog prices the call; unless LiteLLM's own
//! cache answered.

use std::collections::BTreeMap;

use tallyd_protocol::{Record, limits};

use super::RowKind;
use super::cells::{add_metadata, count, set, set_time, text, to_count, value};
use crate::cli::import::row::RowError;
use tallyd_model::json::Value;
use tallyd_model::pricing::Usd;

pub(super) fn read(row: &Value, record: &mut Record) -> Result<RowKind, RowError> {
    let key = text(row, &["request_id"]);
    if key.is_empty() {
        return Err(RowError::row("request_id is empty: it tells which call this is"));
    }
    set_time(record, row, &["startTime"])?;
    set(&mut record.request_id, key.clone());
    set(&mut record.model, text(row, &["model"]));
    let provider = text(row, &["custom_llm_provider"]);
    set(&mut record.provider, if provider.is_empty() { "litellm".to_owned() } else { provider });
    set(&mut record.user_id, text(row, &["end_user", "user"]));
    let metadata = value(row, &["metadata"]);
    let (read, written) = cached(&metadata)?;
    let prompt = count(row, "prompt_tokens")?;
    let Some(input) = prompt.checked_sub(read.saturating_add(written)) else {
        return Err(RowError::row(format!(
            "prompt_tokens are {prompt}, and more than that was cached: {read} and {written}"
        )));
    };
    record.input_tokens = input;
    record.output_tokens = count(row, "completion_tokens")?;
    (record.cache_read_tokens, record.cache_write_5m_tokens) = (read, written);
    let was_cached = text(row, &["cache_hit"]).eq_ignore_ascii_case("true");
    record.cost_usd = spend(row, was_cached || prompt.saturating_add(record.output_tokens) == 0)?;
    if text(row, &["status"]) == "failure" {
        let code = text(&metadata["error_information"], &["error_code"]);
        record.status = code.parse().ok().filter(|status| (400..600).contains(status)).unwrap_or(500);
    }
    if let Ok(latency) = count(row, "request_duration_ms") {
        record.latency_ms = u32::try_from(latency).ok().filter(|latency| *latency > 0);
    }
    let pairs = ["team_id", "api_key", "model_group", "session_id", "call_type"].map(|name| (name, text(row, &[name])));
    add_metadata(record, pairs);
    record.tags = tags(row, &metadata).into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    if was_cached {
        add_metadata(record, [("cache_hit", "true".to_owned())]);
    }
    Ok(RowKind::Call(key))
}

/// The team, the key and the tags of the request: `name:value` each, or a name alone. One that no record may have is left out.
fn tags(row: &Value, metadata: &Value) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    let mut add = |name: &str, value: String| {
        let fits =
            (1..=limits::TAG_NAME_BYTES).contains(&name.len()) && (1..=limits::TAG_VALUE_BYTES).contains(&value.len());
        if fits && tags.len() < limits::TAGS {
            tags.entry(name.to_owned()).or_insert(value);
        }
    };
    let alias = text(metadata, &["user_api_key_team_alias"]);
    add("team", if alias.is_empty() { text(row, &["team_id"]) } else { alias });
    add("api_key", text(row, &["api_key"]));
    add("key_alias", text(metadata, &["user_api_key_alias"]));
    if let Value::Array(said) = &*value(row, &["request_tags"]) {
        for tag in said.iter().filter_map(Value::as_str) {
            let (name, value) = tag.split_once(':').unwrap_or((tag, "true"));
            add(name.trim(), value.trim().to_owned());
        }
    }
    tags
}

/// The stated spend; none for a 0 that means an unknown price.
fn spend(row: &Value, is_free: bool) -> Result<Option<tallyd_protocol::record::Text>, RowError> {
    let text = text(row, &["spend"]);
    if text.is_empty() {
        return Ok(None);
    }
    let spend =
        Usd::parse_rounded(&text).map_err(|error| RowError::field("cost_usd", format!("spend {text:?}: {error}")))?;
    Ok((spend != Usd::ZERO || is_free).then(|| spend.to_string().into()))
}

/// Tokens read from and written to the vendor's cache.
fn cached(metadata: &Value) -> Result<(u64, u64), RowError> {
    let places = [&metadata["usage_object"], &metadata["additional_usage_values"]];
    let first = |names: &[&str]| -> Result<u64, RowError> {
        for place in places {
            for name in names {
                let found = match name.split_once('.') {
                    Some((outer, inner)) => text(&value(place, &[outer]), &[inner]),
                    None => text(place, &[name]),
                };
                if !found.is_empty() {
                    return to_count(name, &found);
                }
            }
        }
        Ok(0)
    };
    let read = first(&["cache_read_input_tokens", "prompt_tokens_details.cached_tokens"])?;
    Ok((read, first(&["cache_creation_input_tokens", "prompt_tokens_details.cache_creation_tokens"])?))
}
