//! An admin's work over HTTP that the command line does, too: tokens, repricing, decisions about many letters.

use serde_json::{Value, json};

use crate::client::Api;
use crate::support::until;

fn post(api: &Api, path: &str, token: &str, body: &Value) -> Value {
    api.post(path, token, &body.to_string()).ok()
}

/// Sends the request until the job is done, and returns the last answer.
fn reprice(api: &Api, token: &str, scope: &Value) -> Value {
    loop {
        let answer = post(api, "/api/v1/reprice", token, scope);
        if answer["done"] == true {
            return answer;
        }
    }
}

#[test]
fn a_token_is_created_by_an_admin_works_at_once_and_is_revoked() {
    let api = Api::start();
    let (admin, read) = (api.token("admin"), api.token("read"));
    let new = json!({"name": " ci ", "role": "ingest", "expires_days": 30, "stated_costs": "refuse"});
    for (token, status) in [("", 401), (read.as_str(), 403)] {
        assert_eq!(api.get("/api/v1/tokens", token).status, status);
        assert_eq!(api.post("/api/v1/tokens", token, &new.to_string()).status, status);
    }
    let made = post(&api, "/api/v1/tokens", &admin, &new);
    let text = made["token"].as_str().unwrap();
    let header = format!("Bearer {text}");
    let stated = api.post("/api/v1/records", &header, r#"{"provider":"acme","cost_usd":"1"}"#);
    assert!(stated.text().contains("cost_usd"), "it knows its limit: {}", stated.text());
    assert_eq!(api.post("/api/v1/records", &header, r#"{"provider":"acme"}"#).status, 200);
    let answer = api.get("/api/v1/tokens?limit=1", &admin);
    let listed = answer.ok();
    let first = &listed["tokens"][0];
    assert_eq!(
        (&first["name"], &first["role"], &first["stated_costs"]),
        (&json!("ci"), &json!("ingest"), &json!("refuse"))
    );
    assert!(first["created_by"].as_str().unwrap().starts_with("token:1 "), "{first}");
    assert!(!answer.text().contains(&text[text.len() - 64..]), "its text is shown once");
    assert_eq!(api.get(&format!("/api/v1/tokens?before={}", listed["next"]), &admin).ok()["tokens"][0]["name"], "test");

    let path = format!("/api/v1/tokens/{}", made["id"]);
    let delete = |token: &str| api.send("DELETE", &path, &[("authorization", token)], b"").status;
    assert_eq!((delete(&read), delete(&admin), delete(&admin)), (403, 204, 404));
    assert_eq!(api.post("/api/v1/records", &header, r#"{"provider":"acme"}"#).status, 401);
    assert_eq!(api.get("/api/v1/tokens?in_force=true", &admin).ok()["tokens"].as_array().unwrap().len(), 2);
    for wrong in [
        json!({"name": "", "role": "read"}),
        json!({"name": "x", "role": "owner"}),
        json!({"name": "x", "role": "read", "expires_days": 0}),
        json!({"name": "x", "role": "read", "stated_costs": "refuse"}),
    ] {
        assert_eq!(api.post("/api/v1/tokens", &admin, &wrong.to_string()).status, 400, "{wrong}");
    }
    let log = "SELECT action, actor FROM tallyd_audit_log WHERE object = 'token 3' ORDER BY id";
    assert_eq!(api.postgres.psql(log), "token.create|token:1 test\ntoken.revoke|token:1 test");
}

#[test]
fn a_repricing_is_planned_goes_on_where_it_was_and_is_refused_over_dropped_calls() {
    let api = Api::start();
    let (admin, read) = (api.token("admin"), api.token("read"));
    let call = |day: u32| {
        format!(
            "{{\"provider\":\"acme\",\"model\":\"new\",\"input_tokens\":1000000,\"occurred_at\":\"2026-03-{day:02}T12:00:00Z\"}}\n"
        )
    };
    api.daemon.lines(&(1..=4).map(call).collect::<String>());
    api.postgres.until_calls(4);
    let price =
        json!({"provider": "acme", "model": "new", "effective_from": "2026-01-01", "per_million": {"input": "2"}});
    post(&api, "/api/v1/prices", &admin, &price);
    let scope = json!({"from": "2026-03-01", "to": "2026-03-05", "provider": "acme", "model": "new"});
    assert_eq!(api.post("/api/v1/reprice", &read, &scope.to_string()).status, 403);
    let plan = post(&api, "/api/v1/reprice/plan", &admin, &scope);
    let calls = &plan["calls"];
    assert_eq!((&calls["changed"], &calls["newly_priced"], &calls["new_usd"]), (&json!(4), &json!(4), &json!("8")));
    assert_eq!(calls["days"].as_array().unwrap().len(), 4);
    let priced = "SELECT coalesce(sum(cost_usd), 0), sum(unpriced_calls) FROM daily_api_costs";
    assert_eq!(api.postgres.psql(priced), "0|4", "a plan changes nothing");

    let done = reprice(&api, &admin, &scope);
    assert_eq!(api.postgres.psql(priced), "8|0");
    // As if the job had stopped half way: the same request continues it.
    api.postgres.psql("UPDATE reprice_jobs SET state = 'running', position = '2026-03-03Z'");
    let rest = reprice(&api, &admin, &scope);
    assert_eq!((&rest["job"], &rest["resumed"]), (&done["job"], &json!(true)));
    assert_eq!(api.postgres.psql("SELECT calls_read, calls_changed, difference_usd FROM reprice_jobs"), "6|4|8");
    let log = "SELECT action, actor FROM tallyd_audit_log WHERE action LIKE 'reprice%' ORDER BY id LIMIT 2";
    assert_eq!(api.postgres.psql(log), "reprice.begin|token:1 test\nreprice.end|token:1 test");
    api.daemon.assert_reconciled();

    api.postgres.psql(
        "INSERT INTO tallyd_dropped_partitions (partition_name, from_at, to_at, calls, cost_usd, unpriced_calls, actor) \
         VALUES ('p', '2026-02-01Z', '2026-03-02Z', 7, 5, 0, 't')",
    );
    assert_eq!(post(&api, "/api/v1/reprice/plan", &admin, &scope)["dropped"]["calls"], 7);
    let refused = api.post("/api/v1/reprice", &admin, &scope.to_string());
    assert_eq!((refused.status, refused.code().as_str()), (409, "dropped_calls"));
    let mut skipping = scope.clone();
    skipping["skip_dropped"] = json!(true);
    reprice(&api, &admin, &skipping);
    skipping["to"] = json!("2026-03-01");
    assert_eq!(api.post("/api/v1/reprice/plan", &admin, &skipping.to_string()).status, 400);
}

#[test]
fn letters_are_decided_about_by_number() {
    let api = Api::start();
    let admin = api.token("admin");
    api.daemon.lines("{\"provider\":\"acme\",\"colour\":1}\n{\"provider\":\"acme\",\"colour\":2}\n{\"provider\":\"acme\",\"colour\":3}\n");
    api.postgres.until("SELECT count(*) FROM dead_letters", "3");
    let body = json!({"letters": {"ids": [1, 3]}, "corrections": {"unset": ["colour"]}});
    let retried = post(&api, "/api/v1/dead-letters/retry", &admin, &body);
    assert_eq!((&retried["retried"], &retried["next"]), (&json!(2), &Value::Null));
    api.postgres.until_calls(2);
    let dropped = post(&api, "/api/v1/dead-letters/drop", &admin, &json!({"ids": [1, 2, 3]}));
    assert_eq!(dropped["dropped"], 1, "what was decided before stays");
    let many: Vec<i64> = (1..=1_001).collect();
    assert_eq!(api.post("/api/v1/dead-letters/drop", &admin, &json!({"ids": many}).to_string()).status, 400);
    until("nothing is open", || match api.get("/api/v1/dead-letters", &admin).ok()["dead_letters"].as_array() {
        Some(left) if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn a_deploy_is_told_by_a_job_once_bounded_and_removed_by_an_admin() {
    let api = Api::start();
    let (admin, read, ingest) = (api.token("admin"), api.token("read"), api.token("ingest"));
    let told = json!({"app": "web", "version": "1.4.2", "at": "2026-03-02T14:03:00Z", "by": "ada"});
    assert_eq!(api.post("/api/v1/deploys", &read, &told.to_string()).status, 403);
    let deploy = post(&api, "/api/v1/deploys", &ingest, &told);
    let again = json!({"app": "web", "version": "1.4.2", "at": "2026-03-02T14:03:00Z", "by": "bob"});
    assert_eq!(post(&api, "/api/v1/deploys", &ingest, &again), deploy, "told twice, noted once, by its first author");
    post(&api, "/api/v1/deploys", &ingest, &json!({"app": "worker", "version": "7"}));
    for wrong in [
        json!({"app": "", "version": "1"}),
        json!({"app": "web"}),
        json!({"app": "web", "version": "1", "at": "yesterday"}),
        json!({"app": "web", "version": "x".repeat(201)}),
    ] {
        assert_eq!(api.post("/api/v1/deploys", &ingest, &wrong.to_string()).status, 400, "{wrong}");
    }
    assert_eq!(api.get("/api/v1/deploys", &ingest).status, 403);
    let found = |query: &str| api.get(&format!("/api/v1/deploys?{query}"), &read).ok()["deploys"].clone();
    let march = found("from=2026-03-02&to=2026-03-02");
    let shown = |name: &str| march[0][name].as_str().unwrap().to_owned();
    assert_eq!(
        ["app", "version", "at", "by", "actor"].map(shown),
        ["web", "1.4.2", "2026-03-02T14:03:00Z", "ada", "token:3 test"]
    );
    assert_eq!(found("from=2026-03-03&app=web"), json!([]));
    assert_eq!(found("days=1")[0]["app"], "worker");
    // As many as are kept of the sender; another's stay.
    api.postgres.psql(
        "INSERT INTO tallyd_deploys (app, version, at, actor) SELECT 'other', n::text, now(), 't' FROM generate_series(1, 5) AS n; \
         INSERT INTO tallyd_deploys (app, version, at, actor) SELECT 'many', n::text, now(), 'token:3 test' FROM generate_series(1, 999) AS n",
    );
    let last = post(&api, "/api/v1/deploys", &ingest, &json!({"app": "web", "version": "2"}));
    assert_eq!(
        api.postgres.psql("SELECT count(*), count(*) FILTER (WHERE app = 'other'), count(*) FILTER (WHERE app = 'worker') FROM tallyd_deploys"),
        "1005|5|0"
    );
    let path = format!("/api/v1/deploys/{}", last["id"]);
    let delete = |token: &str| api.send("DELETE", &path, &[("authorization", token)], b"").status;
    assert_eq!((delete(&ingest), delete(&admin), delete(&admin)), (403, 204, 404));
    assert_eq!(
        api.postgres.psql("SELECT old_value ->> 'version' FROM tallyd_audit_log WHERE action = 'deploy.remove'"),
        "2"
    );
}
