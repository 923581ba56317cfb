//! A vendor's bill compared with the recorded calls: equal, different, and in a zone whose days are not the vendor's.

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// Two calls on either side of 2026-02-01 in UTC, both on that day in Asia/Kolkata: 1000 × 3 + 101 × 15 USD per million
/// each.
const CALLS: &str = r#"{"provider":"claude","model":"claude-sonnet-4-5-20250929","input_tokens":1000,"output_tokens":101,"occurred_at":"2026-01-31T23:59:59.999999Z"}
{"provider":"claude","model":"claude-sonnet-4-5","input_tokens":1000,"output_tokens":101,"occurred_at":"2026-02-01T00:00:00Z"}"#;

/// A cost report as Anthropic's, with the cents of both days.
fn report(january: &str, february: &str) -> String {
    let bucket = |day: &str, amount: &str| {
        format!(
            r#"{{"starting_at": "{day}T00:00:00Z", "results": [{{"amount": "{amount}", "currency": "USD", "model": "claude-sonnet-4-5"}}]}}"#
        )
    };
    format!(r#"{{"data": [{}, {}]}}"#, bucket("2026-01-31", january), bucket("2026-02-01", february))
}

/// Runs `tallyd bill check`. Returns the exit code and the JSON.
fn check(daemon: &Daemon, name: &str, text: &str, more: &[&str]) -> (Option<i32>, Value) {
    let file = daemon.data().join(name);
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let output = daemon.run(&[&["bill-check", &file, "--json"], more].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn compare_in(zone: &str) {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_ROLLUP_TIME_ZONE", zone).start();
    assert!(daemon.lines(CALLS).iter().all(|answer| answer["ok"] == true));
    postgres.until_calls(2);

    let (code, found) = check(&daemon, "equal.json", &report("0.4515", "0.4515"), &["--tolerance-usd", "0"]);
    assert_eq!(code, Some(0), "{zone}: {found:#}");
    assert_eq!(found["days"][0]["difference_usd"], "0");
    assert_eq!(found["days"].as_array().map(Vec::len), Some(2));

    let (code, found) = check(&daemon, "off.json", &report("0.4515", "2.4515"), &[]);
    assert_eq!(code, Some(1), "{zone}: {found:#}");
    assert_eq!(found["days"][0]["agrees"], true);
    assert_eq!((&found["days"][1]["agrees"], &found["days"][1]["difference_usd"]), (&false.into(), &"-0.02".into()));
    let (code, _) = check(&daemon, "off.json", &report("0.4515", "2.4515"), &["--tolerance-usd", "0.02"]);
    assert_eq!(code, Some(0));
    columns_are_as_wide_as_the_longest_name(&daemon);
}

fn columns_are_as_wide_as_the_longest_name(daemon: &Daemon) {
    let file = daemon.data().join("long.json");
    let long = "a-model-whose-name-is-far-longer-than-twenty-eight-characters";
    std::fs::write(&file, report("0.4515", "2.4515").replacen("claude-sonnet-4-5", long, 1)).unwrap();
    let words = ["bill-check", &file.display().to_string()];
    let shown = String::from_utf8(daemon.run(&words).stdout).unwrap();
    let end = shown.lines().next().unwrap().find("recorded").unwrap() + "recorded".len();
    let rows: Vec<&str> = shown.lines().filter(|line| line.starts_with("2026-")).collect();
    assert!(rows.len() >= 4 && shown.contains(long), "{shown}");
    for row in &rows {
        let recorded = row[..end].rsplit(' ').next().unwrap();
        assert!(recorded == "0.00" || recorded == "< 0.01" || recorded == "0.01", "{recorded:?} of {row:?}\n{shown}");
    }
    let exact = daemon.run(&[&words[..], &["--exact"]].concat());
    assert!(String::from_utf8_lossy(&exact.stdout).contains(" 0.004515 "), "{exact:?}");
}

#[test]
fn a_bill_that_agrees_and_one_that_does_not_are_told_apart_by_the_day() {
    compare_in("UTC");
}

#[test]
fn days_are_the_vendors_where_the_reporting_zone_has_others() {
    compare_in("Asia/Kolkata");
}

#[test]
fn what_is_no_bill_is_named_and_exits_with_1() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let file = daemon.data().join("calls.csv");
    std::fs::write(&file, "time,calls\n1,2\n").unwrap();
    let output = daemon.run(&["bill-check", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("calls.csv is not a known export"), "{said}");
}
