//! Vendors' answers are read as every client reads them: `clients/vectors/usage.json`.

use serde_json::{Map, Value, json};
use tallyd_client::{Record, usage};

/// The fields that the answers can set and that are not at their default, as the vectors have them.
fn fields(record: &Record) -> Value {
    let standard = Record::default();
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value, standard: Value| {
        if value != standard {
            fields.insert(name.to_owned(), value);
        }
    };
    set("provider", json!(record.provider), json!(standard.provider));
    set("model", json!(record.model), json!(standard.model));
    set("input_tokens", json!(record.input_tokens), json!(0));
    set("output_tokens", json!(record.output_tokens), json!(0));
    set("cache_read_tokens", json!(record.cache_read_tokens), json!(0));
    set("cache_write_5m_tokens", json!(record.cache_write_5m_tokens), json!(0));
    set("cache_write_1h_tokens", json!(record.cache_write_1h_tokens), json!(0));
    let units = record.extra_units.iter().map(|(unit, quantity)| (unit.to_string(), json!(quantity)));
    set("extra_units", Value::Object(units.collect()), json!({}));
    set("service_tier", json!(record.service_tier), json!(standard.service_tier));
    if let Some(cost) = &record.cost_usd {
        fields.insert("cost_usd".to_owned(), json!(cost));
    }
    if let Some(metadata) = &record.metadata {
        fields.insert("metadata".to_owned(), serde_json::from_str(metadata).unwrap());
    }
    Value::Object(fields)
}

#[test]
fn answers_and_streams_are_read_as_the_vectors_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/usage.json");
    let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(vectors.len() >= 80);
    for vector in &vectors {
        let mut found = match (vector.get("events"), vector["vendor"].as_str().unwrap()) {
            (Some(events), _) => {
                let mut stream = usage::StreamUsage::default();
                events.as_array().unwrap().iter().for_each(|event| stream.event(event));
                stream.record()
            }
            (None, "anthropic") => usage::anthropic(&vector["answer"]),
            (None, "openai" | "openrouter") => usage::openai(&vector["answer"]),
            (None, "google") => usage::google(&vector["answer"]),
            (None, vendor) => panic!("{vendor}"),
        };
        if let (Some(found), "openrouter") = (&mut found, vector["vendor"].as_str().unwrap()) {
            found.provider = "openrouter".into();
        }
        assert_eq!(found.as_ref().map_or(Value::Null, fields), vector["record"], "{}", vector["name"]);
    }
}
