//! Langfuse's observations: the blob export (`start_time`), or the API's and the table's (`startTime`).
//!
//! Usage is a map of counts, each billed by itself; `total` is their sum, or a value from the sender. An unknown name
//! leaves the call unpriced, unless Langfuse states a cost. A cost of 0 for used tokens means that Langfuse knows no
//! price.

use tallyd_protocol::Record;

use super::RowKind;
use super::cells::{add_metadata, set, set_time, text, to_count, value};
use crate::cli::import::row::RowError;
use tallyd_model::call::NOT_UNDERSTOOD;
use tallyd_model::json::Value;
use tallyd_model::pricing::Usd;

/// Vendors by the beginning of their models' names, where it belongs to one vendor alone.
const VENDORS: [(&str, &str); 12] = [
    ("claude-", "claude"),
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4-", "openai"),
    ("text-embedding-3", "openai"),
    ("text-embedding-ada", "openai"),
    ("gemini-", "google"),
    ("deepseek-", "deepseek"),
    ("grok-", "xai"),
    ("mistral-", "mistral"),
];

pub(super) fn read(row: &Value, record: &mut Record) -> Result<RowKind, RowError> {
    let kind = text(row, &["type"]);
    let usage = value(row, &["usage_details", "usageDetails"]);
    let is_used = usage.as_object().is_some_and(|counts| !counts.is_empty());
    if !matches!(&*kind, "GENERATION" | "EMBEDDING") {
        let used = if is_used { ", with tokens" } else { "" };
        return Ok(RowKind::Other(format!("{kind}{used}")));
    }
    let key = text(row, &["id"]);
    if key.is_empty() {
        return Err(RowError::row("id is empty: it tells which call this is"));
    }
    set_time(record, row, &["start_time", "startTime"])?;
    let model = text(row, &["provided_model_name", "providedModelName", "model"]);
    set_provider(record, row, &model)?;
    set(&mut record.model, model);
    set(&mut record.request_id, key.clone());
    set(&mut record.user_id, text(row, &["user_id", "userId"]));
    let unknown = set_usage(record, &usage)?;
    record.cost_usd = cost(row, record)?;
    if text(row, &["level"]) == "ERROR" {
        record.status = 500;
    }
    let session = ["trace_id", "traceId"];
    add_metadata(
        record,
        [
            ("trace_id", text(row, &session)),
            ("session_id", text(row, &["session_id", "sessionId"])),
            ("name", text(row, &["name"])),
            (NOT_UNDERSTOOD, unknown),
        ],
    );
    Ok(RowKind::Call(key))
}

/// Langfuse does not name the vendor. `--set` does, or OpenTelemetry's attributes in the metadata, or the model's name.
fn set_provider(record: &mut Record, row: &Value, model: &str) -> Result<(), RowError> {
    let attributes = value(row, &["metadata"])["attributes"].clone();
    let stated = text(&attributes, &["gen_ai.provider.name", "gen_ai.system"]);
    let known = VENDORS.iter().find(|(start, _)| model.starts_with(start)).map_or("", |(_, vendor)| vendor);
    set(&mut record.provider, if stated.is_empty() { known.to_owned() } else { stated });
    if record.provider.is_empty() {
        let problem = format!("whose model {model:?} is, the file does not say: give --set provider=NAME");
        return Err(RowError::field("provider", problem));
    }
    Ok(())
}

/// Adds up the counts by bucket. Returns the name of a count without a bucket; empty if there is none.
fn set_usage(record: &mut Record, usage: &Value) -> Result<String, RowError> {
    let (mut unknown, mut sum, mut total) = (String::new(), 0_u64, None);
    let mut units = Vec::new();
    for (name, count) in usage.as_object().into_iter().flatten() {
        let text = count.as_number().or_else(|| count.as_str()).unwrap_or_default();
        let count = if text.is_empty() { 0 } else { to_count(name, text)? };
        let bucket = match bucket(name) {
            Bucket::Total => {
                total = Some(count);
                continue;
            }
            Bucket::Input => &mut record.input_tokens,
            Bucket::Output => &mut record.output_tokens,
            Bucket::CacheRead => &mut record.cache_read_tokens,
            Bucket::CacheWrite => &mut record.cache_write_5m_tokens,
            Bucket::CacheWriteHour => &mut record.cache_write_1h_tokens,
            Bucket::Unit(unit) => {
                sum = sum.saturating_add(count);
                if count > 0 {
                    units.push((unit.into(), count.to_string().into()));
                }
                continue;
            }
            Bucket::Unknown => {
                if count > 0 {
                    name.clone_into(&mut unknown);
                }
                continue;
            }
        };
        *bucket = bucket.saturating_add(count);
        sum = sum.saturating_add(count);
    }
    record.extra_units = units;
    // If the total differs from the sum, some counts include others and would be billed twice, or some usage is not
    // broken down.
    if unknown.is_empty() && total.is_some_and(|total| total != sum) {
        "usage_details.total".clone_into(&mut unknown);
    }
    Ok(unknown)
}

enum Bucket {
    Input,
    Output,
    CacheRead,
    CacheWrite,
    CacheWriteHour,
    Unit(&'static str),
    Total,
    Unknown,
}

fn bucket(name: &str) -> Bucket {
    match name {
        "total" => Bucket::Total,
        "input" | "input_text" | "input_text_tokens" | "prompt_tokens" | "input_tokens" => Bucket::Input,
        "output"
        | "output_text"
        | "output_text_tokens"
        | "output_reasoning_tokens"
        | "output_reasoning"
        | "completion_tokens"
        | "output_tokens"
        | "reasoning_tokens" => Bucket::Output,
        "input_cached_tokens" | "input_cache_read" | "cache_read_input_tokens" | "input_cache_read_tokens" => {
            Bucket::CacheRead
        }
        "input_cache_creation" | "cache_creation_input_tokens" | "input_cache_creation_5m" => Bucket::CacheWrite,
        "input_cache_creation_1h" => Bucket::CacheWriteHour,
        "input_audio_tokens" | "input_audio" => Bucket::Unit("audio_input_token"),
        "output_audio_tokens" | "output_audio" => Bucket::Unit("audio_output_token"),
        _ => Bucket::Unknown,
    }
}

/// The stated cost; none for a 0 that means an unknown price.
fn cost(row: &Value, record: &Record) -> Result<Option<tallyd_protocol::record::Text>, RowError> {
    let mut stated = text(row, &["total_cost", "totalCost", "calculatedTotalCost"]);
    if stated.is_empty() {
        stated = text(&value(row, &["cost_details", "costDetails"]), &["total"]);
    }
    if stated.is_empty() {
        return Ok(None);
    }
    let cost = Usd::parse_rounded(&stated);
    let cost = cost.map_err(|error| RowError::field("cost_usd", format!("total_cost {stated:?}: {error}")))?;
    let is_used = record.input_tokens > 0 || record.output_tokens > 0 || record.cache_read_tokens > 0;
    Ok((cost != Usd::ZERO || !is_used).then(|| cost.to_string().into()))
}
