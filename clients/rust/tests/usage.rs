//! Reads vendors' answers as every client does: `clients/vectors/usage.json` and `batches.json`.

use serde_json::{Map, Value, json};
use tallyd_client::{Record, usage};

fn uuid(id: [u8; 16]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits[part].to_owned()).join("-")
}

/// Fields that an answer can set and that are not at their defaults, in the vectors' form.
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
    set("request_id", json!(record.request_id), json!(standard.request_id));
    set("occurred_at", json!(record.occurred_at), json!(standard.occurred_at));
    set("id", json!(record.id.map(uuid)), Value::Null);
    if let Some(cost) = &record.cost_usd {
        fields.insert("cost_usd".to_owned(), json!(cost));
    }
    if let Some(metadata) = &record.metadata {
        fields.insert("metadata".to_owned(), serde_json::from_str(metadata).unwrap());
    }
    Value::Object(fields)
}

fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/../vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn answers_and_streams_are_read_as_the_vectors_say() {
    let vectors = vectors("usage");
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

#[test]
fn a_batchs_results_are_records_with_the_same_ids_each_time() {
    let vectors = vectors("batches");
    assert!(vectors.len() >= 3);
    for vector in &vectors {
        let family = match vector["vendor"].as_str().unwrap() {
            "anthropic" => usage::Family::Anthropic,
            "openai" => usage::Family::OpenAi,
            "google" => usage::Family::Google,
            vendor => panic!("{vendor}"),
        };
        let lines: Vec<&str> = vector["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        let records: Vec<Record> = usage::records_of_batch(family, &lines, None).map(Result::unwrap).collect();
        let parsed = lines.iter().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap());
        let same: Vec<Record> =
            parsed.filter_map(|line: Value| usage::record_of_result(family, &line, None).unwrap()).collect();
        assert_eq!(records, same, "{}", vector["name"]);
        assert!(records.iter().all(|record| !record.made_id), "the id is stated: the daemon looks it up");
        let told: Vec<Value> = records.iter().map(fields).collect();
        assert_eq!(json!(told), vector["records"], "{}", vector["name"]);
    }
}

#[test]
fn another_vendors_answer_is_another_call_and_one_without_an_id_a_new_one() {
    let answer = json!({"id": "chatcmpl-1", "created": 1_790_000_000, "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}});
    let [openai, deepseek] =
        [None, Some("deepseek")].map(|provider| usage::record_of(usage::Family::OpenAi, &answer, provider));
    assert_eq!((&*openai.provider, &*deepseek.provider), ("openai", "deepseek"));
    assert!(openai.id.is_some() && deepseek.id.is_some() && openai.id != deepseek.id);
    assert_eq!((openai.input_tokens, openai.occurred_at), (3, Some(1_790_000_000_000_000)));
    let untold = usage::record_of(usage::Family::Google, &json!({"modelVersion": "gemini-2.5-pro"}), None);
    assert_eq!((untold.id, &*untold.model, untold.occurred_at), (None, "gemini-2.5-pro", None));
    assert_eq!(untold.metadata.as_deref(), Some(r#"{"tallyd.not_understood":"usage"}"#));
}

#[test]
fn a_line_that_is_not_a_result_is_named_and_the_next_one_goes_on() {
    let lines = ["{", "", r#"{"colour":1}"#, r#"{"result":{"type":"succeeded","message":{"id":"msg_1"}}}"#];
    let found: Vec<_> = usage::records_of_batch(usage::Family::Anthropic, lines, None).collect();
    let errors: Vec<String> = found.iter().filter_map(|one| one.as_ref().err()).map(ToString::to_string).collect();
    assert!(errors[0].starts_with("line 1 is not JSON: "), "{errors:?}");
    assert_eq!(errors[1], "line 3 is not a result of a batch of anthropic's");
    assert_eq!((found.len(), &*found[2].as_ref().unwrap().request_id), (3, "msg_1"));
    let error = usage::record_of_result(usage::Family::OpenAi, &json!({"colour": 1}), None).unwrap_err();
    assert_eq!(error.to_string(), "the value is not a result of a batch of openai's");
}
