//! The endpoints of the replaced system: shapes, sums, and every digit.

use serde_json::{Value, json};

use crate::client::Api;
use crate::support::until;

/// Two days, three providers, and a cost that no binary float can represent.
pub const LINES: &str = r#"{"provider":"claude","model":"claude-sonnet-4-20250514","input_tokens":1000,"output_tokens":100,"user_id":"u-1","occurred_at":"2026-03-01T12:00:00Z"}
{"provider":"claude","model":"claude-sonnet-4","input_tokens":10,"output_tokens":1,"user_id":"u-2","app":"web","occurred_at":"2026-03-02T12:00:00Z","status":529}
{"provider":"claude","model":"claude-sonnet-4@20250514","input_tokens":5,"output_tokens":5,"cache_read_tokens":7,"user_id":"u-1","occurred_at":"2026-03-02T13:30:00Z","cost_usd":0.100000000000000001}
{"provider":"rentcast","endpoint":"/avm/value?address=1+Main+St","user_id":"u-1","occurred_at":"2026-03-02T14:00:00Z","cost_usd":"0.2"}
{"provider":"rentcast","endpoint":"/properties","user_id":"","occurred_at":"2026-03-02T14:00:01Z","cost_usd":"0.3"}
{"provider":"acme","model":"m","user_id":"u-3","occurred_at":"2026-03-02T15:00:00Z"}
"#;
const CALLS: usize = 6;

/// A daemon whose database has [`LINES`].
pub fn loaded() -> Api {
    let api = Api::start();
    let answers = api.daemon.lines(LINES);
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    api.postgres.until_calls(CALLS);
    api
}

#[test]
fn the_cost_history_has_days_models_by_family_and_exact_amounts() {
    let api = loaded();
    let token = api.token("read");
    let answer = api.get("/api/admin/cost-history?from=2026-03-01&to=2026-03-02", &token);
    let days = answer.ok();
    assert_eq!(days.as_array().unwrap().len(), 2);
    let (newest, oldest) = (&days[0], &days[1]);
    assert_eq!((&newest["date"], &oldest["date"]), (&json!("2026-03-02"), &json!("2026-03-01")));
    // 1000 × 3 + 100 × 15 USD per million.
    assert_eq!(oldest["byModel"]["claude-sonnet-4"]["cost"].to_string(), "0.0045");
    assert_eq!(
        oldest["byModel"],
        json!({"claude-sonnet-4": {
        "calls": 1, "cost": oldest["totalCost"], "inputTokens": 1000, "outputTokens": 100, "cacheReadTokens": 0,
        "cacheWriteTokens": 0}})
    );
    // 10 × 3 + 1 × 15 USD per million, and the stated cost: all three names are one family. Compared as text, because
    // this test's JSON parser makes floats.
    for digits in ["\"claudeCost\":0.100045000000000001", "\"totalCost\":0.600045000000000001"] {
        assert!(answer.text().contains(digits), "{}", answer.text());
    }
    assert_eq!(newest["rentcastCost"].to_string(), "0.5");
    assert_eq!(newest["byModel"]["claude-sonnet-4"]["calls"], 2);
    assert_eq!(
        (&newest["totalCalls"], &newest["claudeCalls"], &newest["rentcastCalls"]),
        (&5.into(), &2.into(), &2.into())
    );
    assert_eq!((&newest["errors"], &newest["unpricedCalls"]), (&1.into(), &1.into()));
    let endpoints = &newest["byRentCastEndpoint"];
    assert_eq!(
        (endpoints["/avm/value"]["cost"].to_string().as_str(), &endpoints["/avm/value"]["calls"]),
        ("0.2", &1.into())
    );
    assert_eq!(newest["byProvider"]["acme"]["calls"], 1);
    assert_eq!(api.get("/api/admin/cost-history?days=1", &token).ok(), json!([]));
}

#[test]
fn parameters_are_bounded_and_errors_say_which() {
    let api = loaded();
    let token = api.token("read");
    for query in [
        "days=0",
        "days=3661",
        "days=-1",
        "days=x",
        "days=3&from=2026-01-01",
        "days=3&to=2026-01-01",
        "from=2026-02-30",
        "from=2026-1-1",
        "from=1800-01-01",
        "from=2026-03-02&to=2026-03-01",
        "from=2001-01-01&to=2026-01-01",
        "day=3",
        "from=%00",
    ] {
        let answer = api.get(&format!("/api/admin/cost-history?{query}"), &token);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
    }
}

#[test]
fn a_budget_is_set_read_and_audited() {
    let api = loaded();
    let token = api.token("admin");
    let costs = api.get("/api/admin/costs", &token).ok();
    for name in ["dailyBudget", "budgetPercent", "remaining"] {
        assert_eq!(costs[name], 0, "a page that formats {name} goes on without a budget");
    }
    assert_eq!((&costs["status"], &costs["shouldThrottle"]), (&json!("normal"), &json!(false)));
    for body in
        [r#"{"budget": -1}"#, r#"{"budget": "x"}"#, "{}", "", "[]", r#"{"budget": 1, "x": 2}"#, r#"{"budget": 1e30}"#]
    {
        assert_eq!(api.post("/api/admin/budget", &token, body).code(), "invalid_body", "{body}");
    }
    let set = api.post("/api/admin/budget", &token, r#"{"budget": 10.10}"#).ok();
    assert_eq!((set["dailyBudget"].to_string().as_str(), &set["previous"]), ("10.1", &Value::Null));
    let line = r#"{"provider":"acme","cost_usd":"9.09"}"#;
    api.daemon.lines(line);
    api.postgres.until_calls(CALLS + 1);
    let costs = api.get("/api/admin/costs", &token).ok();
    assert_eq!((costs["budgetPercent"].to_string().as_str(), costs["remaining"].to_string().as_str()), ("90", "1.01"));
    assert_eq!((&costs["status"], &costs["shouldThrottle"]), (&json!("warning"), &json!(true)));
    assert_eq!(costs["today"]["totalCost"].to_string(), "9.09");
    assert_eq!(api.post("/api/admin/budget", &token, r#"{"budget": "9"}"#).ok()["previous"].to_string(), "10.1");
    let costs = api.get("/api/admin/costs", &token).ok();
    assert_eq!((&costs["status"], &costs["shouldThrottle"]), (&json!("exceeded"), &json!(true)));
    let audit = api.get("/api/v1/audit?limit=2", &token).ok();
    let newest = &audit["entries"][0];
    assert_eq!((&newest["action"], &newest["object"]), (&json!("budget.set"), &json!("everything/day")));
    assert_eq!((&newest["old_value"]["amount_usd"], &newest["new_value"]["amount_usd"]), (&json!("10.1"), &json!("9")));
    assert_eq!(newest["actor"], "token:1 test");
}

#[test]
fn users_have_lifetime_calls_and_are_found_sorted_and_paged() {
    let api = loaded();
    let token = api.token("read");
    let answer = api.get("/api/user/all", &token);
    assert_eq!(answer.header("x-total-count"), Some("3"));
    let all = answer.ok();
    let first = &all[0];
    assert_eq!(
        (&first["id"], &first["total_claude_calls"], &first["total_rentcast_calls"]),
        (&json!("u-1"), &2.into(), &1.into())
    );
    assert!(answer.text().contains("\"total_cost\":0.304500000000000001"), "{}", answer.text());
    let ids = |query: &str| -> Vec<String> {
        let page = api.get(&format!("/api/user/all?{query}"), &token).ok();
        page.as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("sort=id&order=asc"), ["u-1", "u-2", "u-3"]);
    assert_eq!(ids("sort=id&order=desc&limit=2&cursor=id:called::u-2"), ["u-1"]);
    assert_eq!(ids("search=u-2"), ["u-2"]);
    assert_eq!(ids("search=%25"), [""; 0]);
    let first = api.get("/api/user/all?limit=1&sort=id", &token);
    let link = "</api/user/all?limit=1&sort=id&cursor=id%3Acalled%3A%3Au-3>; rel=\"next\"";
    assert_eq!(first.header("link"), Some(link));
    api.postgres.psql(
        "CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid, email text, created_at timestamptz, \
         last_sign_in_at timestamptz, deleted_at timestamptz); \
         INSERT INTO auth.users (id, email) VALUES ('5e0e2c5f-3b5e-4c7b-9a55-6a0a3f0f7d11', 'ann@example.com')",
    );
    let all = api.get("/api/user/all?search=ANN@", &token).ok();
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!((&all[0]["email"], &all[0]["total_claude_calls"]), (&json!("ann@example.com"), &0.into()));
}

#[test]
fn user_stats_are_a_list_with_the_calls_of_the_analysis_endpoint() {
    let api = loaded();
    let token = api.token("read");
    let lines = r#"{"provider":"claude","model":"claude-sonnet-4-5","endpoint":"/api/claude/analysis","user_id":"u-2","input_tokens":1}
{"provider":"claude","model":"claude-sonnet-4-5","endpoint":"/api/claude/other","user_id":"u-2","input_tokens":1}
"#;
    api.daemon.lines(lines);
    api.postgres.until_calls(CALLS + 2);
    let answer = api.get("/api/admin/user-stats?sort=id&order=asc", &token);
    assert_eq!(answer.header("x-total-count"), Some("3"));
    let stats = answer.ok();
    let second = &stats[1];
    assert_eq!(
        (&second["userId"], &second["totalCalls"], &second["claudeCalls"], &second["rentcastCalls"]),
        (&json!("u-2"), &3.into(), &3.into(), &0.into())
    );
    assert_eq!((&second["analysisCalls"], &stats[0]["analysisCalls"]), (&1.into(), &0.into()));
}

#[test]
fn a_default_budget_is_set_once_and_never_over_another() {
    let api = loaded();
    let token = api.token("admin");
    let set = |body: &str| api.post("/api/admin/budget", &token, body).ok();
    let first = set(r#"{"budget": 50, "alertThresholdPercent": 60, "onlyIfNone": true}"#);
    assert_eq!((&first["changed"], &first["dailyBudget"]), (&json!(true), &json!(50)));
    let again = set(r#"{"budget": 70, "alertThresholdPercent": 90, "onlyIfNone": true}"#);
    assert_eq!((&again["changed"], &again["dailyBudget"]), (&json!(false), &json!(50)));
    assert_eq!(set(r#"{"budget": 20}"#)["changed"], true);
    let stored = "SELECT amount_usd || ' ' || warning_percent FROM api_budgets";
    assert_eq!(api.postgres.psql(stored), "20 60", "a new amount leaves the threshold");
    let entries = "SELECT count(*) FROM tallyd_audit_log WHERE action = 'budget.set'";
    assert_eq!(api.postgres.psql(entries), "2", "nothing was changed the second time");
    let bad = api.post("/api/admin/budget", &token, r#"{"budget": 1, "alertThresholdPercent": 101}"#);
    assert_eq!(bad.status, 400);
}

#[test]
fn the_metrics_have_totals_and_the_sessions_where_there_are_any() {
    let api = loaded();
    let token = api.token("read");
    let answer = api.get("/api/admin/metrics", &token);
    let metrics = answer.ok();
    assert_eq!(
        (&metrics["totalCalls"], &metrics["totalUsers"], &metrics["activeSessions"]),
        (&6.into(), &3.into(), &Value::Null)
    );
    assert!(answer.text().contains("\"totalCost\":0.604545000000000001"), "{}", answer.text());
    assert_eq!(metrics["sessions"], json!({"active": 0, "total": 0, "byTier": {}}));
    assert_eq!(api.get("/api/v1/sessions", &token).ok()["available"], false);
    api.postgres.psql(
        "CREATE SCHEMA auth; \
         CREATE TABLE auth.users (id uuid, email text, created_at timestamptz, last_sign_in_at timestamptz, \
             deleted_at timestamptz, banned_until timestamptz); \
         CREATE TABLE auth.sessions (user_id uuid, created_at timestamptz, refreshed_at timestamp, not_after timestamptz); \
         INSERT INTO auth.users (id, last_sign_in_at, banned_until, deleted_at) VALUES (md5('1')::uuid, now(), NULL, NULL), \
             (md5('2')::uuid, now() - interval '2 days', NULL, NULL), (md5('3')::uuid, now(), now() + interval '1 day', NULL), (md5('4')::uuid, now(), NULL, now()); \
         INSERT INTO auth.sessions VALUES (md5('1')::uuid, now() - interval '3 days', now() AT TIME ZONE 'UTC', NULL), \
             (md5('1')::uuid, now() - interval '3 days', NULL, NULL), (md5('1')::uuid, now(), NULL, now() - interval '1 minute'), \
             (md5('2')::uuid, now() - interval '90 days', NULL, NULL), (md5('3')::uuid, now(), NULL, NULL), (md5('4')::uuid, now(), NULL, NULL)",
    );
    let legacy = api.get("/api/admin/metrics", &token).ok()["sessions"].clone();
    assert_eq!(legacy, json!({"active": 3, "total": 5, "byTier": {}}));
    let sessions = api.get("/api/v1/sessions", &token).ok()["sessions"].clone();
    let count = |name: &str| sessions[name]["count"].as_i64().unwrap();
    assert_eq!((count("active"), count("refreshed_24h"), count("signed_in_24h")), (3, 1, 1), "{sessions}");
    assert!(sessions["active"]["definition"].as_str().unwrap().contains("banned"));
}

#[test]
fn prices_are_shown_and_a_rentcast_price_is_set_and_audited() {
    let api = loaded();
    let token = api.token("admin");
    api.postgres.until("SELECT count(*) > 0 FROM api_prices", "t");
    let pricing = api.get("/api/admin/pricing", &token).ok();
    let sonnet = &pricing["claude"]["claude-sonnet-4-5"];
    let rate = |name: &str| sonnet[name].to_string();
    assert_eq!((rate("inputPerMToken").as_str(), rate("outputPerMToken").as_str()), ("3", "15"));
    let above = &pricing["claude"]["claude-sonnet-4"]["above"][0];
    assert!(sonnet["above"].as_array().unwrap().is_empty());
    assert_eq!((&above["promptTokens"], above["inputPerMToken"].to_string().as_str()), (&200_000.into(), "6"));
    let growth = &pricing["rentcast"]["plans"]["growth"];
    assert_eq!(
        (growth["monthly"].to_string().as_str(), &growth["included"], growth["overage"].to_string().as_str()),
        ("199", &5_000.into(), "0.03")
    );
    assert_eq!(pricing["rentcast"]["plans"].as_object().unwrap().len(), 4);
    assert_eq!(pricing["rentcast"]["costPerRequest"].to_string(), "0.2");
    let set = api.post("/api/admin/rentcast-cost", &token, r#"{"costPerRequest": 0.15}"#).ok();
    assert_eq!(set["costPerRequest"].to_string(), "0.15");
    let pricing = api.get("/api/admin/pricing", &token).ok();
    assert_eq!(pricing["rentcast"]["costPerRequest"].to_string(), "0.15");
    assert_eq!(api.postgres.psql("SELECT action FROM tallyd_audit_log ORDER BY id DESC LIMIT 1"), "price.add");
    until("the daemon prices with it", || {
        let answer = api.daemon.lines(r#"{"provider":"rentcast","endpoint":"/a"}"#).remove(0);
        if answer["cost_usd"] == "0.15" { Ok(()) } else { Err(answer.to_string()) }
    });
    // The next id comes from the sequence that all writers use.
    api.post("/api/admin/rentcast-cost", &token, r#"{"costPerRequest": "0.16"}"#).ok();
    assert_eq!(api.postgres.psql("SELECT max(id) < nextval('api_prices_added_id') FROM api_prices"), "t");
}

/// A client that asks while the daemon starts uses the answer for a minute: no list may be half written.
#[test]
fn no_question_is_answered_before_the_prices_are_written() {
    let mut api = Api::start();
    let token = api.token("read");
    api.daemon.kill();
    api.postgres.psql("SET session_replication_role = replica; DELETE FROM api_prices");
    let mut other = api.postgres.session();
    other.run("BEGIN; LOCK TABLE api_prices IN SHARE MODE");
    api.daemon.up();
    api.postgres.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'", "t");
    let status = api.daemon.status().unwrap();
    assert_eq!(status["health"]["flusher"]["message"], "the schema is being brought up to date", "{status}");
    drop(other);
    let pricing = until("the prices are there", || {
        let answer = api.get("/api/admin/pricing", &token);
        if answer.status == 200 { Ok(answer.ok()) } else { Err(answer.text()) }
    });
    assert_eq!(pricing["claude"]["claude-sonnet-4-5"]["inputPerMToken"], 3, "{pricing}");
}
