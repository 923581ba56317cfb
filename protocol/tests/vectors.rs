//! The shared vectors (`clients/vectors/`, described in `clients/README.md`): this crate writes and reads them byte for
//! byte. Vectors for a daemon's decisions (`accepted`, `refused`, `ndjson`) are only checked for their form here.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tallyd_protocol::check::Defaults;
use tallyd_protocol::message::write_records_frame;
use tallyd_protocol::{Budgets, CallScope, Checker, ClientMessage, Record, ServerMessage, frame, limits, record, scan};

fn vectors(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/vectors").join(file);
    let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let names: HashSet<&str> = vectors.iter().map(|vector| vector["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), vectors.len(), "{file}: two vectors of one name");
    assert!(vectors.len() > 10, "{file} has lost its vectors");
    vectors
}

fn bytes(vector: &Value, key: &str) -> Vec<u8> {
    let hex = vector[key].as_str().unwrap_or_else(|| panic!("{vector} has no {key}"));
    assert_eq!(hex.len() % 2, 0, "{hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn body(frame: &[u8]) -> &[u8] {
    let (prefix, body) = frame.split_first_chunk().unwrap();
    assert_eq!(frame::body_bytes(*prefix, limits::FRAME_BYTES), Ok(body.len()));
    body
}

fn text(value: &Value) -> record::Text {
    value.as_str().unwrap().to_owned().into()
}

fn uuid(value: &Value) -> [u8; 16] {
    u128::from_str_radix(&value.as_str().unwrap().replace('-', ""), 16).unwrap().to_be_bytes()
}

macro_rules! record_of {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        /// A record from its fields' names and values.
        fn record(json: &Value) -> Record {
            let mut record = Record::default();
            for (field, value) in json.as_object().unwrap() {
                match field.as_str() {
                    $(stringify!($name) => record.$name = of_json::$kind(value),)*
                    other => panic!("no field is called {other}"),
                }
            }
            record
        }
    };
}

tallyd_protocol::for_each_field!(record_of);

/// A field's value: a function for each kind of field.
mod of_json {
    use serde_json::Value;
    use tallyd_protocol::record::Text;

    pub use self::{json as decimal, text as required, units as tags};

    pub fn id(value: &Value) -> Option<[u8; 16]> {
        Some(super::uuid(value))
    }

    pub fn time(value: &Value) -> Option<i64> {
        value.as_i64()
    }

    pub fn text(value: &Value) -> Text {
        super::text(value)
    }

    pub fn count(value: &Value) -> u64 {
        value.as_u64().unwrap()
    }

    pub fn units(value: &Value) -> Vec<(Text, Text)> {
        let units = value.as_object().unwrap().iter();
        units.map(|(unit, quantity)| (unit.clone().into(), text(quantity))).collect()
    }

    pub fn status(value: &Value) -> u16 {
        count(value).try_into().unwrap()
    }

    pub fn latency(value: &Value) -> Option<u32> {
        Some(count(value).try_into().unwrap())
    }

    pub fn json(value: &Value) -> Option<Text> {
        Some(text(value))
    }
}

#[test]
fn records_are_written_byte_for_byte() {
    for vector in vectors("records.json") {
        let mut written = Vec::new();
        record::write(&mut written, &record(&vector["record"]));
        assert_eq!(written, bytes(&vector, "array_hex"), "{}", vector["name"]);
        assert_eq!(scan::value_bytes(&written), Ok(written.len()));
        let map = bytes(&vector, "map_hex");
        assert_eq!(scan::value_bytes(&map), Ok(map.len()), "{}", vector["name"]);
    }
}

#[test]
fn the_vectors_set_every_field() {
    let vectors = vectors("records.json");
    let full = vectors.iter().find(|vector| vector["name"] == "every field set").unwrap();
    let names: HashSet<&str> = full["record"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, record::FIELDS.into_iter().collect());
}

#[test]
fn frames_are_written_and_read_byte_for_byte() {
    for vector in vectors("frames.json") {
        let (name, frame, message) = (&vector["name"], bytes(&vector, "hex"), &vector["message"]);
        let mut written = Vec::new();
        if let Some(records) = message.get("records") {
            let list: Vec<Record> = records["records"].as_array().unwrap().iter().map(record).collect();
            write_records_frame(&mut written, records["first_seq"].as_u64().unwrap(), &list);
        } else if vector["sender"] == "client" {
            let expected: ClientMessage = serde_json::from_value(message.clone()).unwrap();
            expected.write_frame(&mut written);
            assert_eq!(rmp_serde::from_slice::<ClientMessage>(body(&frame)).unwrap(), expected, "{name}");
        } else {
            let expected: ServerMessage = serde_json::from_value(message.clone()).unwrap();
            expected.write_frame(&mut written);
            assert_eq!(ServerMessage::read(body(&frame)).unwrap(), expected, "{name}");
        }
        assert_eq!(written, frame, "{name}");
    }
}

#[test]
fn a_call_is_refused_as_the_vectors_say() {
    for vector in vectors("throttle.json") {
        let (name, call) = (&vector["name"], &vector["call"]);
        let checker = Checker::from(serde_json::from_value::<Budgets>(vector["budgets"].clone()).unwrap());
        let text = |field: &str| call[field].as_str().unwrap_or_default();
        let tags = call["tags"].as_object().into_iter().flatten();
        let tags: Vec<(&str, &str)> = tags.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        let call = CallScope {
            provider: text("provider"),
            model: text("model"),
            user_id: text("user"),
            app: text("app"),
            tags: &tags,
            estimate: text("estimate"),
        };
        let decision = checker.check(&call, &Defaults::default());
        assert_eq!(vector["throttle"], !decision.is_allowed(), "{name}");
        if let Some(remaining) = vector.get("remaining") {
            assert_eq!(decision.remaining_usd(), remaining.as_str(), "{name}");
        }
        if let Some(says) = vector.get("says") {
            assert_eq!(decision.into_result().unwrap_err().to_string(), says.as_str().unwrap(), "{name}");
        }
    }
}

#[test]
fn records_in_other_forms_are_whole_values() {
    for file in ["accepted.json", "refused.json"] {
        for vector in vectors(file) {
            let value = bytes(&vector, "hex");
            assert_eq!(scan::value_bytes(&value), Ok(value.len()), "{file}: {}", vector["name"]);
            // Each accepted record has one form, which every client writes.
            if file == "accepted.json" {
                assert!(!record(&vector["record"]).provider.is_empty());
            }
        }
    }
}

#[test]
fn codes_and_fields_are_those_of_the_specification() {
    let specification = include_str!("../README.md");
    for file in ["refused.json", "malformed.json", "ndjson.json"] {
        for vector in vectors(file) {
            if let Some(code) = vector["code"].as_str() {
                assert!(specification.contains(&format!("| `{code}` |")), "{file}: {code} is not specified");
            } else {
                assert!(!record(&vector["record"]).provider.is_empty(), "{file}: {}", vector["name"]);
            }
        }
    }
}

#[test]
fn the_specification_lists_the_fields_in_order() {
    let specification = include_str!("../README.md");
    let places: Vec<usize> = (record::FIELDS.iter().enumerate())
        .map(|(index, field)| specification.find(&format!("| {} | `{field}` |", index + 1)).expect(field))
        .collect();
    assert!(places.is_sorted());
}

#[test]
fn malformed_prefixes_and_values_are_found_without_decoding() {
    let vectors = vectors("malformed.json");
    for vector in vectors {
        let wire = bytes(&vector, "hex");
        let (prefix, body) = wire.split_first_chunk().unwrap();
        match (frame::body_bytes(*prefix, limits::FRAME_BYTES), vector["code"].as_str().unwrap()) {
            (Err(frame::PrefixError::TooLarge { .. }), code) => assert_eq!(code, "too_large"),
            (Err(frame::PrefixError::Empty), code) => assert_eq!(code, "malformed"),
            (Ok(bytes), code) => {
                assert_eq!(bytes, body.len(), "{}", vector["name"]);
                if scan::value_bytes(body) != Ok(body.len()) {
                    // The number of records that the frame claims is refused before they are read.
                    assert!(matches!(code, "malformed" | "too_large"), "{}", vector["name"]);
                }
            }
        }
    }
}
