//! Stated costs: no sender can lower the spend of others, or book a fortune with one record.

use serde_json::{Value, json};
use tallyd_client::Record;

use crate::client::Api;
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// Costs that would reset every budget, and costs that no call has.
const ATTACKS: [&str; 4] = ["-1000000000", "-0.000000000000000001", "10000.000000000000000001", "1000000000"];

fn line(cost: &str) -> String {
    format!("{{\"provider\":\"rentcast\",\"endpoint\":\"/x\",\"cost_usd\":{cost}}}\n")
}

/// A span with a stated cost.
fn span(cost: &str, number: usize) -> String {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let attributes = [
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "anthropic"),
        text("gen_ai.request.model", "claude-sonnet-4-5"),
        json!({"key": "gen_ai.usage.input_tokens", "value": {"intValue": "1"}}),
        text("gen_ai.usage.cost", cost),
    ];
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": format!("eee19b7ec3c1b1{number:02x}"),
        "kind": 3, "name": "chat", "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001250000000",
        "attributes": attributes});
    json!({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "test"}, "spans": [span]}]}]}).to_string()
}

fn error_of(result: &Value) -> (String, String) {
    let error = &result["error"];
    (error["code"].as_str().unwrap_or_default().to_owned(), error["field"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn no_way_in_takes_a_credit_or_a_cost_beyond_the_bound_from_a_sender() {
    let api = Api::start();
    let (ingest, admin) = (api.token("ingest"), api.token("admin"));
    let refused = ("range".to_owned(), "cost_usd".to_owned());
    // The spend before the attacks, in a record with the highest permitted cost.
    assert_eq!(api.daemon.lines(&line("10000"))[0]["ok"], true);
    for (number, cost) in ATTACKS.into_iter().enumerate() {
        let answer = &api.daemon.lines(&line(cost))[0];
        assert_eq!(error_of(answer), refused, "a line of {cost}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(cost), "the value is named: {answer}");

        let mut session = api.daemon.session(&format!("p-{number}"));
        let record = Record { cost_usd: Some(cost.into()), ..Record::rentcast("/x") };
        session.send(1, &[record]).unwrap();
        let ack = session.recv_ack().unwrap();
        assert_eq!(ack.rejected.first().map(|rejected| rejected.code.as_str()), Some("range"), "a frame of {cost}");

        let answer = api.post("/api/v1/records", &ingest, &line(cost));
        assert_eq!((answer.status, error_of(&answer.json()["results"][0])), (422, refused.clone()), "HTTP of {cost}");

        let answer = api.post("/v1/traces", &ingest, &span(cost, number));
        // An exporter's negative cost is not understood: the call is kept, and unpriced.
        let is_refused = answer.text().contains("rejected");
        assert_eq!((answer.status, is_refused), (200, !cost.starts_with('-')), "OTLP of {cost}: {}", answer.text());

        let file = api.daemon.data().with_file_name(format!("calls-{number}.csv"));
        std::fs::write(&file, format!("at,cost\n2026-03-01T00:00:00Z,{cost}\n")).unwrap();
        let (map, set) = ("occurred_at=at,cost_usd=cost", "provider=rentcast");
        api.daemon.run(&["import", file.to_str().unwrap(), "--map", map, "--set", set, "--json"]);
    }
    api.postgres.until("SELECT count(*) >= 14 FROM dead_letters", "t");
    // Nor does a careless retry of the refused records.
    let retried = api.daemon.run(&["dead-letters", "retry", "--since", "1h", "--json"]);
    assert!(!retried.status.success(), "{retried:?}");
    let letter = api.postgres.psql("SELECT min(id) FROM dead_letters");
    let retried = api.post(&format!("/api/v1/dead-letters/{letter}/retry"), &admin, "{}").ok();
    assert_eq!(retried["retried"], false, "{retried}");
    let spent = "SELECT sum(cost_usd), count(*) FILTER (WHERE cost_usd NOT BETWEEN 0 AND 10000) FROM api_usage_log";
    assert_eq!(api.postgres.psql(spent), "10000|0");
    api.daemon.assert_reconciled();
}

#[test]
fn a_credit_is_an_admins_act_and_stands_in_the_audit_log_once() {
    let api = Api::start();
    let (ingest, admin) = (api.token("ingest"), api.token("admin"));
    let send = |token: &str, key: &str| {
        let headers = [("authorization", token), ("content-type", "application/json"), ("idempotency-key", key)];
        api.send("POST", "/api/v1/records", &headers, line("-250.5").as_bytes())
    };
    assert_eq!(send(&ingest, "a").status, 422);
    for _ in 0..2 {
        let answer = send(&admin, "b");
        assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (200, Some(1)), "{}", answer.text());
    }
    api.postgres.until("SELECT count(*), sum(cost_usd) FROM api_usage_log", "1|-250.5");
    let audited = "SELECT count(*), min(actor LIKE 'token:% test')::text, min(new_value ->> 'cost_usd'), \
        min(object) = (SELECT id::text FROM api_usage_log) FROM tallyd_audit_log WHERE action = 'credit.record'"
        .replace("min(actor LIKE 'token:% test')::text", "bool_and(actor LIKE 'token:% test')::text");
    assert_eq!(api.postgres.psql(&audited), "1|true|-250.5|t");
    // A charge by an admin is an ordinary record.
    assert_eq!(api.post("/api/v1/records", &admin, &line("3")).status, 200);
    assert_eq!(api.postgres.psql("SELECT count(*) FROM tallyd_audit_log WHERE action = 'credit.record'"), "1");
    api.postgres.until_calls(2);
    api.daemon.assert_reconciled();
}

#[test]
fn a_token_may_be_denied_what_the_setting_allows_and_the_setting_may_deny_it_to_all() {
    let api = Api::with(&[("TALLYD_LIMITS_STATED_COSTS", "allow")]);
    assert_eq!(api.daemon.lines(&line("-3"))[0]["ok"], true, "the setting lets the socket credit");
    let make = |policy: &str| {
        let create = ["token", "create", "--name", "t", "--role", "ingest", "--stated-costs", policy, "--json"];
        let made: Value = serde_json::from_slice(&api.daemon.run(&create).stdout).unwrap();
        format!("Bearer {}", made["token"].as_str().unwrap())
    };
    let (non_negative, refuse) = (make("non_negative"), make("refuse"));
    let plain = "{\"provider\":\"rentcast\",\"endpoint\":\"/x\"}\n".to_owned();
    for (token, body, status) in [
        (&non_negative, line("-1"), 422),
        (&non_negative, line("1"), 200),
        (&refuse, line("1"), 422),
        (&refuse, plain, 200),
        (&api.token("ingest"), line("-1"), 200),
    ] {
        crate::support::until("the daemon knows the token", || {
            let answer = api.post("/api/v1/records", token, &body);
            if matches!(answer.status, 401 | 429) {
                return Err(answer.text());
            }
            assert_eq!(answer.status, status, "{body}");
            Ok(())
        });
    }
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_LIMITS_STATED_COSTS", "refuse").start();
    assert_eq!(error_of(&daemon.lines(&line("1"))[0]).0, "forbidden");
}

#[test]
fn many_records_at_the_bound_add_up_exactly() {
    const RECORDS: usize = 5_000;
    let api = Api::start();
    let read = api.token("read");
    let text = line("10000").repeat(RECORDS);
    assert!(api.daemon.lines(&text).iter().all(|answer| answer["ok"] == true));
    api.postgres.until_calls(RECORDS);
    let today = api.get("/api/v1/costs?bucket=total", &read).ok();
    assert_eq!(today["rows"][0]["cost_usd"], "50000000", "{today}");
    assert_eq!(api.get("/api/v1/overview", &read).ok()["today"]["cost_usd"], "50000000");
    api.daemon.assert_reconciled();
}
