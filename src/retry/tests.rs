use tallyd_protocol::Record;

use super::*;

fn edits(texts: &[&str]) -> Vec<Edit> {
    texts.iter().map(|text| Edit::parse(text).unwrap()).collect()
}

fn tree(payload: &Payload) -> serde_json::Value {
    serde_json::from_str(payload.to_json().get()).unwrap()
}

fn put(out: &mut Vec<u8>, text: &str) {
    rmp::encode::write_str(out, text).unwrap();
}

fn message_pack() -> Vec<u8> {
    let record = Record {
        id: Some([7; 16]),
        cost_usd: Some("0.1000000000000000055".into()),
        metadata: Some(r#"{"k":1.10}"#.into()),
        ..Record::claude("claude-sonnet-4-5", 10, 20)
    };
    let mut bytes = Vec::new();
    tallyd_protocol::record::write(&mut bytes, &record);
    bytes
}

#[test]
fn a_correction_changes_its_field_and_no_other_in_either_format() {
    let json = br#"{"provider":"rentcast","model":5,"cost_usd":0.1000000000000000055,"input_tokens":3,"nonsense":1}"#;
    let edits = [
        edits(&["model=avm", "status=201", "status=202", "extra_units={\"image\":2.50}"]),
        vec![Edit::remove("nonsense")],
    ]
    .concat();
    for payload in [Payload::Json(json.to_vec()), Payload::MessagePack(message_pack())] {
        let before = encoded(&payload).read().ok().map(|raw| format!("{:?}", raw.metadata));
        let corrected = payload.with(&edits).unwrap();
        let raw = encoded(&corrected).read().unwrap();
        assert_eq!(format!("{:?}", raw.model), r#"Given("avm")"#, "{payload:?}");
        assert_eq!(format!("{:?}", raw.status), "Given(202)");
        assert_eq!(format!("{:?}", raw.cost_usd.0), r#"Given("0.1000000000000000055")"#);
        assert_eq!(format!("{:?}", raw.extra_units.0), r#"Given([("image", Decimal(Given("2.50")))])"#);
        if let Some(before) = before {
            assert_eq!(format!("{:?}", raw.metadata), before);
        }
    }
}

#[test]
fn an_array_is_shown_and_corrected_by_its_fields_names() {
    let mut bytes = vec![0x93];
    bytes.extend([0xc4, 16]);
    bytes.extend([7; 16]);
    bytes.push(0xc0);
    put(&mut bytes, "rentcast");
    let payload = Payload::MessagePack(bytes);
    let shown = tree(&payload);
    assert_eq!(shown["provider"], "rentcast");
    assert_eq!(shown["id"], uuid::Uuid::from_bytes([7; 16]).to_string());
    let corrected = payload.with(&edits(&["endpoint=/avm"])).unwrap();
    assert_eq!(tree(&corrected)["endpoint"], "/avm");
    assert_eq!(corrected.provider(), "rentcast");
    assert!(encoded(&corrected).read().is_ok());
}

#[test]
fn what_is_no_correction_is_told() {
    for (text, told) in [
        ("provider", "not a correction"),
        ("colour=red", "no field is called"),
        ("status=good", "a whole number"),
        ("metadata=[]", "a JSON object"),
        ("extra_units={\"image\":[]}", "unit to quantity"),
    ] {
        let error = Edit::parse(text).unwrap_err().to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
}

#[test]
fn a_payload_that_was_cut_off_is_shown_as_text_and_not_corrected() {
    let whole = message_pack();
    for payload in [Payload::Json(br#"{"provider":"rentca"#.to_vec()), Payload::MessagePack(whole[..30].to_vec())] {
        assert!(tree(&payload).is_string());
        assert!(matches!(payload.with(&edits(&["provider=x"])), Err(EditError::Broken(_))));
        assert!(encoded(&payload).read().is_err());
    }
}

#[test]
fn text_that_is_not_utf_8_is_shown_and_never_becomes_a_value() {
    let mut bytes = vec![0x81];
    put(&mut bytes, "provider");
    bytes.extend([0xa2, 0xff, 0xfe]);
    let payload = Payload::MessagePack(bytes);
    assert_eq!(tree(&payload)["provider"]["bytes"], "fffe");
    let corrected = payload.with(&edits(&["endpoint=/avm"])).unwrap();
    assert!(format!("{:?}", encoded(&corrected).read().unwrap().provider).contains("Wrong"));
}

#[test]
fn keys_in_keys_do_not_double_what_is_shown() {
    for depth in [1usize, 30, 100] {
        let mut record = vec![0x81; depth];
        record.extend_from_slice(b"\xa1k");
        record.extend(std::iter::repeat_n(1, depth));
        let shown = Payload::MessagePack(record).to_json();
        assert!(shown.get().len() < 100, "{depth}: {} bytes", shown.get().len());
    }
}
