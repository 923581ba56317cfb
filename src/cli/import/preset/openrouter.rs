//! The CSV of OpenRouter's activity page: a row a generation.
//!
//! `cost_total` is OpenRouter's charge; `byok_usage_inference` is the vendor's charge for a key of the customer's own.
//! Cached tokens are included in the prompt's, reasoning tokens in the completion's.

use tallyd_protocol::Record;

use super::RowKind;
use super::cells::{add_metadata, count, set, set_time, text};
use crate::cli::import::row::RowError;
use tallyd_model::json::Value;
use tallyd_model::pricing::Usd;

pub(super) fn read(row: &Value, record: &mut Record) -> Result<RowKind, RowError> {
    let key = text(row, &["generation_id"]);
    if key.is_empty() {
        return Err(RowError::row("generation_id is empty: it tells which call this is"));
    }
    set_time(record, row, &["created_at"])?;
    record.provider = "openrouter".into();
    set(&mut record.request_id, key.clone());
    set(&mut record.model, text(row, &["model_permaslug"]));
    set(&mut record.user_id, text(row, &["user"]));
    set(&mut record.app, text(row, &["app_name"]));
    let (prompt, cached) = (count(row, "tokens_prompt")?, count(row, "tokens_cached")?);
    record.cache_read_tokens = cached;
    record.input_tokens = prompt
        .checked_sub(cached)
        .ok_or_else(|| RowError::row(format!("tokens_prompt are {prompt}, and {cached} of them were cached")))?;
    record.output_tokens = count(row, "tokens_completion")?;
    record.cost_usd = Some(cost(row)?.to_string().into());
    record.latency_ms = u32::try_from(count(row, "generation_time_ms")?).ok().filter(|latency| *latency > 0);
    let names = ["provider_name", "variant", "api_key_name", "cancelled", "finish_reason_normalized"];
    add_metadata(record, names.map(|name| (name, text(row, &[name]))));
    Ok(RowKind::Call(key))
}

/// The charges of OpenRouter and of the vendor together.
fn cost(row: &Value) -> Result<Usd, RowError> {
    let amount = |name: &str| match &*text(row, &[name]) {
        "" => Ok(Usd::ZERO),
        text => {
            Usd::parse_rounded(text).map_err(|error| RowError::field("cost_usd", format!("{name} {text:?}: {error}")))
        }
    };
    let sum = amount("cost_total")?.checked_add(amount("byok_usage_inference")?);
    sum.ok_or_else(|| RowError::field("cost_usd", "the sum is too large an amount"))
}
