//! The text and the HTML of a report.

use super::*;

fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

/// A week with everything that a report can have.
fn example() -> Report {
    let sums = |cost: &str, calls| ReportSums {
        cost_usd: usd(cost),
        calls,
        errors: 31,
        tokens: 48_210_334,
        unpriced_calls: 12,
    };
    let mover = |name: &str, cost: &str, before: &str| ReportMover {
        name: name.to_owned(),
        cost_usd: usd(cost),
        before_usd: usd(before),
    };
    let day = |text: &str| text.parse::<NaiveDate>().unwrap();
    let group = |by: &str, whole_from: Option<&str>, movers| ReportMovers {
        by: by.to_owned(),
        whole_from: whole_from.map(day),
        movers,
    };
    let budget = |name: &str, spent: &str, amount: &str, used: &str, forecast: Option<&str>| ReportBudget {
        name: name.to_owned(),
        spent_usd: usd(spent),
        amount_usd: usd(amount),
        used_percent: usd(used),
        forecast_usd: forecast.map(usd),
    };
    Report {
        period: "week".into(),
        first: day("2026-11-23"),
        last: day("2026-11-29"),
        before_first: day("2026-11-16"),
        time_zone: "Europe/Berlin".into(),
        total: sums("1234.567890123456789012", 28_185),
        before: ReportSums { unpriced_calls: 0, ..sums("1000.4", 25_000) },
        change_usd: usd("234.167890123456789012"),
        change_percent: percent_of(usd("234.167890123456789012"), usd("1000.4")),
        movers: vec![
            group("model", None, vec![mover("claude-opus-4-5", "804.2", "512.75"), mover("gpt-5", "190", "260.1")]),
            group("user", None, vec![mover("<script>&\"u\"\n", "12", "0"), mover("", "0", "3.004")]),
            group("team", Some("2026-11-20"), vec![mover("search", "412.5", "300")]),
            group("customer", None, Vec::new()),
        ],
        budgets: vec![
            budget("monthly, all spend", "2659", "3000", "88.63", Some("2854")),
            budget("weekly, tag \"team=search\"", "412.5", "400", "103.12", None),
        ],
        unpriced: vec![ReportUnpriced { provider: "acme".into(), model: "acme-large".into(), calls: 12 }],
        closings: vec![ReportClosings {
            vendor: "anthropic".into(),
            matched: 5,
            differs: 1,
            open: 1,
            difference_usd: usd("-12.5"),
            parts: vec![ResidueKind::UnrecordedModel, ResidueKind::Price],
        }],
    }
}

#[test]
fn a_report_is_read_in_text_and_in_html() {
    let report = example();
    let expected = "\
tallyd: Week 2026-11-23 to 2026-11-29: 1,234.57 USD, 234.17 more than the week before (+23.41 %)
28,185 calls (25,000 before), 31 errors, 48,210,334 tokens
12 unpriced calls are not in these sums: \"acme-large\" 12
bill of anthropic: 6 of 7 days closed, 1 differs (-12.50 USD): unrecorded model, price

Top movers by model
  \"claude-opus-4-5\": 804.20 USD, +291.45
  \"gpt-5\": 190.00 USD, -70.10

Top movers by user
  \"<script>&\"u\"\n\": 12.00 USD, +12.00
  (none): 0.00 USD, -3.00

Top movers by team (all costs count from 2026-11-20 on)
  \"search\": 412.50 USD, +112.50

Budgets
  monthly, all spend: 2,659.00 of 3,000.00 USD, 88.63 % used, forecast 2,854.00
  weekly, tag \"team=search\": 412.50 of 400.00 USD, 103.12 % used";
    assert_eq!(lines(&report).join("\n"), expected);
    let html = html(&report);
    assert!(
        html.contains("1,234.57 USD")
            && html.contains("1 differs (-12.50 USD)")
            && html.contains("+291.45")
            && !html.contains("customer"),
        "{html}"
    );
    assert!(html.contains("&lt;script&gt;&amp;&quot;u&quot;\\n") && !html.contains("<script"), "{html}");
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains("\"cost_usd\":\"1234.567890123456789012\""), "every digit: {text}");
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    if let Some(path) = std::env::var_os("REPORT_HTML") {
        std::fs::write(path, html).unwrap();
    }
}

#[test]
fn a_change_is_in_percent_of_the_period_before() {
    for (change, before, percent) in [
        ("1", "3", Some("33.33")),
        ("2", "3", Some("66.67")),
        ("-2", "3", Some("-66.67")),
        ("0", "3", Some("0")),
        ("0.00005", "1", Some("0.01")),
        ("5", "0", None),
        ("5", "-1", None),
    ] {
        assert_eq!(percent_of(usd(change), usd(before)), percent.map(usd), "{change} of {before}");
    }
}
