use super::*;
use crate::Rules;
use tallyd_model::pricing::{Catalog, PricingOptions};

const NOW_US: i64 = 1_750_000_000_000_000;

fn admit(json: &str) -> Result<String, (Code, std::borrow::Cow<'static, str>)> {
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    let admission = Admission { rules: &Rules::default(), catalog: &catalog, now_us: NOW_US };
    let raw: RawRecord<'_> = tallyd_model::json::from_str(json).unwrap();
    let mut scratch = Scratch::default();
    admission
        .admit_raw(&raw, &mut scratch)
        .map(|call| format!("{call:?}"))
        .map_err(|refusal| (refusal.code, refusal.field))
}

#[test]
fn each_bound_refuses_with_its_code_and_field() {
    let long = "x".repeat(513);
    let cases = [
        (r#"{}"#, Code::Missing, "provider"),
        (r#"{"provider":5}"#, Code::Type, "provider"),
        (r#"{"provider":"a\u0000"}"#, Code::Nul, "provider"),
        (&format!(r#"{{"provider":"x","model":"{long}"}}"#), Code::TooLong, "model"),
        (r#"{"provider":"x","input_tokens":-1}"#, Code::Range, "input_tokens"),
        (r#"{"provider":"x","output_tokens":1000000000001}"#, Code::Range, "output_tokens"),
        (r#"{"provider":"x","output_tokens":1.5}"#, Code::Type, "output_tokens"),
        (r#"{"provider":"x","requests":"1,200"}"#, Code::Type, "requests"),
        (r#"{"provider":"x","requests":1e-1}"#, Code::Type, "requests"),
        (r#"{"provider":"x","requests":1e17}"#, Code::Range, "requests"),
        (r#"{"provider":"x","occurred_at":0}"#, Code::TooEarly, "occurred_at"),
        (r#"{"provider":"x","occurred_at":"1970-01-01T00:00:00Z"}"#, Code::TooEarly, "occurred_at"),
        (r#"{"provider":"x","occurred_at":1750000300000001}"#, Code::TooLate, "occurred_at"),
        (r#"{"provider":"x","occurred_at":99999999999999999999999999}"#, Code::TooLate, "occurred_at"),
        (r#"{"provider":"x","occurred_at":"2025-01-01 00:00:00"}"#, Code::Format, "occurred_at"),
        (r#"{"provider":"x","id":"nope"}"#, Code::Format, "id"),
        (r#"{"provider":"x","status":1000}"#, Code::Range, "status"),
        (r#"{"provider":"x","latency_ms":2147483648}"#, Code::Range, "latency_ms"),
        (r#"{"provider":"x","cost_usd":"0.1.2"}"#, Code::Format, "cost_usd"),
        (r#"{"provider":"x","cost_usd":"1000000000.01"}"#, Code::Range, "cost_usd"),
        (r#"{"provider":"x","cost_usd":"-0.000000000000000001"}"#, Code::Range, "cost_usd"),
        (r#"{"provider":"x","cost_usd":"10000.000000000000000001"}"#, Code::Range, "cost_usd"),
        (r#"{"provider":"x","cost_usd":true}"#, Code::Type, "cost_usd"),
        (r#"{"provider":"x","extra_units":{"image":"-1"}}"#, Code::Range, "extra_units"),
        (r#"{"provider":"x","extra_units":[1]}"#, Code::Type, "extra_units"),
        (r#"{"provider":"x","metadata":"[1]"}"#, Code::Format, "metadata"),
        (r#"{"provider":"x","metadata":7}"#, Code::Type, "metadata"),
        (&format!(r#"{{"provider":"x","metadata":{{"a":"{}"}}}}"#, "y".repeat(16_384)), Code::TooLong, "metadata"),
    ];
    for (json, code, field) in cases {
        assert_eq!(admit(json), Err((code, field.into())), "{json}");
    }
}

#[test]
fn each_bound_is_accepted_up_to_its_edge() {
    let text = "x".repeat(512);
    for json in [
        &format!(r#"{{"provider":"x","model":"{text}"}}"#),
        r#"{"provider":"x","input_tokens":1000000000}"#,
        r#"{"provider":"x","occurred_at":1420070400000000}"#,
        r#"{"provider":"x","occurred_at":1750000300000000}"#,
        r#"{"provider":"x","cost_usd":"0"}"#,
        r#"{"provider":"x","cost_usd":"10000"}"#,
        r#"{"provider":"x","metadata":{"a":"\\u0000"}}"#,
        r#"{"provider":"x","status":999,"latency_ms":2147483647}"#,
        &format!(r#"{{"provider":"x","endpoint":"/a?{}"}}"#, "y".repeat(4_000)),
    ] {
        assert!(admit(json).is_ok(), "{json}: {:?}", admit(json));
    }
}

#[test]
fn a_call_is_normalised_and_priced() {
    let call = admit(
        r#"{"provider":"Anthropic","model":"claude-sonnet-4-5-20250929","input_tokens":1000,"output_tokens":100,
            "endpoint":"https://api.anthropic.com/v1/messages?beta=true","id":"0192f0c1-7a10-7000-8000-000000000001"}"#,
    );
    let call = call.unwrap();
    for part in ["provider: \"claude\"", "endpoint: \"https://api.anthropic.com/v1/messages\"", "Catalog"] {
        assert!(call.contains(part), "{part} in {call}");
    }
    assert!(admit(r#"{"provider":"claude","model":"never-heard-of","input_tokens":1}"#).unwrap().contains("Unpriced"));
    assert!(admit(r#"{"provider":"claude","cost_usd":"0.25"}"#).unwrap().contains("Client"));
}

#[test]
fn metadata_never_costs_the_call() {
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(7_000), "]".repeat(7_000));
    let spread = format!("{{\"a\":[{}1]}}", "1,                ".repeat(1_500));
    let texts = [r#"{"a":"\u0000\ud83d"}"#, r#"{"a":1e999999}"#, r#"{"a":[1e131071,1e131071]}"#, &nested, &spread];
    for metadata in texts {
        let line = format!(
            r#"{{"provider":"rentcast","endpoint":"/avm","cost_usd":3.5250000000000003e-05,"metadata":{metadata}}}"#
        );
        assert!(admit(&line).unwrap().contains("Usd(0.00003525)"), "{metadata}");
    }
}

#[test]
fn what_a_record_does_not_say_comes_from_what_it_came_in() {
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    let admission = Admission { rules: &Rules::default(), catalog: &catalog, now_us: NOW_US };
    let id = || [7; 16];
    let absent = Absent { id: Some(&id), occurred_at_us: Some(NOW_US - 5) };
    let told = |json: &str, absent| {
        admission.admit_with(Encoded::Json(json.as_bytes()), absent, |call| {
            let call = call.unwrap();
            (call.id, call.stated.id, call.occurred_at_us)
        })
    };
    let says_nothing = r#"{"provider":"x"}"#;
    assert_eq!(told(says_nothing, absent), ([7; 16], true, NOW_US - 5));
    let (_, is_stated, at_us) = told(says_nothing, Absent::default());
    assert_eq!((is_stated, at_us), (false, NOW_US));
    let says = r#"{"provider":"x","id":"0192f0c1-7a10-7000-8000-000000000001","occurred_at":1750000000000001}"#;
    assert_eq!(told(says, absent), told(says, Absent::default()));
    assert_ne!(told(says, absent).0, [7; 16]);
}
