//! Newline-delimited JSON, as a connection reads it.

use super::admitted;
use tallyd_intake::Encoded;

/// Names and shapes of the lines.
pub const WORDS: [&[u8]; 11] = [
    br#"{"provider":"claude","#,
    br#""extra_units":{"image":1.5}"#,
    br#""metadata":{"a":[1e400,"\u0000"]}"#,
    br#""cost_usd":"-1e9""#,
    br#""occurred_at":"2026-01-01T00:00:00Z""#,
    br#""id":"0192f0c1-7a10-7000-8000-000000000001""#,
    br#""status":999"#,
    br#""\ud800""#,
    br#"[[[[[[[["#,
    br#"{"":{"":{"":"#,
    b"99999999999999999999999999999999999999999",
];

/// Reads each line of the bytes.
pub fn run(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        let text = line.trim_ascii();
        if !text.is_empty() {
            admitted::check(Encoded::Json(text));
        }
    }
}
