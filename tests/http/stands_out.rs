//! What is not understood about a call is named, counted and shown, and never priced; stated costs are held against the catalog.

use serde_json::{Value, json};

use crate::client::Api;

#[test]
fn usage_that_is_not_understood_is_unpriced_named_and_stays_so() {
    let api = Api::start();
    let (token, reader) = (api.token("ingest"), api.token("read"));
    let call = |metadata: Value| json!({"provider": "claude", "model": "claude-sonnet-4-5", "input_tokens": 1000, "metadata": metadata});
    let marked = call(json!({"tallyd.not_understood": "some_new_tokens", "a": 1}));
    let mut stated = marked.clone();
    stated["cost_usd"] = "0.5".into();
    let results = api.post("/api/v1/records", &token, &json!([marked, call(json!({"b": 2})), stated]).to_string()).ok();
    let costs: Vec<&Value> = (0..3).map(|at| &results["results"][at]["cost_usd"]).collect();
    assert_eq!(costs, [&json!(null), &json!("0.003"), &json!("0.5")], "{results}");
    // By the socket, too.
    let answer = &api.daemon.lines(&format!("{marked}\n"))[0];
    assert_eq!((&answer["ok"], &answer["cost_usd"]), (&json!(true), &json!(null)));
    api.postgres.until_calls(4);
    let unpriced =
        "SELECT count(*), min(metadata ->> 'tallyd.not_understood') FROM api_usage_log WHERE cost_usd IS NULL";
    assert_eq!(api.postgres.psql(unpriced), "2|some_new_tokens");
    // The catalog has a price of the model; it is not the price of these calls.
    let reprice = ["reprice", "--from", "2020-01-01", "--to", "2100-01-01", "--yes", "--json"];
    assert!(api.daemon.run(&reprice).status.success());
    assert_eq!(api.postgres.psql(unpriced), "2|some_new_tokens");
    assert_eq!(api.metric("tallyd_not_understood_total{what=\"some_new_tokens\"}"), 3.0);
    let named = json!([{"what": "some_new_tokens", "count": 3}]);
    assert_eq!(api.get("/api/v1/unpriced", &reader).ok()["stood_out"]["not_understood"], named);
    assert_eq!(api.daemon.status().unwrap()["stood_out"]["not_understood"], named);
    let shown = String::from_utf8(api.daemon.run(&["status"]).stdout).unwrap();
    assert!(shown.contains("not read      3 × some_new_tokens"), "{shown}");
    api.daemon.assert_reconciled();
}

#[test]
fn a_tier_without_a_price_is_named() {
    let api = Api::start();
    let record = r#"{"provider":"claude","model":"claude-sonnet-4-5","input_tokens":1,"service_tier":"warp"}"#;
    assert_eq!(api.daemon.lines(record)[0]["cost_usd"], json!(null));
    assert_eq!(api.metric("tallyd_not_understood_total{what=\"service_tier warp\"}"), 1.0);
}

#[test]
fn stated_costs_that_differ_are_counted_by_model() {
    let api = Api::start();
    let record = |cost: &str| {
        format!(r#"{{"provider":"claude","model":"claude-sonnet-4-5","input_tokens":100000,"cost_usd":"{cost}"}}"#)
    };
    for cost in ["0.3", "0.302", "0.35", "0.25"] {
        assert_eq!(api.daemon.lines(&record(cost))[0]["cost_usd"], cost);
    }
    api.daemon.lines(r#"{"provider":"somebody","model":"no-such","cost_usd":"7"}"#);
    assert_eq!(api.metric("tallyd_stated_cost_differs_total{what=\"claude/claude-sonnet-4-5\"}"), 2.0);
    let differs = json!([{"what": "claude/claude-sonnet-4-5", "count": 2}]);
    assert_eq!(api.daemon.status().unwrap()["stood_out"]["stated_cost_differs"], differs);
}
