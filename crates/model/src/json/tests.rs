use std::collections::BTreeMap;

use super::*;

#[test]
fn no_key_has_a_meaning_of_its_own_at_any_depth_on_a_workers_stack() {
    let test = || {
        for key in ["$serde_json::private::RawValue", "$serde_json::private::Number", RAW, "$__toml_private_datetime"] {
            // Text within text, as deep as fits into 45 KB: each level doubles the backslashes, so few levels need many
            // bytes.
            let mut nested = "1".to_owned();
            while nested.len() < 45_000 {
                nested = serde_json::json!({ key: nested }).to_string();
            }
            let arrays = serde_json::json!({ key: "[".repeat(45_000) + &"]".repeat(45_000) }).to_string();
            for text in [nested, arrays] {
                assert!(from_str::<Value>(&text).unwrap()[key].is_string());
                assert_eq!(from_str::<BTreeMap<String, Raw<'_>>>(&text).unwrap().len(), 1);
                assert_eq!(storable(&text).unwrap(), text);
                // `serde_json`, which reads the daemon's own files, does not have such a key either.
                assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()[key].is_string());
            }
        }
        for open in ["[", "{\"a\":", "[{\"\":"] {
            let deep = open.repeat(400_000);
            assert!(check(&deep).is_err() && storable(&deep).is_err());
            assert!(from_str::<Value>(&deep).is_err() && from_str::<Vec<Raw<'_>>>(&deep).is_err());
        }
        let deep = format!("{}1{}", "[".repeat(400_000), "]".repeat(400_000));
        check(&deep).unwrap();
        let error = from_str::<Value>(&deep).unwrap_err().to_string();
        assert!(error.contains("levels of nesting"), "{error}");
        assert!(
            from_str::<Vec<serde_json::Value>>(&deep).unwrap_err().to_string().contains("nested more than 128 levels")
        );
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn an_array_is_divided_where_brackets_and_quotes_tell() {
    let some =
        |array: &'static [u8]| elements(array, 3).map(|all| all.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
    let broken = some(b" [{\"a\":\"\xff,]\"} , {\"b\":\"\\\",\n\"}, nonsense] ");
    assert_eq!(
        broken,
        Some(vec![b"{\"a\":\"\xff,]\"}".to_vec(), b"{\"b\":\"\\\",\n\"}".to_vec(), b"nonsense".to_vec()])
    );
    assert_eq!(some(b"[1,2,3,4]").map(|all| all.len()), Some(3));
    for array in [&b"[1,2"[..], b"1,2]", b"[{]", b"[\"]", b"[}{]", b"[[1]", b""] {
        assert_eq!(some(array), None, "{}", String::from_utf8_lossy(array));
    }
}

#[test]
fn text_that_cannot_be_read_is_mended_and_the_rest_stays() {
    for text in ["", "{}", "{\n\t\"a\": \"\\n\\\"\"\n}", "[\"é\"]"] {
        assert_eq!(mended(text.as_bytes()), None, "{text}");
    }
    for broken in ["\u{1}".repeat(1_025).into_bytes(), vec![0xff; 1_025]] {
        assert_eq!(
            mended(&[b"\"", &broken[..], b"\""].concat()),
            None,
            "what is made stays about as long as what was sent"
        );
        assert!(mended(&[b"\"", &broken[1..], b"\""].concat()).is_some());
    }
    assert_eq!(mended(b"{\n\"a\":\"x\ny\xffz\"}\n").as_deref(), Some("{\n\"a\":\"x\u{fffd}y\u{fffd}z\"}\n"));
}

#[test]
fn what_jsonb_does_not_take_is_changed_and_nothing_is_lost() {
    let deep = format!("{{\"a\":{}7{}}}", "[".repeat(70), "]".repeat(70));
    let text = format!("{}7{}", "[".repeat(7), "]".repeat(7));
    let kept = format!("{{\"a\":{}\"{text}\"{}}}", "[".repeat(63), "]".repeat(63));
    let cases = [
        (r#"{"a": 1e999999, "b": 1.50}"#, r#"{"a":"1e999999","b":1.50}"#),
        (r#"{"a":1e131071}"#, r#"{"a":"1e131071"}"#),
        (r#"{"a":1E+64,"b":-1e-64}"#, r#"{"a":1E+64,"b":-1e-64}"#),
        (r#"{"a":-1e-65}"#, r#"{"a":"-1e-65"}"#),
        (r#"{"a":1e00000000000000000000000000000000000065}"#, r#"{"a":"1e00000000000000000000000000000000000065"}"#),
        (r#"{"a":"x\ud83d"}"#, "{\"a\":\"x\u{fffd}\"}"),
        (r#"{"a":"\ud83d\ude00 \u0041"}"#, r#"{"a":"\ud83d\ude00 \u0041"}"#),
        (r#"{"\ud83d":"\ude00\ud83dx\ud83d\u0041"}"#, "{\"\u{fffd}\":\"\u{fffd}\u{fffd}x\u{fffd}A\"}"),
        (r#"{"a":"\u0000b\n"}"#, "{\"a\":\"\u{fffd}b\\n\"}"),
        (r#"{"a":"\\u0000"}"#, r#"{"a":"\\u0000"}"#),
        (&deep, &kept),
    ];
    for (sent, stored) in cases {
        assert_eq!(storable(sent).unwrap(), stored, "{sent}");
        // A changed text is not changed again.
        assert!(matches!(storable(stored).unwrap(), std::borrow::Cow::Borrowed(_)), "{stored}");
    }
    assert_eq!(storable::compact(" { \"a b\" : [ 1 , 2 ] } "), r#"{"a b":[1,2]}"#);
    assert_eq!(shallow(r#"{"cost_usd": 1e999999}"#), r#"{"cost_usd": 1e999999}"#);
}

#[test]
fn the_grammar_is_jsons() {
    for text in [
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "NaN",
        "nul",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "[1}",
        "{\"a\" 1}",
        "1 2",
        "\"",
        "\"\\",
        "[",
        "tru",
        "-",
        "{\"a\":}",
        "[1 2]",
        "\"\\u12",
    ] {
        assert!(check(text).is_err(), "{text}");
        assert!(from_str::<Value>(text).is_err(), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
    }
    let text = r#" {"a": [1, -0.5e+3, "\"\\\/\b\f\n\r\t\u00e9é", true, false, null, {}, []], "a": {"b": 12345678901234567890.10}} "#;
    check(text).unwrap();
    let value: Value = from_str(text).unwrap();
    assert_eq!(value["a"]["b"].as_number(), Some("12345678901234567890.10"));
    assert_eq!(to_string(&value).unwrap(), r#"{"a":{"b":12345678901234567890.10}}"#);
    let error = from_str::<Value>("{\n \"a\": x}").unwrap_err();
    assert_eq!(error.to_string(), "expected a value, found 'x' at line 2 column 7");
}

#[test]
fn types_are_read_with_whole_floats_as_integers() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample<'a> {
        count: u64,
        #[serde(borrow)]
        raw: Raw<'a>,
        text: Option<String>,
        float: f64,
        kind: Kind,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Plain,
        With(i32),
    }
    let text = r#"{"count": 1234.0, "raw": [ 1 ], "text": null, "float": 1e2, "kind": {"with": -1e1}}"#;
    let read: Sample<'_> = from_str(text).unwrap();
    assert_eq!(
        (read.count, read.raw.get(), read.text, read.float, read.kind),
        (1234, "[ 1 ]", None, 100.0, Kind::With(-10))
    );
    assert_eq!(from_str::<Kind>("\"plain\"").unwrap(), Kind::Plain);
    assert!(from_str::<Kind>("\"other\"").unwrap_err().is_data());
    assert!(from_str::<u64>("1.5").unwrap_err().is_data());
    assert!(from_str::<u64>("-1").is_err() && from_str::<u64>("1e400").is_err());
    assert!(from_str::<Sample<'_>>("[1]").is_err(), "an array is not an object");
    let error = from_str::<Sample<'_>>(r#"{"colour": 1}"#).unwrap_err();
    assert!(
        error.is_data() && error.to_string().starts_with("unknown field `colour`, expected one of `count`"),
        "{error}"
    );
}

#[test]
fn raw_texts_are_written_as_they_stand() {
    let raw: Raw<'_> = from_str(r#"{"b": 1.50, "a": [ ]}"#).unwrap();
    assert_eq!(to_string(&[raw]).unwrap(), r#"[{"b": 1.50, "a": [ ]}]"#);
    assert_eq!(to_string_pretty(&[raw]).unwrap(), "[\n  {\"b\": 1.50, \"a\": [ ]}\n]");
}
