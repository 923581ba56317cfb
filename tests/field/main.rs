//! Input as vendors, SDKs, gateways and people really send it: each case of `cases.json` goes through the real daemon,
//! and must have the right result.
//!
//! A case is an object: `kind` (the kind of input), `way`, `input`, `right` (the expected result), and `source` (the
//! public report on which it is based, with other numbers). `times` sends it more than once. The ways:
//!
//! | way | input |
//! |---|---|
//! | `line` | one record, as an object or as the line's text |
//! | `http` | one record, or an array of them |
//! | `otlp` | the attributes of one span, or of one event if it has the key `event`; text is a whole body, `$SOURCE` being its resource |
//! | `import` | a file's text, or several texts that the file has one after the other |
//! | `bill` | the text of a vendor's export |
//!
//! An `otlp` case may have a `span_kind` (default 3, a client's), a `scope` (the instrumentation's name), a `service`
//! (`service.name`) and a `signal` (of a whole body, default `traces`).
//!
//! An `import` has a `file` (its name) and `arguments`. A `bill` may have a `recorded` call, which is sent before.
//!
//! `right` has the expected columns of the call log. These keys are not columns:
//!
//! * `records`: the number of calls, 1 by default; `sum_usd`: the cost of all of them
//! * `priced`: whether they have a cost
//! * `not_understood`: the name that made a call unpriced
//! * `refused`: the field that the answer names
//! * `metadata`: keys that must be there
//! * `exit`: the command's exit code; `says`: a part of its output
//!
//! The clients' vectors are cases, too. `clients/vectors/usage.json` has vendors' answers with the records that all
//! clients make of them, and the records are sent as lines. Some vectors have a `right`.

#[allow(dead_code, reason = "the tests of the HTTP API share it")]
#[path = "../http/client.rs"]
mod client;
mod send;
#[path = "../it/support/mod.rs"]
mod support;

use serde_json::{Value, json};

use self::client::Api;
use self::send::Sent;

/// A case, and the user id of its calls.
struct Case {
    user: String,
    body: Value,
}

impl Case {
    fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.body[key].as_str().unwrap_or(default)
    }
}

fn cases() -> Vec<Case> {
    let cases: Vec<Value> = serde_json::from_str(include_str!("cases.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../../clients/vectors/usage.json")).unwrap();
    let cases = cases.into_iter().chain(vectors.iter().filter(|vector| !vector["record"].is_null()).map(of_vector));
    let with_user = |(number, body)| Case { user: format!("case-{number}"), body };
    cases.enumerate().map(with_user).collect()
}

/// The record that every client makes of a vendor's answer. If it marks a value as not understood, the call is
/// unpriced.
fn of_vector(vector: &Value) -> Value {
    let record = &vector["record"];
    let mark = &record["metadata"]["tallyd.not_understood"];
    let mut right = vector.get("right").cloned().unwrap_or_else(|| json!({}));
    right["not_understood"] = mark.clone();
    if let Some(cost) = record.get("cost_usd") {
        right["cost_usd"] = cost.clone();
    } else if !mark.is_null() {
        right["cost_usd"] = Value::Null;
    }
    json!({"kind": "a vector of the clients", "way": "line", "input": record, "right": right, "source": vector["name"]})
}

#[test]
fn every_case_comes_out_right() {
    let mut api = Api::with(&[("TALLYD_OTLP_USER_ATTRIBUTES", "field.case")]);
    let token = api.token("ingest");
    let cases = cases();
    assert!(cases.len() >= 30, "only {} cases were found", cases.len());
    let mut sent = Vec::new();
    for case in &cases {
        let mut last = Sent::default();
        for _ in 0..case.body["times"].as_u64().unwrap_or(1) {
            last = send::send(&api, &token, case);
        }
        sent.push(last);
    }
    api.daemon.until_status("everything is loaded", |status| status["wal"]["unflushed_records"] == 0);
    let mut wrong = Vec::new();
    for (case, sent) in cases.iter().zip(&sent) {
        let faults = faults(&api, case, sent);
        if !faults.is_empty() {
            let (kind, source) = (case.text("kind", ""), case.text("source", ""));
            wrong.push(format!(
                "{} ({kind}; {source})\n  {}\n  {}",
                case.user,
                case.body["input"],
                faults.join("\n  ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    api.daemon.assert_reconciled();
}

/// The case's calls, with amounts as text.
fn calls(api: &Api, user: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT coalesce(jsonb_agg(to_jsonb(l) || jsonb_build_object('cost_usd', trim_scale(cost_usd)::text)), '[]')
           FROM api_usage_log AS l WHERE user_id = '{user}'"
    );
    serde_json::from_str(&api.postgres.psql(&sql)).unwrap()
}

/// The differences from the expected result.
fn faults(api: &Api, case: &Case, sent: &Sent) -> Vec<String> {
    let calls = calls(api, &case.user);
    let bill = (case.text("way", "") == "bill").then(|| send::bill(api, case));
    let sent = bill.as_ref().unwrap_or(sent);
    let right = case.body["right"].as_object().expect("a case says what is right");
    let (mut faults, mut compared) = (Vec::new(), 0);
    let records = right.get("records").and_then(Value::as_u64).unwrap_or(u64::from(!right.contains_key("refused")));
    if calls.len() as u64 != records {
        faults.push(format!("{} records, not {records}; the answer was {}", calls.len(), sent.answer));
    }
    let mut hold = |what: &str, found: Value, expected: &Value| {
        compared += 1;
        if found != *expected {
            faults.push(format!("{what} is {found}, not {expected}"));
        }
    };
    for (key, expected) in right {
        match key.as_str() {
            "records" => compared_records(&mut hold, records, expected),
            "refused" => hold(key, sent.refused.clone().into(), expected),
            "exit" => hold(key, sent.exit.into(), expected),
            "says" => {
                let is_said = sent.answer.contains(expected.as_str().unwrap_or("(no text)"));
                hold("what is said", if is_said { expected.clone() } else { sent.answer.clone().into() }, expected);
            }
            "sum_usd" => hold(key, sum(api, &case.user), expected),
            _ => {
                for call in &calls {
                    hold_call(&mut hold, call, key, expected);
                }
            }
        }
    }
    assert!(compared > 0 || !faults.is_empty(), "{} says nothing that can be wrong", case.user);
    faults
}

type Hold<'h> = dyn FnMut(&str, Value, &Value) + 'h;

fn compared_records(hold: &mut Hold<'_>, records: u64, expected: &Value) {
    hold("records", records.into(), expected);
}

fn hold_call(hold: &mut Hold<'_>, call: &Value, key: &str, expected: &Value) {
    match key {
        "priced" => hold(key, (!call["cost_usd"].is_null()).into(), expected),
        "not_understood" => hold(key, call["metadata"]["tallyd.not_understood"].clone(), expected),
        "metadata" => {
            for (name, expected) in expected.as_object().expect("metadata is an object") {
                let found =
                    call["metadata"][name].to_string().replace(call["user_id"].as_str().unwrap_or("-"), "$USER");
                hold(&format!("metadata {name}"), serde_json::from_str(&found).unwrap(), expected);
            }
        }
        column => {
            assert!(call.get(column).is_some(), "{column} is not a column of the call log");
            hold(column, call[column].clone(), expected);
        }
    }
}

fn sum(api: &Api, user: &str) -> Value {
    let sql = format!("SELECT trim_scale(sum(cost_usd))::text FROM api_usage_log WHERE user_id = '{user}'");
    api.postgres.psql(&sql).into()
}
