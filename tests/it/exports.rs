//! Exports that other programs read: each adds up to the call log, to the last digit.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use serde_json::Value;
use tallyd_model::pricing::Usd;
use tallyd_parquet::{Cell, FileError, Reader};
use tallyd_store::queries::{focus, records};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// Calls of three days in Berlin: priced by the catalog, priced by the caller to the last digit, unpriced, without a model.
fn calls() -> String {
    let mut lines = String::new();
    for number in 0..120 {
        let at = format!("2026-03-{}T{:02}:30:00Z", 28 + number % 3, number % 24);
        let user = ["=1+1", "u-1", ""][number % 3];
        let team = ["search", "a\\\"d", ""][number / 3 % 3];
        let tags = if team.is_empty() { String::new() } else { format!(r#","tags":{{"team":"{team}"}}"#) };
        let what = match number % 4 {
            0 => {
                r#""provider":"claude","model":"claude-sonnet-4-5","input_tokens":1234,"output_tokens":567"#.to_owned()
            }
            1 => format!(r#""provider":"acme","endpoint":"/x","cost_usd":"0.00000000000000{number:04}""#),
            2 => r#""provider":"claude","model":"unheard-of","input_tokens":11,"status":500"#.to_owned(),
            _ => r#""provider":"rentcast","app":"web","metadata":{"note":"a,\"b\"\n"}"#.to_owned(),
        };
        lines.push_str(&format!("{{{what},\"occurred_at\":\"{at}\",\"user_id\":\"{user}\"{tags}}}\n"));
    }
    lines
}

const RANGE: [&str; 4] = ["--from", "2026-03-28", "--to", "2026-03-31"];

fn exported(daemon: &Daemon, words: &[&str], file: &str) -> std::path::PathBuf {
    let path = daemon.data().join(file);
    let mut all = vec!["export"];
    all.extend(words);
    all.extend(RANGE);
    let shown = path.display().to_string();
    all.extend(["--out", &shown]);
    let output = daemon.run(&all);
    assert!(output.status.success(), "{all:?}: {}", String::from_utf8_lossy(&output.stderr));
    path
}

fn sum(amounts: impl Iterator<Item = Usd>) -> Usd {
    amounts.fold(Usd::ZERO, |sum, amount| sum.checked_add(amount).unwrap())
}

/// The columns that FOCUS 1.2 requires, and those of ours that it defines: type, nullability, allowed values. An empty
/// list allows all.
const RULES: [(&str, &str, bool, &[&str]); 29] = [
    ("BilledCost", "decimal", false, &[]),
    ("BillingAccountId", "string", false, &[]),
    ("BillingAccountName", "string", true, &[]),
    ("BillingCurrency", "string", false, &["USD"]),
    ("BillingPeriodEnd", "time", false, &["2026-03-31T22:00:00Z"]),
    ("BillingPeriodStart", "time", false, &["2026-02-28T23:00:00Z"]),
    ("ChargeCategory", "string", false, &["Usage", "Purchase", "Tax", "Credit", "Adjustment"]),
    ("ChargeClass", "string", true, &["Correction"]),
    ("ChargeDescription", "string", false, &[]),
    ("ChargeFrequency", "string", false, &["One-Time", "Recurring", "Usage-Based"]),
    ("ChargePeriodEnd", "time", false, &[]),
    ("ChargePeriodStart", "time", false, &[]),
    ("ConsumedQuantity", "decimal", false, &[]),
    ("ConsumedUnit", "string", false, &["Requests"]),
    ("ContractedCost", "decimal", false, &[]),
    ("EffectiveCost", "decimal", false, &[]),
    ("InvoiceIssuerName", "string", false, &[]),
    ("ListCost", "decimal", false, &[]),
    ("PricingCategory", "string", false, &["Standard", "Dynamic", "Committed", "Other"]),
    ("PricingQuantity", "decimal", false, &[]),
    ("PricingUnit", "string", false, &["Requests"]),
    ("ProviderName", "string", false, &[]),
    ("PublisherName", "string", false, &[]),
    ("ResourceId", "string", true, &[]),
    ("ResourceType", "string", true, &["Model"]),
    ("ServiceCategory", "string", false, &["AI and Machine Learning", "Other"]),
    ("ServiceName", "string", false, &[]),
    ("ServiceSubcategory", "string", false, &["Generative AI", "Other (Other)"]),
    ("Tags", "json", true, &[]),
];

type Line = BTreeMap<String, String>;

fn lines(file: &Path) -> (Vec<String>, Vec<Line>) {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let line = |record: Result<csv::StringRecord, _>| -> Line {
        names.iter().cloned().zip(record.unwrap().iter().map(str::to_owned)).collect()
    };
    let lines = reader.records().map(line).collect();
    (names, lines)
}

fn assert_follows_the_rules(names: &[String], rows: &[Line]) {
    let of_focus: Vec<&String> = names.iter().filter(|name| !name.starts_with("x_")).collect();
    assert_eq!(of_focus, RULES.iter().map(|rule| rule.0).collect::<Vec<_>>());
    // Custom columns come last.
    assert!(names[RULES.len()..].iter().all(|name| name.starts_with("x_")));
    for row in rows {
        for (name, kind, nullable, allowed) in RULES {
            let value = &row[name];
            assert!(nullable || !value.is_empty(), "{name} is empty: {row:?}");
            if value.is_empty() {
                continue;
            }
            assert!(allowed.is_empty() || allowed.contains(&value.as_str()), "{name}: {value}");
            let holds = match kind {
                // Digits and a point: no exponent, separator or sign of a positive value.
                "decimal" => Usd::parse(value).is_ok() && value.chars().all(|c| c.is_ascii_digit() || ".-".contains(c)),
                "time" => value.len() == 20 && value.ends_with(":00:00Z") && value.as_bytes()[10] == b'T',
                "json" => serde_json::from_str::<BTreeMap<String, String>>(value).is_ok_and(|tags| !tags.is_empty()),
                _ => !value.trim().is_empty(),
            };
            assert!(holds, "{name} is not a {kind}: {value}");
        }
        assert!(row["ChargePeriodStart"] < row["ChargePeriodEnd"]);
        assert!(
            row["BillingPeriodStart"] <= row["ChargePeriodStart"] && row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        );
        assert_eq!(row["ResourceId"].is_empty(), row["ResourceType"].is_empty(), "{row:?}");
        for cost in ["ContractedCost", "EffectiveCost", "ListCost"] {
            assert_eq!(row[cost], row["BilledCost"]);
        }
        // Unpriced calls are visible, and not cheap.
        let is_unpriced = row["x_UnpricedCalls"] != "0";
        assert_eq!(row["PricingCategory"] == "Other", is_unpriced, "{row:?}");
        assert_eq!(row["ChargeDescription"].contains("unknown"), is_unpriced, "{row:?}");
    }
}

#[test]
fn a_focus_export_follows_the_specification_and_adds_up_to_the_call_log() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url())
        .with("TALLYD_ROLLUP_TIME_ZONE", "Europe/Berlin")
        .with("TALLYD_DIMENSIONS_NAMES", "team")
        .start();
    daemon.lines(&calls());
    postgres.until_calls(120);
    postgres.until("SELECT count(*) FROM tallyd_dimensions WHERE counted_from = '-infinity'", "2");
    let in_log = |sql: &str| postgres.psql(&format!("SELECT {sql} FROM api_usage_log"));
    let cost = Usd::parse(&in_log("sum(cost_usd)")).unwrap();
    for by in ["", "user", "app", "tag:team"] {
        let words: Vec<&str> = if by.is_empty() { vec!["focus"] } else { vec!["focus", "--by", by] };
        let (names, rows) = lines(&exported(&daemon, &words, "focus.csv"));
        assert_follows_the_rules(&names, &rows);
        assert_eq!(sum(rows.iter().map(|row| Usd::parse(&row["BilledCost"]).unwrap())), cost, "{by}");
        let counted = |name: &str| rows.iter().map(|row| row[name].parse::<u64>().unwrap()).sum::<u64>().to_string();
        for (name, sql) in [
            ("ConsumedQuantity", "count(*)"),
            ("PricingQuantity", "count(*)"),
            ("x_UnpricedCalls", "count(*) FILTER (WHERE cost_usd IS NULL)"),
            ("x_InputTokens", "sum(input_tokens)"),
            ("x_OutputTokens", "sum(output_tokens)"),
            ("x_Errors", "count(*) FILTER (WHERE status >= 400)"),
        ] {
            assert_eq!(counted(name), in_log(sql), "{by} {name}");
        }
        // Days are those of Berlin, one of them of 23 hours.
        assert!(rows.iter().any(|row| row["ChargePeriodStart"] == "2026-03-28T23:00:00Z"
            && row["ChargePeriodEnd"] == "2026-03-29T22:00:00Z"));
        let tags = |row: &&Line| !row["Tags"].is_empty();
        assert_eq!(rows.iter().filter(tags).count() > 0, !by.is_empty(), "{by}");

        // The same rows as Parquet, with amounts that are decimals.
        let mut words = words;
        words.extend(["--format", "parquet"]);
        let file = File::open(exported(&daemon, &words, "focus.parquet")).unwrap();
        let (mut found, mut amounts) = (0, Vec::new());
        let reader = Reader::new(file, focus::FILE_COLUMNS).unwrap();
        let each = |cells: &[Cell<'_>]| {
            found += 1;
            let Cell::Decimal(attos) = cells[0] else { panic!("{:?}", cells[0]) };
            amounts.push(Usd::from_attos(attos));
            Ok::<(), FileError>(())
        };
        reader.each(each).unwrap();
        assert_eq!((found, sum(amounts.into_iter())), (rows.len(), cost), "{by}");
    }
    // Sums that are not there are not made up.
    let refused = daemon.data().join("refused.csv");
    let out = refused.display().to_string();
    let output = daemon.run(&[
        "export",
        "focus",
        "--by",
        "tag:customer",
        "--from",
        "2026-03-28",
        "--to",
        "2026-03-28",
        "--out",
        &out,
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("tallyd dimensions add customer"), "{said}");
    assert!(!refused.exists() && !refused.with_extension("csv.part").exists());
}

#[test]
fn calls_are_exported_whole_in_each_form() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(&calls());
    // Another day's, which is left out.
    daemon.lines("{\"provider\":\"acme\",\"occurred_at\":\"2026-04-01T00:00:00Z\"}\n");
    postgres.until_calls(121);
    let expected = "SELECT sum(cost_usd), string_agg(id::text, ' ' ORDER BY id) FROM api_usage_log WHERE occurred_at < '2026-04-01Z'";
    let expected = postgres.psql(expected);
    let (amount, ids) = expected.split_once('|').unwrap();
    let expected = format!("{}|{ids}", Usd::parse(amount).unwrap());

    let text = std::fs::read_to_string(exported(&daemon, &["calls", "--format", "ndjson"], "calls.ndjson")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |rows: Vec<(Option<Usd>, String)>| {
        let mut ids: Vec<String> = rows.iter().map(|row| row.1.clone()).collect();
        ids.sort();
        format!("{}|{}", sum(rows.iter().filter_map(|row| row.0)), ids.join(" "))
    };
    let cost = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(|text| Usd::parse(text).unwrap());
    let row = |row: &Value| (cost(row["cost_usd"].as_str()), row["id"].as_str().unwrap().to_owned());
    assert_eq!(of(rows.iter().map(row).collect()), expected);
    assert!(rows.iter().any(|row| row["metadata"]["note"] == "a,\"b\"\n"));

    let (names, lines) = lines(&exported(&daemon, &["calls", "--format", "csv"], "calls.csv"));
    assert_eq!(names, records::COLUMNS);
    assert_eq!(of(lines.iter().map(|line| (cost(Some(&line["cost_usd"])), line["id"].clone())).collect()), expected);
    // A spreadsheet does not run what a user chose.
    assert!(lines.iter().any(|line| line["user_id"] == "'=1+1") && !lines.iter().any(|line| line["user_id"] == "=1+1"));

    let file = File::open(exported(&daemon, &["calls", "--format", "parquet"], "calls.parquet")).unwrap();
    let place = |name: &str| records::COLUMNS.iter().position(|column| *column == name).unwrap();
    let (mut found, mut users) = (Vec::new(), 0);
    let each = |cells: &[Cell<'_>]| {
        let Cell::Uuid(id) = cells[place("id")] else { panic!() };
        let cost = match cells[place("cost_usd")] {
            Cell::Null => None,
            Cell::Decimal(attos) => Some(Usd::from_attos(attos)),
            other => panic!("{other:?}"),
        };
        users += usize::from(cells[place("user_id")] == Cell::Text("=1+1"));
        found.push((cost, uuid::Uuid::from_bytes(id).to_string()));
        Ok::<(), FileError>(())
    };
    Reader::new(file, records::FILE_COLUMNS).unwrap().each(each).unwrap();
    assert_eq!((of(found), users), (expected, 40));

    // A reader that goes away is not a failure, and Parquet is not printed into a terminal's place unasked.
    let wrong = daemon.run(&["export", "calls", "--from", "2026-03-31", "--to", "2026-03-28", "--format", "csv"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("--from is after --to"));
}
