//! Dead letters' payloads, which are shown, searched and corrected. The first byte chooses the format.

use tallyd_intake::Encoded;
use tallyd_model::json;
use tallyd_store::dead_letters::{Edit, Payload};

/// Shapes of records, in both formats.
pub const WORDS: [&[u8]; 6] = [
    br#"{"provider":"rentcast","user_id":"u"}"#,
    br#""user_id":17"#,
    b"\x82\xa8provider\xa1x\xa7user_id\xa1u",
    b"\x93\xc0\xc0\xa1x",
    b"\xc4\x02\xff\xfe",
    br"\ud83d",
];

/// Shows the letter, and corrects it as forgetting a user and as a person would.
pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let payload = Payload::new(bytes.to_vec(), if choice & 1 == 0 { "json" } else { "msgpack" });
    let shown = payload.to_json();
    json::check(shown.get()).expect("what is shown is JSON");
    assert!(payload.provider().len() <= 4 * bytes.len());
    let edits = ["user_id", "request_id", "metadata"].map(Edit::remove);
    let Ok(corrected) = payload.with(&edits) else { return };
    // A retry reads it in this way; the result does not matter.
    let _ = match &corrected {
        Payload::Json(bytes) => Encoded::Json(bytes),
        Payload::MessagePack(bytes) => Encoded::MessagePack(bytes),
    }
    .read();
    let record: json::Value = json::from_str(corrected.to_json().get()).expect("what is corrected is whole");
    for field in ["user_id", "request_id", "metadata"] {
        assert!(record.get(field).is_none(), "{field} is left: {record}");
    }
}

/// A record of each format, whole and not.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut map = b"1".to_vec();
    tallyd_protocol::record::write(&mut map, &tallyd_protocol::Record::claude("m", 1, 2).user("u"));
    vec![
        br#"0{"provider":"rentcast","user_id":"u","metadata":{"$serde_json::private::RawValue":"[1]"}}"#.to_vec(),
        br#"0{"provider":"rentcast","user_id":17,"cost_usd":1e99999}"#.to_vec(),
        br#"0{"provider":"rentcast","user_id":"u"#.to_vec(),
        map,
        b"1\x82\xa8provider\xa1x\xa7user_id\xc4\x02\xff\xfe".to_vec(),
    ]
}
