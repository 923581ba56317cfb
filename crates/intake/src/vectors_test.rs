//! The shared wire vectors (`clients/vectors/`): the decoder reads each as specified.

use std::path::Path;

use serde_json::{Map, Value};
use tallyd_protocol::limits;
use uuid::Uuid;

use super::frame::{self, ClientFrame};
use super::{Absent, Admission, Encoded, Refusal, Rules};
use tallyd_model::call::{Call, Cost};
use tallyd_model::pricing::{Catalog, PricingOptions, Quantity, Usd};

/// 2026-11-23, after every vector's time except the one that is too late.
const NOW_US: i64 = 1_795_392_000_000_000;

fn vectors(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/vectors").join(file);
    let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(vectors.len() > 10, "{file} has lost its vectors");
    vectors
}

fn bytes(vector: &Value, key: &str) -> Vec<u8> {
    hex::decode(vector[key].as_str().unwrap()).unwrap()
}

/// Reads the record as the only one of a frame, and passes on the call or the refusal.
fn judge_encoded(encoded: &[u8], judge: impl Fn(Result<&Call<'_>, &Refusal>)) {
    let mut body = Vec::new();
    tallyd_protocol::message::write_records_head(&mut body, 1, 1);
    body.extend_from_slice(encoded);
    let Ok(ClientFrame::Records(records)) = frame::read(&body, limits::FRAME_RECORDS) else {
        panic!("one record is a frame")
    };
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    let admission = Admission { rules: &wire_rules(), catalog: &catalog, now_us: NOW_US };
    for bytes in records.encoded() {
        let record = Encoded::MessagePack(bytes);
        admission.admit_with(record, Absent::default(), |admitted| judge(admitted.as_ref().copied()));
        // The same call as a connection makes.
        admission.admit(record, |admitted| judge(admitted.as_ref().copied()));
    }
}

fn judge_line(line: &str, judge: impl Fn(Result<&Call<'_>, &Refusal>)) {
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    let admission = Admission { rules: &wire_rules(), catalog: &catalog, now_us: NOW_US };
    admission.admit(Encoded::Json(line.as_bytes()), |admitted| judge(admitted.as_ref().copied()));
}

/// Compares every field of the call with the vector's record, in which absent fields have their default.
fn is_record(name: &Value, call: &Call<'_>, record: &Value) {
    let text = |field: &str| record[field].as_str().unwrap_or_default();
    let count = |field: &str, default| record[field].as_u64().unwrap_or(default);
    let texts = [call.provider, call.model, call.endpoint, call.user_id, call.app, call.request_id];
    assert_eq!(texts, ["provider", "model", "endpoint", "user_id", "app", "request_id"].map(text), "{name}");
    let tokens = &call.tokens;
    let tokens = [tokens.input, tokens.output, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h];
    let fields =
        ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"];
    assert_eq!(tokens, fields.map(|field| count(field, 0)), "{name}");
    assert_eq!((call.requests, u64::from(call.status)), (count("requests", 1), count("status", 200)), "{name}");
    assert_eq!(call.service_tier, record["service_tier"].as_str().unwrap_or("standard"), "{name}");
    assert_eq!(call.latency_ms.map(u64::from), record["latency_ms"].as_u64(), "{name}");
    assert_eq!(call.occurred_at_us, record["occurred_at"].as_i64().unwrap_or(NOW_US), "{name}");
    match record["id"].as_str() {
        Some(id) => assert_eq!(Uuid::from_bytes(call.id), Uuid::parse_str(id).unwrap(), "{name}"),
        None => assert_eq!(Uuid::from_bytes(call.id).get_version_num(), 7, "{name}"),
    }
    match record["cost_usd"].as_str() {
        Some(usd) => assert_eq!(call.cost, Cost::Client(Usd::parse(usd).unwrap()), "{name}"),
        None => assert!(!matches!(call.cost, Cost::Client(_)), "{name}"),
    }
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    assert_eq!(call.platform, record["platform"].as_str().unwrap_or_default(), "{name}");
    let metadata = record["metadata"].as_str().unwrap_or_default();
    assert_eq!((object(call.metadata), call.metadata.is_empty()), (object(metadata), metadata.is_empty()), "{name}");
    let quantities = |units: &Map<String, Value>| -> Vec<_> {
        units.iter().map(|(unit, value)| (unit.clone(), Quantity::parse(value.as_str().unwrap()).unwrap())).collect()
    };
    let expected = record["extra_units"].as_object().map(&quantities).unwrap_or_default();
    assert_eq!(quantities(&object(call.extra_units)), expected, "{name}");
}

fn is_accepted_as(vector: &Value, judged: Result<&Call<'_>, &Refusal>) {
    let call = judged.unwrap_or_else(|refusal| panic!("{}: {refusal:?}", vector["name"]));
    is_record(&vector["name"], call, &vector["record"]);
    let stored = vector.get("stored_tags").or(vector["record"].get("tags")).and_then(Value::as_object).cloned();
    let tags: Option<Map<String, Value>> = serde_json::from_str(call.tags).ok();
    assert_eq!(tags, stored, "{}", vector["name"]);
}

fn is_refused_as(vector: &Value, judged: Result<&Call<'_>, &Refusal>) {
    let refusal = judged.expect_err(vector["name"].as_str().unwrap());
    let expected = (vector["code"].as_str().unwrap(), vector["field"].as_str().unwrap_or_default());
    assert_eq!((refusal.code.name(), &*refusal.field), expected, "{}: {}", vector["name"], refusal.message);
}

/// The wire permits more than a daemon's default bounds.
fn wire_rules() -> Rules {
    Rules {
        stated_costs: tallyd_config::StatedCosts::Allow,
        tokens: tallyd_protocol::limits::TOKENS_MAX,
        ..Rules::default()
    }
}

#[test]
fn every_record_is_read_in_both_forms() {
    for vector in vectors("records.json") {
        for form in ["array_hex", "map_hex"] {
            judge_encoded(&bytes(&vector, form), |judged| is_accepted_as(&vector, judged));
        }
    }
}

#[test]
fn every_other_form_is_read_as_its_record() {
    for vector in vectors("accepted.json") {
        judge_encoded(&bytes(&vector, "hex"), |judged| is_accepted_as(&vector, judged));
    }
}

#[test]
fn every_wrong_record_is_refused_with_its_code_and_field() {
    for vector in vectors("refused.json") {
        judge_encoded(&bytes(&vector, "hex"), |judged| is_refused_as(&vector, judged));
    }
}

#[test]
fn every_line_is_judged_as_stated() {
    for vector in vectors("ndjson.json") {
        judge_line(vector["line"].as_str().unwrap(), |judged| match vector["record"] {
            Value::Object(_) => is_accepted_as(&vector, judged),
            _ => is_refused_as(&vector, judged),
        });
    }
}
