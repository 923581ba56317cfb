//! Costs for Prometheus: who sees them, and that they equal the rollups' sums to the last digit.

use std::collections::BTreeMap;

use crate::client::{Api, free_address, send};
use crate::support::until;

/// The series whose names have this beginning, with their values as text.
fn series(text: &str, begin: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| line.starts_with(begin));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn what_was_spent_is_shown_to_a_token_and_is_exact() {
    let api = Api::start();
    let (read, ingest) = (api.token("read"), api.token("ingest"));
    let answers = api.daemon.lines(concat!(
        r#"{"provider":"acme","model":"a","cost_usd":"0.900000000000000001","input_tokens":5,"output_tokens":7}"#,
        "\n",
        r#"{"provider":"acme","model":"a","cost_usd":"9999.9","status":500,"user_id":"u"}"#,
        "\n",
        r#"{"provider":"acme","model":"unknown","cache_read_tokens":3}"#,
        "\n",
    ));
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    let credit = r#"{"provider":"acme","model":"b \"q\"","cost_usd":"-2.5"}"#;
    let answer = api.post("/api/v1/records", &api.token("admin"), credit);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut shown = String::new();
    until("all four are committed", || {
        shown = api.get("/metrics", &read).text();
        let calls: u64 = series(&shown, "tallyd_calls_total").values().map(|value| value.parse::<u64>().unwrap()).sum();
        if calls == 4 { Ok(()) } else { Err(shown.clone()) }
    });
    let a = r#"{provider="acme",model="a"}"#;
    let costs = series(&shown, "tallyd_cost_usd_total");
    assert_eq!(costs[&format!("tallyd_cost_usd_total{a}")], "10000.800000000000000001");
    let summed = "SELECT sum(cost_usd), sum(calls) FROM daily_api_costs WHERE provider = 'acme' AND model = 'a'";
    assert_eq!(api.postgres.psql(summed), "10000.800000000000000001|2");
    let b = r#"{provider="acme",model="b \"q\""}"#;
    assert_eq!(costs[&format!("tallyd_cost_usd_total{b}")], "0", "a counter does not fall");
    assert_eq!(series(&shown, "tallyd_credits_usd_total")[&format!("tallyd_credits_usd_total{b}")], "2.5");
    let tokens = series(&shown, "tallyd_tokens_total");
    assert_eq!(tokens[r#"tallyd_tokens_total{provider="acme",model="a",type="output"}"#], "7");
    assert_eq!(tokens[r#"tallyd_tokens_total{provider="acme",model="unknown",type="cache_read"}"#], "3");
    let calls = series(&shown, "tallyd_calls_total");
    assert_eq!(calls[r#"tallyd_calls_total{provider="acme",model="a",status="error"}"#], "1");
    assert_eq!(calls[r#"tallyd_calls_total{provider="acme",model="a",status="ok"}"#], "1");
    let unpriced = series(&shown, "tallyd_calls_unpriced_total");
    assert_eq!(unpriced[r#"tallyd_calls_unpriced_total{provider="acme",model="unknown"}"#], "1");
    // The process's own metrics by their standard names, and the time that requests take.
    for begin in ["process_resident_memory_bytes ", "process_cpu_seconds_total ", "process_open_fds "] {
        assert!(shown.lines().any(|line| line.starts_with(begin)), "{begin}");
    }
    assert!(!series(&shown, "tallyd_http_request_duration_seconds_count").is_empty());

    let open = api.get("/metrics", "");
    assert_eq!((open.status, series(&open.text(), "tallyd_cost").len()), (200, 0), "without a token");
    assert!(!open.text().contains("acme"), "{}", open.text());
    assert_eq!(api.get("/metrics", &ingest).status, 403);
    assert_eq!(api.get("/metrics", "Bearer tallyd_1_none").status, 401, "a wrong token is not answered with less");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(api.get(path, "Basic cHJvYmU6cHJvYmU=").status, 200, "a probe's own credentials: {path}");
    }
}

#[test]
fn an_address_of_its_own_and_the_setting_show_it_without_a_token() {
    let address = free_address();
    let call = r#"{"provider":"acme","model":"a","cost_usd":"0.25"}"#;
    for (name, value) in [("TALLYD_HTTP_METRICS_LISTEN", address.as_str()), ("TALLYD_HTTP_METRICS_SPEND", "true")] {
        let api = Api::with(&[(name, value)]);
        api.daemon.lines(call);
        let at = if value == "true" { &api.address } else { &address };
        until("the cost is shown", || {
            let text = send(at, "GET", "/metrics", &[], b"").text();
            let cost = series(&text, "tallyd_cost_usd_total").into_values().next();
            if cost.as_deref() == Some("0.25") { Ok(()) } else { Err(text) }
        });
    }
}
