//! `tallyd import --dry-run N`: what the first rows would be recorded as. Nothing is sent, no daemon is needed.

use chrono::DateTime;
use serde_json::{Map, Value, json};
use tallyd_protocol::Record;

use super::reader::Rows;
use super::talk::Talk;
use crate::cli::output::Stream;

/// Prints the first `count` rows, a line of JSON each, without fields that have their defaults.
///
/// # Errors
/// If the file cannot be read on, or standard output cannot be written to.
pub(super) fn print(rows: &mut Rows, count: u64, talk: &mut Talk) -> anyhow::Result<()> {
    let mut out = Stream::new();
    let mut looked_at = 0;
    while looked_at < count {
        let Some(row) = rows.next_row()? else { break };
        looked_at += 1;
        rows.take_notes().iter().for_each(|note| talk.note(note));
        match row.record {
            Err(error) => talk.refused(row.number, row.line, &error.to_string()),
            // In step with what is said of the rows around it.
            Ok(record) => {
                if !out.line(&describe(&record))? || !out.flush()? {
                    break;
                }
            }
        }
    }
    talk.end();
    talk.note(&format!(
        "{} looked at, nothing was sent",
        tallyd_model::wording::noun(looked_at, "row was", "rows were")
    ));
    Ok(())
}

/// The record as the line mode of the protocol would take it, with a time that a person can read.
fn describe(record: &Record) -> Value {
    let default = Record::default();
    let mut fields = Map::new();
    let mut add = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    if let Some(id) = record.id {
        add("id", json!(uuid::Uuid::from_bytes(id)));
    }
    if let Some(us) = record.occurred_at {
        // A time that no calendar has is shown as the number that it is.
        add("occurred_at", DateTime::from_timestamp_micros(us).map_or_else(|| json!(us), |time| json!(time)));
    }
    let texts = [
        ("provider", &record.provider, &default.provider),
        ("model", &record.model, &default.model),
        ("endpoint", &record.endpoint, &default.endpoint),
        ("user_id", &record.user_id, &default.user_id),
        ("app", &record.app, &default.app),
        ("request_id", &record.request_id, &default.request_id),
        ("service_tier", &record.service_tier, &default.service_tier),
        ("platform", &record.platform, &default.platform),
    ];
    texts.iter().filter(|(_, text, usual)| text != usual).for_each(|(name, text, _)| add(name, json!(text)));
    let numbers = [
        ("input_tokens", record.input_tokens, 0),
        ("output_tokens", record.output_tokens, 0),
        ("cache_read_tokens", record.cache_read_tokens, 0),
        ("cache_write_5m_tokens", record.cache_write_5m_tokens, 0),
        ("cache_write_1h_tokens", record.cache_write_1h_tokens, 0),
        ("requests", record.requests, 1),
        ("status", u64::from(record.status), 200),
    ];
    numbers.iter().filter(|(_, number, usual)| number != usual).for_each(|(name, number, _)| add(name, json!(number)));
    if let Some(latency_ms) = record.latency_ms {
        add("latency_ms", json!(latency_ms));
    }
    if !record.extra_units.is_empty() {
        add("extra_units", record.extra_units.iter().map(|(unit, count)| (unit.to_string(), json!(count))).collect());
    }
    for (name, text) in [("cost_usd", &record.cost_usd), ("metadata", &record.metadata)] {
        text.iter().for_each(|text| add(name, json!(text)));
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_without_its_defaults() {
        let record = Record { occurred_at: Some(1_700_158_546_680_590), ..Record::claude("m", 0, 7) };
        let shown =
            r#"{"model":"m","occurred_at":"2023-11-16T18:15:46.680590Z","output_tokens":7,"provider":"claude"}"#;
        assert_eq!(describe(&record).to_string(), shown);
        let record = Record { extra_units: vec![("image".into(), "2".into())], requests: 0, ..Record::rentcast("/a") };
        let shown = r#"{"endpoint":"/a","extra_units":{"image":"2"},"provider":"rentcast","requests":0}"#;
        assert_eq!(describe(&record).to_string(), shown);
    }
}
