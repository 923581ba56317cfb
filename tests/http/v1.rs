//! The API proper: groups, buckets, pages, exports, tags.

use std::io::Read;

use serde_json::{Value, json};

use crate::client::Api;
use crate::legacy::loaded;

const RANGE: &str = "from=2026-03-01&to=2026-03-02";

fn rows(api: &Api, token: &str, query: &str) -> (Value, Vec<Value>) {
    let answer = api.get(&format!("/api/v1/costs?{RANGE}&{query}"), token).ok();
    (answer["source"].clone(), answer["rows"].as_array().unwrap().clone())
}

#[test]
fn costs_are_grouped_and_every_table_gives_the_same_sums() {
    let api = loaded();
    let token = api.token("read");
    let total = "0.604545000000000001";
    for (query, source, groups) in [
        ("bucket=total", "daily_api_costs", 1),
        ("bucket=day", "daily_api_costs", 2),
        ("bucket=week&group_by=provider", "daily_api_costs", 4),
        ("bucket=month&group_by=model,endpoint", "daily_api_costs", 6),
        ("bucket=total&group_by=user", "daily_user_api_costs", 4),
        ("bucket=total&group_by=user,provider", "daily_user_api_costs", 5),
        ("bucket=total&group_by=app", "daily_dimension_costs", 2),
        ("bucket=hour", "hourly_api_costs", 5),
        ("bucket=hour&group_by=app", "api_usage_log", 5),
        ("bucket=day&group_by=user,model", "api_usage_log", 6),
    ] {
        let (from, rows) = rows(&api, &token, query);
        assert_eq!(from, source, "{query}");
        assert_eq!(rows.len(), groups, "{query}: {rows:#?}");
        let sum = |rows: &[Value]| -> tallyd_model::pricing::Usd {
            let costs = rows.iter().map(|row| row["cost_usd"].as_str().unwrap().parse().unwrap());
            costs.fold(tallyd_model::pricing::Usd::ZERO, |sum, cost: tallyd_model::pricing::Usd| {
                sum.checked_add(cost).unwrap()
            })
        };
        assert_eq!(sum(&rows).to_string(), total, "{query}");
        assert_eq!(rows.iter().map(|row| row["calls"].as_i64().unwrap()).sum::<i64>(), 6, "{query}");
    }
    let (_, hours) = rows(&api, &token, "bucket=hour");
    assert_eq!(hours[0]["bucket"], "2026-03-01T12:00:00Z");
    let (_, weeks) = rows(&api, &token, "bucket=week&provider=claude");
    assert_eq!((&weeks[0]["bucket"], &weeks[1]["bucket"]), (&json!("2026-02-23"), &json!("2026-03-02")));
    let (_, top) = rows(&api, &token, "bucket=total&group_by=user&sort=cost&limit=1");
    assert_eq!((&top[0]["user"], &top[0]["cost_usd"]), (&json!("u-1"), &json!("0.304500000000000001")));
    for query in
        ["group_by=colour", "group_by=user,user", "bucket=year", "sort=x", "limit=0", "limit=10001", "offset=-1"]
    {
        let answer = api.get(&format!("/api/v1/costs?{query}"), &token);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
    }
    let long = api.get("/api/v1/costs?bucket=hour&group_by=user&days=32", &token);
    assert_eq!(long.status, 400, "the log is asked for a month at most");
}

#[test]
fn pages_have_every_row_once() {
    let api = loaded();
    let token = api.token("read");
    let mut offset = json!(0);
    let mut groups = Vec::new();
    while !offset.is_null() {
        let path = format!("/api/v1/costs?{RANGE}&group_by=model,endpoint&limit=2&offset={offset}");
        let page = api.get(&path, &token).ok();
        groups.extend(page["rows"].as_array().unwrap().iter().map(ToString::to_string));
        offset = page["next_offset"].clone();
    }
    let (mut distinct, count) = (groups.clone(), groups.len());
    distinct.sort();
    distinct.dedup();
    assert_eq!((distinct.len(), count), (6, 6));
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let after = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        let page = api.get(&format!("/api/v1/records?from=2026-03-01&to=2026-03-03&limit=2{after}"), &token).ok();
        ids.extend(page["records"].as_array().unwrap().iter().map(|record| record["occurred_at"].to_string()));
        match page["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(ids.len(), 6);
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
}

#[test]
fn calls_of_a_day_are_listed_by_cost_and_by_latency_and_narrowed_by_tags() {
    let api = Api::start();
    let token = api.token("read");
    let call = |minute: u32, cost: &str, latency: Value, team: &str| {
        json!({"provider": "acme", "occurred_at": format!("2026-03-01T12:{minute:02}:00Z"), "cost_usd": cost,
               "latency_ms": latency, "tags": {"team": team}})
    };
    let mut calls: Vec<Value> =
        [("2", json!(7), "a"), ("0.5", json!(900), "b"), ("2", Value::Null, "a"), ("10.25", json!(7), "a")]
            .into_iter()
            .zip(0..)
            .map(|((cost, latency, team), minute)| call(minute, cost, latency, team))
            .collect();
    calls.push(json!({"provider": "acme", "model": "unpriced", "occurred_at": "2026-03-01T12:09:00Z"}));
    let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
    let answers = api.daemon.lines(&lines);
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    api.postgres.until_calls(5);
    let pages = |query: &str| {
        let (mut minutes, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/records?from=2026-03-01&to=2026-03-02&limit=1&{query}{cursor}");
            let page = api.get(&path, &token).ok();
            let found = page["records"].as_array().unwrap();
            minutes.extend(found.iter().map(|call| call["occurred_at"].as_str().unwrap()[14..16].to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break minutes.join(" "),
            }
        }
    };
    for (query, minutes) in [
        ("sort=cost", "03 02 00 01"),
        ("sort=latency", "01 03 00"),
        ("sort=time", "09 03 02 01 00"),
        ("sort=cost&tag:team=a", "03 02 00"),
        ("tag:team=b", "01"),
        ("tag:team=", "09"),
    ] {
        assert_eq!(pages(query), minutes, "{query}");
    }
    let first = api.get("/api/v1/records?from=2026-03-01&to=2026-03-02&limit=1&sort=cost", &token).ok();
    let next = first["next"].as_str().unwrap();
    for query in [
        "from=2026-03-01&to=2026-03-03&sort=cost".to_owned(),
        format!("from=2026-03-01&to=2026-03-02&cursor={next}"),
        "sort=user".to_owned(),
        "tag:app=web".to_owned(),
        "tag:a'b=x".to_owned(),
    ] {
        let answer = api.get(&format!("/api/v1/records?{query}"), &token);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
    }
}

#[test]
fn users_are_paged_by_cursor_and_found_by_the_beginning_of_their_ids() {
    let api = loaded();
    let token = api.token("read");
    for sort in ["cost", "calls", "claude_calls", "rentcast_calls", "last_call", "id"] {
        let ids = |query: &str| -> (Vec<String>, Value) {
            let page = api.get(&format!("/api/v1/users?sort={sort}&{query}"), &token).ok();
            assert_eq!((&page["total"], &page["total_is"], &page["as_of"]), (&json!(3), &json!("exact"), &Value::Null));
            let ids = page["users"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned());
            (ids.collect(), page["next"].clone())
        };
        let (all, next) = ids("limit=3");
        assert_eq!((all.len(), next), (3, Value::Null));
        let (mut paged, mut after) = (Vec::new(), String::new());
        loop {
            let (page, next) = ids(&format!("limit=1&{after}"));
            paged.extend(page);
            let Some(next) = next.as_str() else { break };
            after = format!("cursor={}", next.replace(':', "%3A"));
        }
        assert_eq!(paged, all, "{sort}");
        let (mut ascending, _) = ids("order=asc");
        ascending.reverse();
        assert_eq!(ascending, all, "{sort}");
    }
    for cursor in ["x", "50", "calls%3Acalled%3A1%3Au-1", "cost%3Acalled%3Ax%3Au-1", "cost%3Aall%3A%3A", "%00"] {
        let answer = api.get(&format!("/api/v1/users?cursor={cursor}"), &token);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{cursor}");
        assert!(answer.text().contains("take `next` of the page before"), "{}", answer.text());
    }
    assert_eq!(api.get("/api/v1/users?offset=1", &token).status, 400);
    let found = api.get("/api/v1/users?search=u-&limit=2&sort=id&order=asc", &token).ok();
    assert_eq!((&found["total"], &found["users"][0]["id"]), (&json!(3), &json!("u-1")));
    assert_eq!(api.get("/api/v1/users?search=-1", &token).ok()["total"], 0);
}

#[test]
fn records_are_searched_by_any_of_their_fields() {
    let api = loaded();
    let token = api.token("read");
    let count = |query: &str| {
        let found = api.get(&format!("/api/v1/records?from=2026-03-01&to=2026-03-03&{query}"), &token).ok();
        found["records"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("", 6),
        ("provider=anthropic", 3),
        ("provider=claude&user_id=u-1", 2),
        ("model=claude-sonnet-4", 1),
        ("endpoint=/avm/value", 1),
        ("app=web", 1),
        ("errors=true", 1),
        ("errors=false", 5),
        ("unpriced=true", 1),
        ("from=2026-03-02T14:00:00Z&to=2026-03-02T14:00:01Z", 1),
        ("request_id=none", 0),
        ("id=00000000-0000-0000-0000-000000000000", 0),
    ] {
        let found = if query.starts_with("from") {
            api.get(&format!("/api/v1/records?{query}"), &token).ok()["records"].as_array().unwrap().len()
        } else {
            count(query)
        };
        assert_eq!(found, expected, "{query}");
    }
    for query in ["cursor=x", "from=2026-01-01&to=2026-03-01", "id=x", "errors=maybe", "user=u", "user_id=%00"] {
        let answer = api.get(&format!("/api/v1/records?{query}"), &token);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
    }
    // A name without calls in these days is pointed out. A name whose calls another filter excludes is not.
    let note = |query: &str| {
        api.get(&format!("/api/v1/records?from=2026-03-01&to=2026-03-03&{query}"), &token).ok()["note"].clone()
    };
    let slip = note("model=claude-sonet-4&provider=rentcat");
    for expected in [("model", "claude-sonet-4", "claude-sonnet-4"), ("provider", "rentcat", "rentcast")] {
        let (kind, slipped, near) = expected;
        let expected = format!("no call of these days has the {kind} {slipped:?}; near names: {near}");
        assert!(slip.as_str().unwrap().contains(&expected), "{slip}");
    }
    // Applications and users are not pointed out: there are many, and the search has read their calls already.
    for query in [
        "app=wep",
        "user_id=u-0",
        "",
        "model=claude-sonnet-4",
        "provider=rentcast&model=claude-sonnet-4",
        "request_id=none",
    ] {
        assert_eq!(note(query), Value::Null, "{query}");
    }
    let user = api.get(&format!("/api/v1/users/u-1?{RANGE}"), &token).ok();
    assert_eq!((&user["total_calls"], user["days"].as_array().unwrap().len()), (&3.into(), 3));
    assert_eq!(api.get("/api/v1/users/nobody", &token).code(), "not_found");
    assert_eq!(api.get("/api/v1/users", &token).ok()["total"], 3);
}

#[test]
fn every_list_is_exported_as_csv() {
    let api = loaded();
    let token = api.token("read");
    api.daemon.lines(
        "{\"provider\":\"\"}\n{\"provider\":\"acme\",\"user_id\":\"=cmd()\",\"occurred_at\":\"2026-03-02T16:00:00Z\"}",
    );
    api.postgres.until("SELECT count(*) FROM dead_letters", "1");
    api.postgres.until_calls(7);
    api.postgres.until("SELECT count(*) > 0 FROM api_prices", "t");
    assert!(api.daemon.run(&["budgets", "set", "5", "--period", "month"]).status.success());
    for (path, lines) in [
        ("costs?from=2026-03-01&to=2026-03-02&group_by=provider", 4),
        ("users?sort=id", 4),
        ("records?from=2026-03-01&to=2026-03-03", 7),
        ("dead-letters?kind=refused", 1),
        // The token and the budget.
        ("audit?limit=1", 2),
        ("budgets?", 1),
        ("forecast?provider=acme", 30),
        ("sessions?", 0),
        ("sessions/history?days=2", 0),
    ] {
        let answer = api.get(&format!("/api/v1/{path}&format=csv"), &token);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.header("content-type").unwrap().starts_with("text/csv"), "{path}");
        assert!(answer.header("content-disposition").unwrap().contains(".csv\""), "{path}");
        let mut reader = csv::Reader::from_reader(answer.body.as_slice());
        let columns = reader.headers().unwrap().len();
        let found: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(found.len(), lines, "{path}: {}", answer.text());
        assert!(found.iter().all(|line| line.len() == columns), "{path}");
        let headers = [("authorization", token.as_str()), ("accept-encoding", "gzip")];
        let packed = api.send("GET", &format!("/api/v1/{path}&format=csv"), &headers, b"");
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{path}");
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, answer.body, "{path}");
    }
    let prices = api.get("/api/v1/prices?provider=claude&format=csv", &token).text();
    assert!(prices.lines().count() > 10, "{prices}");
    let users = api.get("/api/v1/users?format=csv", &token).text();
    assert!(users.contains("\n'=cmd(),"), "no cell is a formula: {users}");
    let letter = api.get("/api/v1/dead-letters", &token).ok()["dead_letters"][0].clone();
    assert_eq!((&letter["code"], &letter["record"]), (&json!("missing"), &json!({"provider": ""})));
    assert!(api.daemon.run(&["dead-letters", "drop", &letter["id"].to_string(), "--yes"]).status.success());
    let left = api.get("/api/v1/dead-letters", &token).ok();
    assert_eq!(left["dead_letters"], json!([]), "what somebody has decided about is settled");
}

#[test]
fn an_unchanged_answer_is_not_sent_again_and_a_large_one_is_compressed() {
    let api = loaded();
    let token = api.token("read");
    let path = format!("/api/v1/costs?{RANGE}");
    let first = api.get(&path, &token);
    let etag = first.header("etag").unwrap().to_owned();
    let ask = |path: &str, tag: &str| {
        api.send("GET", path, &[("authorization", token.as_str()), ("if-none-match", tag)], b"")
    };
    let again = ask(&path, &etag);
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(ask(&path, "W/\"other\"").status, 200);
    api.daemon.lines(r#"{"provider":"acme","occurred_at":"2026-03-02T16:00:00Z"}"#);
    api.postgres.until_calls(7);
    assert_eq!(ask(&path, &etag).status, 200, "it has changed");
    // Without a valid token a known tag reveals nothing.
    let stranger = api.send("GET", &path, &[("if-none-match", etag.as_str())], b"");
    assert_eq!(stranger.status, 401);
    let headers = [("authorization", token.as_str()), ("accept-encoding", "gzip")];
    let small = api.send("GET", &path, &headers, b"");
    assert_eq!(small.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(small.body.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.contains("\"rows\""), "{text}");
}

#[test]
fn the_pipelines_status_is_shown() {
    let api = loaded();
    let status = api.get("/api/v1/pipeline", &api.token("read")).ok();
    assert_eq!(status["health"]["status"], "ok");
    assert_eq!(status["database"]["committed_records"], 6);
}

fn parts(change: &Value) -> (Vec<(String, String)>, tallyd_model::pricing::Usd) {
    let usd = |value: &Value| value.as_str().unwrap().parse::<tallyd_model::pricing::Usd>().unwrap();
    let parts = change["parts"].as_array().unwrap();
    let sum =
        parts.iter().fold(tallyd_model::pricing::Usd::ZERO, |sum, part| sum.checked_add(usd(&part["usd"])).unwrap());
    assert_eq!(sum, usd(&change["difference_usd"]), "{change:#}");
    let named =
        parts.iter().map(|part| (part["cause"].as_str().unwrap().to_owned(), part["usd"].as_str().unwrap().to_owned()));
    (named.filter(|(_, usd)| usd != "0").collect(), sum)
}

#[test]
fn a_change_of_spend_is_split_by_cause_to_the_last_digit() {
    let api = Api::start();
    let call = |day: u32, user: &str, more: Value| {
        let mut call = json!({"provider": "claude", "model": "claude-sonnet-4-5", "user_id": user, "input_tokens": 100_000, "app": "web",
            "output_tokens": 0, "occurred_at": format!("2026-03-{day:02}T12:00:00Z")});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("{call}\n")
    };
    // 0.3 USD each. The third day's are in batches, at half of it, and the fifth's say their own cost.
    let lines = [
        call(1, "a", json!({})),
        call(2, "a", json!({})),
        call(2, "b", json!({})),
        call(3, "a", json!({"service_tier": "batch"})),
        call(4, "a", json!({"model": "claude-opus-4-5"})),
        call(5, "a", json!({"cost_usd": "7"})),
    ];
    assert!(api.daemon.lines(&lines.concat()).iter().all(|answer| answer["ok"] == true));
    api.postgres.until_calls(lines.len());
    let token = api.token("read");
    let change = |from: u32, before: u32, more: &str| {
        let days = format!(
            "from=2026-03-{from:02}&to=2026-03-{from:02}&before_from=2026-03-{before:02}&before_to=2026-03-{before:02}"
        );
        api.get(&format!("/api/v1/costs/change?{days}{more}"), &token).ok()
    };
    let cause =
        |change: &Value| parts(change).0.into_iter().map(|(cause, usd)| format!("{cause} {usd}")).collect::<Vec<_>>();
    let second = change(2, 1, "&group_by=user");
    assert_eq!(cause(&second), ["new_users 0.3"]);
    assert_eq!(
        (&second["before_usd"], &second["after_usd"], &second["after_calls"]),
        (&json!("0.3"), &json!("0.6"), &json!(2))
    );
    let mover = json!({"user": "b", "before_usd": "0", "after_usd": "0.3", "difference_usd": "0.3", "before_calls": 0, "after_calls": 1});
    assert_eq!(second["movers"], json!([mover]));
    for filter in ["&provider=claude", "&user=b"] {
        assert_eq!(cause(&change(2, 1, filter)), ["new_users 0.3"], "{filter}");
    }
    let by_app = change(2, 1, "&app=web");
    assert_eq!(cause(&by_app), ["volume 0.3"]);
    assert!(by_app["parts"][1]["note"].as_str().unwrap().contains("their calls count in volume"), "{by_app:#}");
    assert_eq!(cause(&change(3, 1, "")), ["tier -0.15"]);
    let untold = change(3, 1, "&tiers=false");
    assert_eq!(cause(&untold), ["other -0.15"]);
    assert!(untold["parts"][7]["note"].as_str().unwrap().contains("only the call log has service tiers"), "{untold:#}");
    assert_eq!(cause(&change(4, 2, "")), ["volume -0.3", "model_mix 0.2"]);
    let stated = change(5, 1, "");
    assert_eq!(cause(&stated), ["other 6.7"]);
    assert!(stated["parts"][8]["note"].as_str().unwrap().contains("beside the list price"), "{stated:#}");
    // Before the call log's first day is nothing, and the default is the week before today.
    assert_eq!(cause(&api.get("/api/v1/costs/change?from=2026-03-01&to=2026-03-01", &token).ok()), ["new_users 0.3"]);
    assert_eq!(parts(&api.get("/api/v1/costs/change", &token).ok()).0, []);
    for (query, says) in [
        ("before_from=2026-03-01", "go together"),
        ("from=2026-03-01&to=2026-03-02&before_from=2026-03-01&before_to=2026-03-01", "is not before"),
        ("from=2025-01-01&to=2026-03-02", "longer than 366 days"),
        ("from=2026-01-01&to=2026-03-01&user=a", "no rollup tells these apart"),
        ("group_by=colour", "no such dimension"),
        ("limit=101", "not within"),
        ("days=7", "unknown field"),
    ] {
        let answer = api.get(&format!("/api/v1/costs/change?{query}"), &token);
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(says), "{query}: {}", answer.text());
    }
    let output = api.daemon.run(&[
        "explain",
        "--from",
        "2026-03-03",
        "--to",
        "2026-03-03",
        "--before",
        "2026-03-01",
        "2026-03-01",
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("0.15 USD less (-50 %)") && text.contains("tier   -0.15  cheaper service tiers"), "{text}");
}
