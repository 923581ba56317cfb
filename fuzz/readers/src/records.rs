//! The body of `POST /api/v1/records`. The first byte chooses between JSON and lines.

use super::admitted;
use tallyd_intake::Encoded;
use tallyd_intake::body::split;

/// Shapes of bodies.
pub const WORDS: [&[u8]; 6] = [
    br#"[{"provider":"rentcast"},"#,
    br#""metadata":{"a":[1e400,"\u0000"]}"#,
    br#""cost_usd":0.0016150000000000001"#,
    br#""input_tokens":"1000.0""#,
    br"\ud83d",
    b"\n{}\n",
];

/// Splits the body and reads each record of it.
pub fn run(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let kind = if choice & 1 == 0 { "application/json" } else { "application/x-ndjson" };
    let texts = match split(body, kind) {
        Ok(texts) => texts,
        Err(error) => return assert!(!error.to_string().is_empty() && !error.hint().is_empty()),
    };
    assert!(texts.iter().map(|text| text.len()).sum::<usize>() <= body.len());
    for text in texts {
        admitted::check(Encoded::Json(text));
    }
}

/// A body of each form.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"0{"provider":"rentcast","endpoint":"/avm","metadata":{"k":[1.50,"\ud83d\ude00"]}}"#,
        r#"0[{"provider":"claude","model":"m","input_tokens":1234.0},{"provider":"x","cost_usd":1e-3}, 7]"#,
        "1{\"provider\":\"x\"}\n{broken\n{\"provider\":\"x\",\"extra_units\":{\"image\":\"2\"}}\n",
        r#"0{"provider":"x","metadata":{"$serde_json::private::RawValue":"{\"$serde_json::private::RawValue\":\"1\"}"}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
