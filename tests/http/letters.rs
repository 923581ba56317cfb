//! Dead letters over HTTP: one schema in every encoding, groups, and decisions about many at once.

use serde_json::json;
use tallyd_client::Record;

use crate::client::Api;

#[test]
fn letters_have_one_schema_whatever_encoding_they_came_in() {
    let api = Api::start();
    let admin = api.token("admin");
    let mut session = api.daemon.session("api-1");
    session.send(1, &[Record { cost_usd: Some("-7".into()), ..Record::claude("claude-sonnet-4-5", 12, 3) }]).unwrap();
    session.recv_ack().unwrap();
    api.daemon.lines("{\"provider\":\"claude\",\"input_tokens\":12,\"colour\":\"red\"}\n");
    api.postgres.until("SELECT count(*) FROM dead_letters", "2");
    let listed = api.get("/api/v1/dead-letters", &admin).ok();
    let letters = listed["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert_eq!((&letter["record"]["provider"], &letter["record"]["input_tokens"]), (&json!("claude"), &json!(12)));
        let one = api.get(&format!("/api/v1/dead-letters/{}", letter["id"]), &admin).ok();
        assert_eq!(&one, letter, "one letter and a list's have one schema");
        let shown = api.daemon.run(&["dead-letters", "show", &letter["id"].to_string(), "--json"]);
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(&shown[0], letter, "the command's, too");
    }
    let message = letters.iter().find(|letter| letter["field"] == "cost_usd").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("-7") && message.contains("10000"), "the value and the bound: {message}");
    let csv = api.get("/api/v1/dead-letters?format=csv", &admin);
    assert_eq!(csv.text().matches("claude-sonnet-4-5").count(), 1, "MessagePack is text in a file: {}", csv.text());
}

#[test]
fn letters_are_counted_by_group_and_decided_about_together() {
    let api = Api::with(&[("TALLYD_DEAD_LETTERS_ROWS_PER_DAY", "300")]);
    let (admin, read) = (api.token("admin"), api.token("read"));
    let wrong: String = (0..250).map(|n| format!("{{\"provider\":\"rentcast\",\"colour\":{n}}}\n")).collect();
    api.daemon.lines(&wrong);
    api.daemon.lines(&"{\"provider\":\"rentcast\",\"status\":1000}\n".repeat(100));
    api.postgres.until("SELECT sum(refused) FROM tallyd_refusals", "350");
    let groups = api.get("/api/v1/dead-letters/groups", &read).ok();
    assert_eq!((&groups["refused"], &groups["only_counted"], &groups["open"]), (&json!(350), &json!(50), &json!(300)));
    let [colour, status] = groups["groups"].as_array().unwrap().as_slice() else { panic!("{groups}") };
    assert_eq!(
        (&colour["code"], &colour["field"], &colour["open"]),
        (&json!("unknown_field"), &json!("colour"), &json!(250))
    );
    assert_eq!((&status["field"], &status["refused"], &status["open"]), (&json!("status"), &json!(100), &json!(50)));
    assert!(status["message"].as_str().unwrap().contains("1000"), "the value: {status}");
    assert_eq!(api.post("/api/v1/dead-letters/drop", &read, r#"{"code":"range"}"#).status, 403);
    for path in ["/api/v1/dead-letters/drop", "/api/v1/dead-letters/retry"] {
        assert_eq!(api.post(path, &admin, "{}").status, 400, "{path}: which letters?");
    }

    let retry = |after: &str| {
        let body = format!(
            r#"{{"letters":{{"code":"unknown_field","field":"colour","after":{after}}},"corrections":{{"unset":["colour"]}}}}"#
        );
        api.post("/api/v1/dead-letters/retry", &admin, &body).ok()
    };
    let first = retry("null");
    assert_eq!((&first["retried"], &first["refused"]), (&json!(200), &json!(0)), "{first}");
    let second = retry(&first["next"].to_string());
    assert_eq!((&second["retried"], &second["next"]), (&json!(50), &json!(null)), "{second}");
    assert_eq!(retry("null")["retried"], 0);
    let dropped = api.post("/api/v1/dead-letters/drop", &admin, r#"{"code":"range","field":"status"}"#).ok();
    assert_eq!((&dropped["dropped"], &dropped["next"]), (&json!(50), &json!(null)));
    let groups = api.get("/api/v1/dead-letters/groups", &read).ok();
    assert_eq!((&groups["refused"], &groups["open"]), (&json!(350), &json!(0)), "what was refused stays counted");
    assert_eq!(api.postgres.psql("SELECT count(*), count(DISTINCT id) FROM api_usage_log"), "250|250");
    let audited =
        "SELECT count(*), sum((new_value ->> 'letters')::int) FROM tallyd_audit_log WHERE action LIKE 'dead_letter.%'";
    assert_eq!(api.postgres.psql(audited), "3|300");
    api.daemon.assert_reconciled();
}
