//! Costs by tags over HTTP: groups, filters, files, answers from a rollup and from calls; tags over HTTP and OTLP.

use serde_json::{Value, json};

use crate::client::Api;

const RANGE: &str = "from=2026-03-01&to=2026-03-31";

fn call(day: u32, team: &str, more: &Value) -> Value {
    let mut call = json!({"provider": "claude", "model": "m", "cost_usd": "0.5", "occurred_at": format!("2026-03-{day:02}T10:00:00Z")});
    if !team.is_empty() {
        call["tags"] = json!({"team": team, "run": "r-1"});
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        call[name] = value.clone();
    }
    call
}

fn loaded() -> (Api, String) {
    let api = Api::with(&[("TALLYD_DIMENSIONS_NAMES", "team,environment"), ("TALLYD_LIMITS_STATED_COSTS", "allow")]);
    api.postgres.until("SELECT count(*) FROM tallyd_dimensions WHERE counted_from = '-infinity'", "3");
    let token = api.token("admin");
    let records = json!([
        call(1, "search", &json!({"user_id": "u-1", "app": "web"})),
        call(2, "search", &json!({"model": "n"})),
        call(2, "ads", &json!({"tags": {"team": "ads", "environment": "test"}})),
        call(3, "", &json!({"provider": "rentcast"})),
    ]);
    assert_eq!(api.post("/api/v1/records", &token, &records.to_string()).status, 200);
    api.postgres.until_calls(4);
    (api, token)
}

#[test]
fn costs_are_grouped_and_filtered_by_tags() {
    let (api, token) = loaded();
    let costs = |query: &str| api.get(&format!("/api/v1/costs?{RANGE}&{query}"), &token);
    let found = |query: &str| {
        let answer = costs(query).ok();
        let rows = answer["rows"].as_array().unwrap().clone();
        (answer["source"].as_str().unwrap().to_owned(), rows)
    };
    let team =
        |row: &Value| (row["tag:team"].as_str().unwrap().to_owned(), row["cost_usd"].as_str().unwrap().to_owned());
    let (source, rows) = found("bucket=total&group_by=tag:team");
    assert_eq!(source, "daily_dimension_costs");
    let expected =
        [("", "0.5"), ("ads", "0.5"), ("search", "1")].map(|(team, cost)| (team.to_owned(), cost.to_owned()));
    assert_eq!(rows.iter().map(team).collect::<Vec<_>>(), expected);
    for (query, source, calls) in [
        ("bucket=total&group_by=model&tag:team=search", "daily_dimension_costs", 2),
        ("bucket=total&tag%3Ateam=search", "daily_dimension_costs", 2),
        ("bucket=day&tag:team=", "daily_dimension_costs", 1),
        ("bucket=month&group_by=provider,model,tag:environment&tag:environment=test", "daily_dimension_costs", 1),
        ("bucket=total&tag:team=ads&tag:environment=test", "api_usage_log", 1),
        ("bucket=total&tag:team=search&tag:run=r-1", "api_usage_log", 2),
        ("bucket=hour&tag:team=search", "api_usage_log", 2),
        ("bucket=total&group_by=user&tag:team=search", "api_usage_log", 2),
        ("bucket=total&tag:app=web", "daily_dimension_costs", 1),
    ] {
        let (from, rows) = found(query);
        assert_eq!(from, source, "{query}");
        assert_eq!(rows.iter().map(|row| row["calls"].as_i64().unwrap()).sum::<i64>(), calls, "{query}: {rows:?}");
    }

    // Groups without a rollup over more than a month are refused with the reason.
    let refused = |query: &str| {
        let answer = api.get(&format!("/api/v1/costs?from=2026-01-01&to=2026-03-31&{query}"), &token);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
        answer.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    assert!(refused("group_by=tag:run").contains("`tallyd dimensions add run`"));
    assert!(refused("group_by=tag:team,tag:environment").contains("no rollup tells these apart together"));
    for query in
        ["group_by=tag:", "group_by=tag:a'b", "group_by=tag:team,tag:team", "tag:=x", "tag:team=%00", "team=search"]
    {
        let answer = costs(query);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
    }

    let file = costs("bucket=total&group_by=model,tag:team&format=csv").text();
    let lines: Vec<&str> = file.lines().collect();
    assert!(lines[0].starts_with("bucket,provider,model,endpoint,user,app,tag:team,calls,"), "{file}");
    assert!(lines.iter().any(|line| line.starts_with(",,n,,,,search,1,")), "{file}");

    let known = api.get("/api/v1/dimensions", &token).ok();
    let names: Vec<&str> =
        known["dimensions"].as_array().unwrap().iter().map(|one| one["group_by"].as_str().unwrap()).collect();
    assert_eq!(names, ["app", "tag:environment", "tag:team"]);
    let record = api.get("/api/v1/records?from=2026-03-02&to=2026-03-03&model=n", &token).ok();
    assert_eq!(record["records"][0]["tags"], json!({"team": "search", "run": "r-1"}));
    api.daemon.assert_reconciled();
}

#[test]
fn attributes_of_opentelemetry_become_tags() {
    let api = Api::with(&[
        ("TALLYD_DIMENSIONS_NAMES", "team,environment"),
        ("TALLYD_OTLP_TAG_ATTRIBUTES", "deployment.environment.name=environment,tenant=customer"),
    ]);
    let token = api.token("admin");
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let attributes = json!([
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "anthropic"),
        text("gen_ai.request.model", "claude-sonnet-4-5"),
        text("tallyd.tag.team", "search"),
        text("tenant", "acme")
    ]);
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b101", "kind": 3, "name": "chat",
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001250000000", "attributes": attributes});
    let resource =
        json!({"attributes": [text("deployment.environment.name", "production"), text("service.name", "web")]});
    let body = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]});
    assert_eq!(api.post("/v1/traces", &token, &body.to_string()).status, 200);
    api.postgres.until_calls(1);
    let stored = api.postgres.psql("SELECT app, tags FROM api_usage_log");
    assert_eq!(stored, r#"web|{"team": "search", "customer": "acme", "environment": "production"}"#);
    api.daemon.assert_reconciled();
}

#[test]
fn headers_become_tags_where_a_record_does_not_state_them() {
    let api = Api::with(&[
        ("TALLYD_DIMENSIONS_NAMES", "team"),
        ("TALLYD_HTTP_TAG_HEADERS", "X-Team=team,x-squad=team,x-app=app,x-key=api_key"),
    ]);
    let token = api.token("ingest");
    let send = |path: &str, more: &[(&str, &str)], body: &str| {
        let headers = [&[("authorization", token.as_str()), ("content-type", "application/json")], more].concat();
        api.send("POST", path, &headers, body.as_bytes())
    };
    let records = json!([
        {"provider": "claude", "request_id": "1"},
        {"provider": "claude", "request_id": "2", "app": "own", "tags": {"team": "own", "run": "r"}},
        {"provider": "claude", "request_id": "3", "tags": {"team": ""}},
    ])
    .to_string();
    let headers =
        [("x-squad", "second"), ("x-team", " search "), ("x-app", "web"), ("x-key", "sk-live-1"), ("x-other", "no")];
    assert_eq!(send("/api/v1/records", &headers, &records).status, 200);
    assert_eq!(
        send("/api/v1/records", &[("x-squad", "second")], r#"{"provider":"claude","request_id":"4"}"#).status,
        200
    );
    // The bounds of a tag hold, and the dead letter has the header's tag.
    let long = "x".repeat(257);
    let refused = send("/api/v1/records", &[("x-team", &long)], r#"{"provider":"claude","request_id":"5"}"#);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("at most 256 bytes"), "{}", refused.text());
    api.postgres.until("SELECT payload LIKE '%' || repeat('x', 257) || '%' FROM (SELECT convert_from(payload, 'UTF8') AS payload FROM dead_letters) AS d", "t");
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let attributes = json!([
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "anthropic"),
        text("gen_ai.request.model", "claude-sonnet-4-5"),
        text("gen_ai.response.id", "6")
    ]);
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b101", "kind": 3, "name": "chat",
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001250000000", "attributes": attributes});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
    assert_eq!(send("/v1/traces", &[("x-team", "ops")], &body).status, 200);
    api.postgres.until_calls(5);
    let stored = api
        .postgres
        .psql("SELECT string_agg(concat_ws(' ', request_id, app, tags), ', ' ORDER BY request_id) FROM api_usage_log");
    let key = r#""api_key": "sha256:f8dc9db173ee""#;
    let expected = [
        format!(r#"1 web {{"team": "search", {key}}}"#),
        format!(r#"2 own {{"run": "r", "team": "own", {key}}}"#),
        format!("3 web {{{key}}}"),
        r#"4  {"team": "second"}"#.to_owned(),
        r#"6  {"team": "ops"}"#.to_owned(),
    ];
    assert_eq!(stored, expected.join(", "));
    api.daemon.assert_reconciled();
}
