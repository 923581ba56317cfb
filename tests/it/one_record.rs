//! A line of JSON through the socket ends up in the log and in every rollup, priced exactly.

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

#[test]
fn a_line_of_json_is_answered_and_is_in_the_log_and_in_every_rollup() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let answers = daemon.lines(
        r#"{"provider":"claude","model":"claude-sonnet-4-5-20250929","input_tokens":1000,"output_tokens":101,"user_id":"u-1","occurred_at":"2026-01-31T23:59:59.999999Z"}"#,
    );
    // 1000 × 3 + 101 × 15 USD a million.
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((&answer["ok"], &answer["cost_usd"]), (&true.into(), &"0.004515".into()));
    postgres.until_calls(1);
    let log = "SELECT id, occurred_at AT TIME ZONE 'UTC', user_id, cost_usd, cost_source FROM api_usage_log";
    let id = answer["id"].as_str().unwrap();
    assert_eq!(postgres.psql(log), format!("{id}|2026-01-31 23:59:59.999999|u-1|0.004515|catalog"));
    let sums = "calls, errors, input_tokens, output_tokens, requests, cost_usd, unpriced_calls";
    let expected = "1|0|1000|101|1|0.004515|0";
    for (table, key) in [
        ("daily_api_costs", "day, provider, model, endpoint"),
        ("daily_user_api_costs", "day, user_id, provider"),
        ("user_api_totals", "user_id, provider"),
    ] {
        let keys = match table {
            "daily_api_costs" => "2026-01-31|claude|claude-sonnet-4-5-20250929|",
            "daily_user_api_costs" => "2026-01-31|u-1|claude",
            _ => "u-1|claude",
        };
        let found = postgres.psql(&format!("SELECT {key}, {sums} FROM {table}"));
        assert_eq!(found, format!("{keys}|{expected}"), "{table}");
    }
    let found = daemon.assert_reconciled();
    assert_eq!((&found["log_rows"], &found["log_cost_usd"]), (&1.into(), &"0.004515".into()));
}
