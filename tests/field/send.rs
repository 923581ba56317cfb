//! The ways in which cases are sent.

use serde_json::{Value, json};

use crate::Case;
use crate::client::{Answer, Api};

/// The daemon's answer.
#[derive(Default)]
pub(crate) struct Sent {
    pub answer: String,
    /// The refused field, or an empty text.
    pub refused: String,
    /// A command's exit code.
    pub exit: Option<i32>,
}

pub(crate) fn send(api: &Api, token: &str, case: &Case) -> Sent {
    match case.text("way", "") {
        "line" => line(api, case),
        "http" => http(api, token, case),
        "otlp" => otlp(api, token, case),
        "import" => import(api, case),
        "bill" if case.body["recorded"].is_object() => line_of(api, &case.body["recorded"], &case.user),
        // The calls for the comparison have to be loaded first.
        "bill" => Sent::default(),
        way => panic!("{}: {way:?} is not a way in", case.user),
    }
}

fn line(api: &Api, case: &Case) -> Sent {
    let record = match &case.body["input"] {
        // Not parsed here: it may be malformed on purpose.
        Value::String(text) => text.replacen('{', &format!("{{\"user_id\":\"{}\",", case.user), 1),
        record => return line_of(api, record, &case.user),
    };
    say(api, &record)
}

fn line_of(api: &Api, record: &Value, user: &str) -> Sent {
    say(api, &with_user(record, user).to_string())
}

fn say(api: &Api, record: &str) -> Sent {
    let answers = api.daemon.lines(&format!("{record}\n"));
    let answer = answers.first().cloned().unwrap_or_default();
    Sent { refused: refused(&answer), answer: answer.to_string(), exit: None }
}

/// Imports each text under one name with one command. Returns the last answer.
fn import(api: &Api, case: &Case) -> Sent {
    let path = api.daemon.data().with_file_name(format!("{}-{}", case.user, case.text("file", "calls.csv")));
    let texts = match &case.body["input"] {
        Value::Array(texts) => texts.clone(),
        text => vec![text.clone()],
    };
    let (name, user) = (path.display().to_string(), format!("user_id={}", case.user));
    let mut words = vec!["import", &name, "--set", &user];
    words.extend(case.body["arguments"].as_array().into_iter().flatten().filter_map(Value::as_str));
    let mut last = Sent::default();
    for text in &texts {
        std::fs::write(&path, text.as_str().expect("a file is text")).unwrap();
        last = command(api, &words);
    }
    last
}

/// Compares a bill with the recorded calls.
pub(crate) fn bill(api: &Api, case: &Case) -> Sent {
    let path = api.daemon.data().with_file_name(format!("{}.csv", case.user));
    std::fs::write(&path, case.body["input"].as_str().expect("a bill is text")).unwrap();
    let name = path.display().to_string();
    let mut words = vec!["bill-check", &name];
    words.extend(case.body["arguments"].as_array().into_iter().flatten().filter_map(Value::as_str));
    command(api, &words)
}

fn command(api: &Api, words: &[&str]) -> Sent {
    let output = api.daemon.run(words);
    let said = [output.stdout, output.stderr].concat();
    Sent { answer: String::from_utf8_lossy(&said).into_owned(), exit: output.status.code(), refused: String::new() }
}

fn http(api: &Api, token: &str, case: &Case) -> Sent {
    let body = match &case.body["input"] {
        Value::Array(records) => records.iter().map(|record| with_user(record, &case.user)).collect(),
        record => with_user(record, &case.user),
    };
    let answer = api.post("/api/v1/records", token, &body.to_string());
    Sent { refused: refused(&answer.json()["results"][0]), answer: answer.text(), exit: None }
}

fn refused(answer: &Value) -> String {
    let field = answer.get("field").or_else(|| answer.get("error")?.get("field"));
    field.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn with_user(record: &Value, user: &str) -> Value {
    let mut record = record.clone();
    record["user_id"] = user.into();
    record
}

fn otlp(api: &Api, token: &str, case: &Case) -> Sent {
    let service = case.text("service", "field");
    let resource = json!({"attributes": attributes(&json!({"service.name": service, "field.case": case.user}))});
    let scope = json!({"name": case.text("scope", "")});
    let input = &case.body["input"];
    let answer = if let Some(body) = input.as_str() {
        post(api, token, case.text("signal", "traces"), &body.replace("$SOURCE", &resource.to_string()))
    } else if let Some(event) = input.get("event") {
        let record = json!({"timeUnixNano": "1790000000000000000", "body": {"stringValue": event},
            "attributes": attributes(input)});
        let body =
            json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": [record]}]}]});
        post(api, token, "logs", &body.to_string())
    } else {
        // The span's id is made of the case's number, so that no two cases are one call.
        let number: u64 = case.user.trim_start_matches("case-").parse().unwrap();
        let span = json!({"traceId": format!("{:032x}", number + 1), "spanId": format!("{:016x}", number + 1), "name": "x",
            "kind": case.body["span_kind"].as_i64().unwrap_or(3), "startTimeUnixNano": "1790000000000000000",
            "endTimeUnixNano": "1790000001000000000", "attributes": attributes(input)});
        let body =
            json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": [span]}]}]});
        post(api, token, "traces", &body.to_string())
    };
    Sent { refused: String::new(), answer: format!("{} {}", answer.status, answer.text()), exit: None }
}

fn post(api: &Api, token: &str, signal: &str, body: &str) -> Answer {
    api.post(&format!("/v1/{signal}"), token, body)
}

/// Attributes in OTLP's JSON.
fn attributes(input: &Value) -> Value {
    let value = |value: &Value| match value {
        Value::String(text) => json!({"stringValue": text}),
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(number) if number.is_i64() => json!({"intValue": number.to_string()}),
        Value::Number(number) => json!({"doubleValue": number}),
        other => panic!("{other} is not an attribute"),
    };
    let input = input.as_object().expect("an input has attributes");
    input.iter().map(|(key, found)| json!({"key": key, "value": value(found)})).collect()
}
