//! The lacks of sums of costs, and the latency of calls.

use serde_json::{Value, json};

use crate::client::Api;

const CONFIG: &str = r#"
[pricing]
prices = [{ provider = "acme", model = "small", per_million = { input = "1" } },
    { provider = "acme", model = "large", per_million = { input = "10" } }]
"#;

fn call(day: u32, more: &Value) -> String {
    let mut call = json!({"provider": "acme", "model": "new", "input_tokens": 1_000_000, "occurred_at": format!("2026-03-{day:02}T12:00:00Z")});
    call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("{call}\n")
}

fn loaded(lines: &[String]) -> (Api, String, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let api = Api::with(&[("TALLYD_CONFIG", config.to_str().unwrap())]);
    assert!(api.daemon.lines(&lines.concat()).iter().all(|answer| answer["ok"] == true));
    api.postgres.until_calls(lines.len());
    let token = api.token("read");
    (api, token, home)
}

#[test]
fn a_sum_says_in_which_range_it_lies_and_why() {
    let (api, token, _home) = loaded(&[
        call(1, &json!({"app": "web"})),
        call(1, &json!({"model": "small"})),
        // A priced call and an unpriced one of a model: the rollup does not have their tokens apart.
        call(2, &json!({"input_tokens": 5_000_000, "cost_usd": "7"})),
        call(2, &json!({"user_id": "u"})),
        call(3, &json!({"model": "small"})),
        call(4, &json!({"extra_units": {"image": 1}})),
        call(5, &json!({"provider": "nobody"})),
        call(6, &json!({"model": "small", "metadata": {"incomplete": true}})),
    ]);
    let bounds = |query: &str| {
        let answer = api.get(&format!("/api/v1/costs/bounds?{query}"), &token).ok();
        let usd = ["cost_usd", "low_usd", "high_usd"].map(|name| answer[name].as_str().unwrap_or("-").to_owned());
        (usd.join(" "), answer)
    };
    let reasons = |answer: &Value| {
        let told = |lack: &Value| {
            let of = |name: &str| lack[name].as_str().map_or_else(|| lack[name].to_string(), str::to_owned);
            ["reason", "provider", "model", "calls", "low_usd", "high_usd", "low_model", "high_model"].map(of).join(" ")
        };
        answer["reasons"].as_array().unwrap().iter().map(told).collect::<Vec<_>>()
    };
    let (usd, answer) = bounds("from=2026-03-01&to=2026-03-02");
    assert_eq!(usd, "8 10 28");
    assert_eq!(reasons(&answer), ["unpriced acme new 2 2 20 small large"]);
    assert_eq!((&answer["exact"], &answer["log_is_read"]), (&json!(false), &json!(true)));
    // Without the call log, all tokens of the second day may be those of the unpriced call.
    for query in ["from=2026-03-01&to=2026-03-02&log=false", "from=2026-01-30&to=2026-03-02"] {
        let (usd, answer) = bounds(query);
        assert_eq!(usd, "8 9 78", "{query}");
        assert!(answer["reasons"][0]["note"].as_str().unwrap().contains("not told apart"), "{answer:#}");
    }
    for (query, expected, is_exact) in [
        ("from=2026-03-03&to=2026-03-03", "1 1 1", true),
        ("from=2026-03-03&to=2026-03-03&log=false", "1 1 1", false),
        ("from=2026-03-01&to=2026-03-03&app=web", "0 1 10", false),
        ("from=2026-03-01&to=2026-03-03&user=u", "0 1 10", false),
        ("from=2026-03-01&to=2026-03-06&model=small", "3 3 3", false),
        ("from=2026-03-04&to=2026-03-04", "0 1 -", false),
        ("from=2026-03-01&to=2026-03-05&provider=nobody", "0 0 -", false),
    ] {
        let (usd, answer) = bounds(query);
        assert_eq!((usd.as_str(), &answer["exact"]), (expected, &json!(is_exact)), "{query}: {answer:#}");
    }
    let (_, answer) = bounds("from=2026-03-04&to=2026-03-06");
    assert_eq!(
        reasons(&answer),
        [
            "unpriced acme new 1 1 null small large",
            "incomplete acme small 1 0 null null null",
            "unpriced nobody new 1 0 null null null",
        ]
    );
    let notes: Vec<_> =
        answer["reasons"].as_array().unwrap().iter().map(|lack| lack["note"].as_str().unwrap()).collect();
    for (note, says) in notes.iter().zip(["units beside tokens", "did not report", "no price of this provider"]) {
        assert!(note.contains(says), "{note}");
    }
    for (query, says) in [
        ("from=2026-01-01&to=2026-03-01&user=u", "no rollup tells these apart"),
        ("from=2010-01-01&to=2026-03-01", "longer than 3660 days"),
        ("group_by=model", "unknown field"),
    ] {
        let answer = api.get(&format!("/api/v1/costs/bounds?{query}"), &token);
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(says), "{query}: {}", answer.text());
    }
    assert_eq!(api.get("/api/v1/costs/bounds", &api.token("ingest")).status, 403);
}

#[test]
fn calls_say_how_long_they_took() {
    let mut lines: Vec<String> = (1..=20).map(|ms| call(1, &json!({"model": "small", "latency_ms": ms}))).collect();
    lines.extend([
        call(1, &json!({"model": "small"})),
        call(2, &json!({"app": "web"})),
        call(2, &json!({"provider": "other", "model": "small", "latency_ms": 700, "user_id": "u"})),
    ]);
    let (api, token, _home) = loaded(&lines);
    let rows = |query: &str| {
        let answer = api.get(&format!("/api/v1/latency?from=2026-03-01&to=2026-03-31&{query}"), &token).ok();
        answer["rows"].as_array().unwrap().clone()
    };
    let row = |calls: u32, timed: u32, times: [Value; 2]| json!({"calls": calls, "timed_calls": timed, "p50_ms": times[0], "p95_ms": times[1]});
    let with = |mut row: Value, more: Value| {
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let small = row(21, 20, [json!(10), json!(19)]);
    let untimed = row(1, 0, [Value::Null, Value::Null]);
    let other = row(1, 1, [json!(700), json!(700)]);
    assert_eq!(
        rows("provider=acme"),
        [
            with(small.clone(), json!({"provider": "acme", "model": "small"})),
            with(untimed.clone(), json!({"provider": "acme", "model": "new"})),
        ]
    );
    assert_eq!(
        rows("group_by=model&model=small"),
        [with(row(22, 21, [json!(11), json!(20)]), json!({"model": "small"}))]
    );
    assert_eq!(rows("group_by=provider&user=u"), [with(other, json!({"provider": "other"}))]);
    assert_eq!(rows("group_by=total"), [row(23, 21, [json!(11), json!(20)])]);
    assert_eq!(rows("group_by=total&tag:app=web"), [untimed]);
    assert_eq!(rows("model=none"), Vec::<Value>::new());
    for (query, says) in [
        ("days=32", "at most 31 days"),
        ("from=2026-01-01&to=2026-02-01", "at most 31 days"),
        ("days=0", "not within 1 and 31"),
        ("group_by=user", "unknown variant"),
    ] {
        let answer = api.get(&format!("/api/v1/latency?{query}"), &token);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
        assert!(answer.text().contains(says), "{query}: {}", answer.text());
    }
    assert_eq!(api.get("/api/v1/latency", &api.token("ingest")).status, 403);
}
