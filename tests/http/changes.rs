//! What the API changes: budgets, prices, dead letters; each with its line in the audit log.

use serde_json::{Value, json};

use crate::client::{Answer, Api};
use crate::support::until;

fn put(api: &Api, token: &str, body: &Value) -> Answer {
    api.send("PUT", "/api/v1/budgets", &[("authorization", token)], body.to_string().as_bytes())
}

fn actions(api: &Api, like: &str) -> String {
    api.postgres
        .psql(&format!("SELECT action || ' ' || object FROM tallyd_audit_log WHERE action LIKE '{like}' ORDER BY id"))
}

/// Sends lines that the daemon answers, and waits until they are in the database.
fn send(api: &Api, lines: &str, loaded: &str) {
    api.daemon.lines(lines);
    until("they are loaded", || match api.postgres.psql(loaded).as_str() {
        "0" => Err("none".into()),
        _ => Ok(()),
    });
}

#[test]
fn a_budget_is_set_changed_listed_and_removed() {
    let api = Api::start();
    let (admin, read) = (api.token("admin"), api.token("read"));
    let daily = json!({"scope": "global", "period": "day", "amount_usd": "25.50"});
    assert_eq!(put(&api, &read, &daily).status, 403);
    let id = put(&api, &admin, &daily).ok()["id"].clone();
    let more = json!({"scope": "global", "period": "day", "amount_usd": 30, "alert_percents": [90], "throttle": false});
    assert_eq!(put(&api, &admin, &more).ok()["id"], id, "the same scope and period is the same budget");
    let of_model = json!({"scope": "model", "scope_value": "claude-opus-4-5", "period": "month", "amount_usd": "100"});
    put(&api, &admin, &of_model).ok();
    let listed = api.get("/api/v1/budgets", &read).ok();
    let first = &listed["budgets"][0];
    assert_eq!(
        (
            &first["amount_usd"],
            &first["warning_percent"],
            &first["alert_percents"],
            &first["throttle"],
            &first["spent_usd"]
        ),
        (&json!("30"), &json!(80), &json!([90]), &json!(false), &json!("0")),
        "{first}"
    );
    assert_eq!(listed["budgets"].as_array().unwrap().len(), 2);
    for wrong in [
        json!({"scope": "global", "period": "day", "amount_usd": "-1"}),
        json!({"scope": "global", "scope_value": "x", "period": "day", "amount_usd": "1"}),
        json!({"scope": "user", "period": "day", "amount_usd": "1"}),
        json!({"scope": "global", "period": "year", "amount_usd": "1"}),
        json!({"scope": "global", "period": "day", "amount_usd": "1", "warning_percent": 101}),
        json!({"scope": "global", "period": "day", "amount_usd": "1", "alert_percents": [0]}),
        json!({"scope": "global", "period": "day", "amount_usd": "1", "typo": 1}),
    ] {
        assert_eq!(put(&api, &admin, &wrong).code(), "invalid_body", "{wrong}");
    }
    let remove = |id: &str| api.send("DELETE", &format!("/api/v1/budgets/{id}"), &[("authorization", &admin)], b"");
    assert_eq!(remove(&id.to_string()).status, 204);
    assert_eq!(remove(&id.to_string()).code(), "not_found");
    assert_eq!(remove("x").code(), "not_found");
    let log = actions(&api, "budget%");
    assert_eq!(
        log,
        "budget.set global/day\nbudget.set global/day\nbudget.set model:claude-opus-4-5/month\nbudget.remove global/day"
    );
    let old = api.postgres.psql("SELECT old_value ->> 'amount_usd' FROM tallyd_audit_log WHERE action = 'budget.set'");
    assert_eq!(old, "\n25.5", "what was there before");
}

#[test]
fn a_price_is_previewed_and_added_and_applies_from_its_instant_on() {
    let api = Api::start();
    let admin = api.token("admin");
    let call = r#"{"provider":"claude","model":"claude-next","input_tokens":1000000,"output_tokens":100000}"#;
    send(&api, &format!("{call}\n"), "SELECT count(*) FROM daily_api_costs");
    let unpriced = api.get("/api/v1/unpriced", &admin).ok();
    assert_eq!((&unpriced["models"][0]["model"], &unpriced["models"][0]["calls"]), (&json!("claude-next"), &json!(1)));
    let price = json!({"price": {"provider": "anthropic", "model": "claude-next", "effective_from": "2020-01-01",
        "per_million": {"input": "3", "output": "15"}}, "note": "announced"});
    let preview = api.post("/api/v1/prices/preview", &admin, &price.to_string()).ok();
    assert_eq!(preview["old_rates"], json!(null));
    assert_eq!(preview["models"], json!([{"model": "claude-next", "calls": 1, "old_usd": null, "new_usd": "4.5"}]));
    assert_eq!(api.postgres.psql("SELECT count(*) FROM api_prices WHERE model = 'claude-next'"), "0", "only looked at");
    let id = api.post("/api/v1/prices", &admin, &price.to_string()).ok()["id"].to_string();
    let path = "/api/v1/prices?in_force=true&provider=claude&model=claude-next";
    assert_eq!(api.get(path, &admin).ok()["prices"][0]["id"].to_string(), id);
    // The same rates again change nothing, and the preview says so.
    let same = api.post("/api/v1/prices/preview", &admin, &price.to_string()).ok();
    assert_eq!((&same["old_usd"], &same["new_usd"]), (&json!("4.5"), &json!("4.5")));
    assert_eq!(actions(&api, "price%"), format!("price.set price {id}"));
    until("calls are priced with it", || match api.daemon.lines(&format!("{call}\n"))[0]["cost_usd"].as_str() {
        Some("4.5") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(api.get("/api/v1/unpriced", &admin).ok()["models"][0]["priceable"].as_bool().unwrap());
    for wrong in [
        json!({"price": {"provider": "claude", "model": "m", "per_million": {"input": "-3"}}}),
        json!({"price": {"provider": "claude", "model": "m", "per_million": {"typo": "3"}}}),
        json!({"price": {"provider": "", "model": "m", "per_million": {"input": "3"}}}),
        json!({"price": {"provider": "claude", "model": "m", "effective_from": "soon", "per_million": {"input": "3"}}}),
    ] {
        for path in ["/api/v1/prices", "/api/v1/prices/preview"] {
            assert_eq!(api.post(path, &admin, &wrong.to_string()).code(), "invalid_body", "{wrong}");
        }
    }
}

#[test]
fn a_dead_letter_is_retried_once_or_dropped() {
    let api = Api::start();
    let admin = api.token("admin");
    let lines = "{\"provider\":\"rentcast\",\"input_tokens\":-5}\n{\"model\":\"m\"}\n";
    send(&api, lines, "SELECT count(*) / 2 FROM dead_letters");
    let letters = api.get("/api/v1/dead-letters", &admin).ok();
    let id = |at: usize| letters["dead_letters"][at]["id"].to_string();
    let act = |id: &str, what: &str, body: &str| api.post(&format!("/api/v1/dead-letters/{id}/{what}"), &admin, body);
    assert_eq!(act(&id(1), "retry", "{}").code(), "refused_again");
    assert_eq!(act(&id(1), "retry", r#"{"set": {"input_tokens": "many"}}"#).code(), "invalid_body");
    assert_eq!(act(&id(1), "retry", r#"{"set": {"nothing": "1"}}"#).code(), "invalid_body");
    let record = act(&id(1), "retry", r#"{"set": {"input_tokens": "5"}}"#).ok()["record_id"].clone();
    assert_eq!(act(&id(1), "retry", r#"{"set": {"input_tokens": "5"}}"#).code(), "not_found", "it is settled");
    let stored = api.postgres.psql("SELECT id, provider, input_tokens FROM api_usage_log");
    assert_eq!(stored, format!("{}|rentcast|5", record.as_str().unwrap()));
    assert_eq!(act(&id(0), "drop", "").status, 204);
    assert_eq!(act(&id(0), "drop", "").code(), "not_found");
    assert_eq!(act("none", "retry", "{}").code(), "not_found");
    assert_eq!(api.get("/api/v1/dead-letters", &admin).ok()["dead_letters"], json!([]));
    assert_eq!(
        actions(&api, "dead_letter%"),
        format!("dead_letter.retry dead letter {}\ndead_letter.drop dead letter {}", id(1), id(0))
    );
    api.daemon.assert_reconciled();
}

#[test]
fn a_forecast_says_what_it_was_made_from() {
    let api = Api::start();
    let read = api.token("read");
    let none = api.get("/api/v1/forecast", &read).ok();
    assert_eq!((&none["method"], &none["month"]["expected_usd"]), (&json!("none"), &json!(null)));
    api.postgres.psql(
        "INSERT INTO daily_api_costs (day, provider, model, endpoint, calls, requests, cost_usd) \
         SELECT current_date - d, 'claude', 'm', '', 1, 1, 2 + d % 7 FROM generate_series(1, 40) AS d",
    );
    let forecast = api.get("/api/v1/forecast?provider=anthropic", &read).ok();
    assert_eq!((&forecast["method"], &forecast["history_days"]), (&json!("weekly_season"), &json!(40)));
    let expected: f64 = forecast["next_30_days"]["expected_usd"].as_str().unwrap().parse().unwrap();
    assert!((expected - 150.0).abs() < 20.0, "{forecast}");
    assert_eq!(api.get("/api/v1/forecast?provider=rentcast", &read).ok()["method"], "none");
    assert_eq!(api.get("/api/v1/forecast?user=x", &read).code(), "invalid_parameter");
}
