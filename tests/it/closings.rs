//! Vendor-days are closed by the vendors' own reports: a month of them, with planted differences, errors and late corrections.

mod vendors;

use chrono::{DateTime, Days, NaiveDate};
use serde_json::{Value, json};
use tallyd_base::clock::{Clock, SystemClock};

use self::vendors::{ANTHROPIC_KEY, Bills, Fault, Line, OPENAI_KEY, Vendors};
use crate::support::citus::{taken, written_down};
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::until;

fn today() -> NaiveDate {
    DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap().date_naive()
}

fn ago(days: u64) -> NaiveDate {
    today() - Days::new(days)
}

/// The month: from 32 days ago to the day before yesterday, the last that can be closed.
fn month() -> impl Iterator<Item = (u64, NaiveDate)> {
    (2..=32).map(|days| (days, ago(days)))
}

const SONNET: &str = "claude-sonnet-4-5";
const HAIKU: &str = "claude-haiku-4-5";
const OURS: &str = "wrkspc_ours";

fn line(workspace: &'static str, model: &'static str, tokens: [u64; 4], amount: &str) -> Line {
    Line { workspace, model, tier: "standard", tokens, amount: amount.to_owned() }
}

/// The calls of a day. Their prices: Sonnet 3 USD and 15 USD a million tokens, Haiku 1.25 USD a million cache writes, GPT-4o mini 0.15 USD.
fn calls(number: u64, day: NaiveDate) -> String {
    let input = number * 1_000;
    format!(
        r#"{{"provider":"claude","model":"claude-sonnet-4-5-20250929","input_tokens":{input},"output_tokens":10000,"occurred_at":"{day}T23:59:59.999Z"}}
{{"provider":"claude","model":"{HAIKU}","cache_write_5m_tokens":400000,"occurred_at":"{day}T00:00:00Z"}}
{{"provider":"claude","model":"{SONNET}","platform":"bedrock","input_tokens":5,"cost_usd":"7","occurred_at":"{day}T12:00:00Z"}}
{{"provider":"openai","model":"gpt-4o-mini-2024-07-18","input_tokens":1000000,"occurred_at":"{day}T12:00:00Z"}}
"#
    )
}

/// The bill of these calls: cents, and dollars.
fn billed(number: u64) -> [Vec<Line>; 2] {
    // 0.3 cents for 1,000 tokens of input, 15 cents of output.
    let tenths = number * 3 + 150;
    let anthropic = vec![
        line(OURS, SONNET, [number * 1_000, 10_000, 0, 0], &format!("{}.{}", tenths / 10, tenths % 10)),
        line(OURS, HAIKU, [0, 0, 400_000, 0], "50"),
    ];
    [anthropic, vec![line("proj_ours", "gpt-4o-mini-2024-07-18", [1_000_000, 0, 0, 0], "0.15")]]
}

/// The planted differences: vendor, day, and the residue as it must be named.
fn planted() -> [(&'static str, NaiveDate, &'static str); 8] {
    [
        ("anthropic", ago(5), "cache_lifetime claude-haiku-4-5 wrkspc_ours -0.3"),
        ("anthropic", ago(9), "tier claude-sonnet-4-5 wrkspc_ours 0.0885"),
        ("anthropic", ago(13), "other_workspace claude-sonnet-4-5 wrkspc_theirs -1"),
        ("openai", ago(17), "unrecorded_model gpt-4o proj_lab -2"),
        ("openai", ago(21), "price gpt-4o-mini proj_ours -0.05"),
        // By the settings: tokens alone do not tell these apart.
        ("anthropic", ago(25), "other_workspace claude-sonnet-4-5 wrkspc_b -2"),
        ("anthropic", ago(25), "other_workspace claude-sonnet-4-5 wrkspc_a -1"),
        ("openai", ago(27), "other_workspace gpt-4o proj_theirs -3"),
    ]
}

fn bill_of_the_month(bills: &mut Bills) {
    for (number, day) in month() {
        let [anthropic, openai] = billed(number);
        bills.lines.insert(("anthropic", day), anthropic);
        bills.lines.insert(("openai", day), openai);
    }
    let mut day = |vendor, days: u64, change: &dyn Fn(&mut Vec<Line>)| {
        change(bills.lines.get_mut(&(vendor, ago(days))).unwrap());
    };
    day("anthropic", 5, &|lines| lines[1] = line(OURS, HAIKU, [0, 0, 0, 400_000], "80"));
    // Half of 17.7 cents.
    day("anthropic", 9, &|lines| lines[0] = Line { tier: "batch", amount: "8.85".to_owned(), ..lines[0].clone() });
    day("anthropic", 13, &|lines| lines.push(line("wrkspc_theirs", SONNET, [333_333, 0, 0, 0], "100")));
    day("anthropic", 25, &|lines| lines.push(line("wrkspc_a", SONNET, [333_333, 0, 0, 0], "100")));
    day("anthropic", 25, &|lines| lines.push(line("wrkspc_b", SONNET, [666_666, 0, 0, 0], "200")));
    day("openai", 17, &|lines| lines.push(line("proj_lab", "gpt-4o-2024-08-06", [800_000, 0, 0, 0], "2")));
    day("openai", 27, &|lines| lines.push(line("proj_theirs", "gpt-4o-2024-08-06", [1_200_000, 0, 0, 0], "3")));
    day("openai", 21, &|lines| lines[0].amount = "0.2".to_owned());
}

/// Each entry of a day as state and cause.
fn entries(daemon: &Daemon, vendor: &str, day: NaiveDate) -> Vec<String> {
    let output = daemon.run(&["close", "show", vendor, &day.to_string(), "--json"]);
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    found.iter().map(|entry| format!("{} {}", text(&entry["state"]), text(&entry["cause"]))).collect()
}

fn residues(entry: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one =
        |residue: &Value| ["kind", "model", "workspace", "difference_usd"].map(|name| text(&residue[name])).join(" ");
    entry["residues"].as_array().unwrap().iter().map(one).collect()
}

fn close(daemon: &Daemon) -> (Option<i32>, Value) {
    let output = daemon.run(&["close", "run", "--json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn daemon(postgres: &Postgres, vendors: &Vendors) -> Daemon {
    let daemon = Daemon::on(&postgres.url())
        .with("TALLYD_VENDORS_ANTHROPIC_BASE_URL", &vendors.url)
        .with("TALLYD_VENDORS_OPENAI_BASE_URL", &format!("{}/", vendors.url))
        .with("TALLYD_VENDORS_RETRY_MIN_MS", "1")
        .with("TALLYD_VENDORS_DAYS", "32")
        .with("TALLYD_VENDORS_AFTER_HOURS", "24")
        .with("TALLYD_VENDORS_ANTHROPIC_WORKSPACES", OURS)
        .with("TALLYD_VENDORS_OPENAI_WORKSPACES", "proj_ours,proj_lab")
        .with("OPENAI_ADMIN_KEY", OPENAI_KEY)
        .with("TALLYD_VENDORS_OPENAI_ADMIN_KEY", "env:OPENAI_ADMIN_KEY");
    std::fs::create_dir_all(daemon.data()).unwrap();
    let key = daemon.data().join("anthropic.key");
    std::fs::write(&key, format!("{ANTHROPIC_KEY}\n")).unwrap();
    daemon.with("TALLYD_VENDORS_ANTHROPIC_ADMIN_KEY", &format!("file:{}", key.display()))
}

#[test]
fn a_month_closes_by_itself_each_difference_has_its_name_and_what_changes_opens_again() {
    let (postgres, vendors) = (written_down(), Vendors::start());
    // The calls come first, from a daemon without keys.
    let recorder = Daemon::on(&postgres.url()).start();
    let all: String = month().map(|(number, day)| calls(number, day)).collect();
    assert!(recorder.lines(&all).iter().all(|answer| answer["ok"] == true));
    postgres.until_calls(31 * 4);
    vendors.change(bill_of_the_month);
    vendors.change(|bills| {
        bills.faults = vec![
            ("cost_report", Fault::Limit(1)),
            ("cost_report", Fault::CutOff),
            ("usage_report", Fault::Broken),
            ("usage_report", Fault::HalfAPage),
            ("organization/costs", Fault::Broken),
        ];
    });
    let mut first = daemon(&postgres, &vendors);
    let mut second = daemon(&postgres, &vendors);
    first.up();
    second.up();

    // 31 days of each vendor are closed, by one of the two daemons.
    let closed = "SELECT count(*) FROM tallyd_vendor_closings WHERE cause IS NULL";
    postgres.until(closed, "62");
    until("both vendors' reports were read", || {
        let read = postgres.psql("SELECT count(*) FROM tallyd_vendor_fetches WHERE read_at IS NOT NULL AND error = ''");
        if read == "2" { Ok(()) } else { Err(read) }
    });
    let asked = vendors.asked();
    let number = |path: &str| asked.iter().filter(|asked| asked.starts_with(path)).count();
    // Four pages of ten days, and a request more for each fault.
    assert_eq!(number("/v1/organizations/cost_report"), 4 + 2, "{asked:#?}");
    assert_eq!(number("/v1/organizations/usage_report/messages"), 4 + 2);
    assert_eq!(number("/v1/organization/costs"), 4 + 1);
    assert_eq!(number("/v1/organization/usage/embeddings"), 4);
    assert_eq!(number("/v1/organization/costs page=page_30=="), 1);

    let listed = |daemon: &Daemon| -> Vec<Value> {
        serde_json::from_slice(&daemon.run(&["close", "list", "--json"]).stdout).unwrap()
    };
    let found = listed(&first);
    assert_eq!(found.len(), 62);
    for entry in &found {
        let at = |(vendor, day, _): &&(&str, NaiveDate, &str)| entry["vendor"] == *vendor && entry["day"] == json!(day);
        let expected: Vec<&str> = planted().iter().filter(at).map(|(_, _, residue)| *residue).collect();
        assert_eq!(residues(entry), expected, "{entry:#}");
        assert_eq!(entry["state"], if expected.is_empty() { "matched" } else { "differs" });
        assert!(!entry["price_ids"].as_array().unwrap().is_empty());
    }
    second.terminate();

    // The next look is due after the interval. A look that is repeated adds nothing.
    postgres.psql("UPDATE tallyd_vendor_fetches SET tried_at = now() - interval '20 minutes'");
    second.set("TALLYD_VENDORS_INTERVAL_MINUTES", "10");
    second.up();
    until("the daemon with the shorter interval looks again", || {
        let asked = vendors.asked();
        if asked.iter().any(|asked| asked.contains("audio_transcriptions page=page_30")) {
            Ok(())
        } else {
            Err(format!("{asked:?}"))
        }
    });
    until("the metrics say so", || {
        let metrics = second.metrics();
        let has = |line: &str| metrics.lines().any(|known| known == line);
        let all = has("tallyd_vendor_days{vendor=\"anthropic\",state=\"matched\"} 27")
            && has("tallyd_vendor_days{vendor=\"anthropic\",state=\"differs\"} 4")
            && has("tallyd_vendor_days{vendor=\"openai\",state=\"differs\"} 3")
            // Yesterday has ended, and is not due.
            && has("tallyd_vendor_days{vendor=\"openai\",state=\"open\"} 1")
            && has("tallyd_vendor_days{vendor=\"openai\",state=\"overdue\"} 0");
        if all { Ok(()) } else { Err(metrics) }
    });
    second.terminate();
    let (code, again) = close(&first);
    assert_eq!((code, &again["added"]), (Some(0), &json!([])), "{again:#}");

    // The vendor corrects a bill: the day opens and closes, matched.
    let days = |number: u64| (billed(number), ago(number));
    let ([corrected, _], day) = days(9);
    vendors.change(|bills| drop(bills.lines.insert(("anthropic", day), corrected)));
    assert_eq!(close(&first).0, Some(0));
    assert_eq!(entries(&first, "anthropic", day), ["differs -", "open bill_corrected", "matched -"]);

    // A late call while the vendor is down: the day opens, and closes once the vendor answers.
    let ([mut late, _], day) = days(7);
    first.lines(&format!(
        r#"{{"provider":"claude","model":"{HAIKU}","cache_write_5m_tokens":800000,"occurred_at":"{day}T05:00:00Z"}}"#
    ));
    postgres.until_calls(31 * 4 + 1);
    vendors.change(|bills| bills.is_down = true);
    let (code, down) = close(&first);
    assert_eq!(code, Some(1), "{down:#}");
    assert_eq!(down["errors"].as_array().map(Vec::len), Some(2), "{down:#}");
    assert_eq!(entries(&first, "anthropic", day), ["matched -", "open late_calls"]);
    assert_eq!(
        postgres.psql("SELECT bool_and(error LIKE '%500%' AND not_before > now()) FROM tallyd_vendor_fetches"),
        "t"
    );
    late.push(line(OURS, HAIKU, [0, 0, 800_000, 0], "100"));
    vendors.change(|bills| {
        bills.is_down = false;
        bills.lines.insert(("anthropic", day), late);
    });
    assert_eq!(close(&first).0, Some(0));
    assert_eq!(entries(&first, "anthropic", day), ["matched -", "open late_calls", "matched -"]);
    // A call of another platform is not on this bill.
    first.lines(&format!(
        r#"{{"provider":"claude","model":"{HAIKU}","platform":"vertex","input_tokens":8,"occurred_at":"{day}T05:00:00Z"}}"#
    ));
    postgres.until_calls(31 * 4 + 2);
    assert_eq!(close(&first).1["added"], json!([]));

    // Stored costs are computed anew: the day opens, and differs by the price.
    let (_, day) = days(11);
    let from = format!("{day}T00:00:00Z");
    let set = ["prices", "set", "openai", "gpt-4o-mini", "--from", &from, "--rate", "input=0.25"];
    assert!(first.run(&set).status.success());
    let to = (day + Days::new(1)).to_string();
    let repriced = first.run(&["reprice", "--from", &day.to_string(), "--to", &to, "--yes"]);
    assert!(repriced.status.success(), "{}", String::from_utf8_lossy(&repriced.stderr));
    assert_eq!(close(&first).0, Some(0));
    assert_eq!(entries(&first, "openai", day), ["matched -", "open repriced", "differs -"]);
    let found = listed(&first);
    let entry = found.iter().find(|entry| entry["vendor"] == "openai" && entry["day"] == json!(day)).unwrap();
    assert_eq!(residues(entry), ["price gpt-4o-mini proj_ours 0.1"]);

    // A call is voided: the day opens, and differs. It is as it was: the day opens, and matches.
    let (_, day) = days(15);
    let id = postgres
        .psql(&format!("SELECT id FROM api_usage_log WHERE model = '{HAIKU}' AND occurred_at = '{day}T00:00:00Z'"));
    for (verb, state) in [("void", "differs -"), ("amend", "matched -")] {
        let changed = first.run(&["calls", verb, &id, "--reason", "a trial", "--yes"]);
        assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
        assert_eq!(close(&first).0, Some(0));
        let entries = entries(&first, "anthropic", day);
        assert_eq!(entries[entries.len() - 2..], ["open amended", state], "{entries:?}");
    }
    // Tokens alone: the cost stays, and the day is compared again.
    let changed = first.run(&[
        "calls",
        "amend",
        &id,
        "--cache-write-5m-tokens",
        "0",
        "--cache-write-1h-tokens",
        "250000",
        "--cost",
        "0.5",
        "--reason",
        "an hour",
        "--yes",
    ]);
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    assert_eq!(close(&first).0, Some(0));
    assert_eq!(entries(&first, "anthropic", day)[5], "open amended");

    // A limit that is longer than a look may wait is kept.
    vendors.change(|bills| bills.faults = vec![("cost_report", Fault::Limit(3_600))]);
    let asked_before = vendors.asked().len();
    assert!(asked_before > 0 && close(&first).0 == Some(1));
    assert_eq!(
        postgres.psql(
            "SELECT not_before > now() + interval '55 minutes' FROM tallyd_vendor_fetches WHERE vendor = 'anthropic'"
        ),
        "t"
    );
    let asked = vendors.asked();
    assert_eq!(asked.iter().filter(|asked| asked.contains("cost_report")).count(), 1, "{asked:#?}");

    the_report_says_which_days_are_closed(&first);
    taken(&postgres);
    the_record_is_verified_with_and_without_a_database(&postgres, &first);
}

fn the_report_says_which_days_are_closed(daemon: &Daemon) {
    let of = ago(2).to_string();
    let report = daemon.run(&["report", "--period", "day", "--of", &of, "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let anthropic =
        json!({"vendor": "anthropic", "matched": 1, "differs": 0, "open": 0, "difference_usd": "0", "parts": []});
    assert_eq!(report["closings"][0], anthropic, "{report:#}");
    let text = daemon.run(&["report", "--period", "day", "--of", &ago(5).to_string()]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("bill of anthropic: 1 of 1 day closed, 1 differs (-0.30 USD): cache lifetime"), "{text}");
}

fn the_record_is_verified_with_and_without_a_database(postgres: &Postgres, daemon: &Daemon) {
    let verify = |daemon: &Daemon, words: &[&str]| -> (Option<i32>, Value) {
        let output = daemon.run(&[&["close", "verify", "--json"], words].concat());
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
    };
    let entries = postgres.psql("SELECT count(*) FROM tallyd_vendor_closings").parse::<u64>().unwrap();
    let (code, whole) = verify(daemon, &[]);
    assert_eq!((code, &whole["entries"]), (Some(0), &json!(entries)), "{whole:#}");

    // The file is checked where there is no database.
    let export = String::from_utf8(daemon.run(&["close", "export"]).stdout).unwrap();
    assert_eq!(export.lines().count() as u64, entries);
    let file = daemon.data().join("closings.ndjson");
    let name = file.display().to_string();
    let offline = Daemon::on("host=/nowhere user=nobody");
    std::fs::write(&file, &export).unwrap();
    let (code, found) = verify(&offline, &[&name]);
    assert_eq!((code, &found["head"]), (Some(0), &whole["head"]), "{found:#}");
    let lines: Vec<&str> = export.lines().collect();
    for (changed, fault) in [
        (export.replacen("\"matched\"", "\"differs\"", 1), "was changed"),
        (lines[1..].join("\n"), "entry 2 stands where entry 1"),
        ([&lines[..3], &lines[4..]].concat().join("\n"), "entry 5 stands where entry 4"),
        (format!("{}\n{{}}", lines.join("\n")), "line "),
    ] {
        std::fs::write(&file, changed).unwrap();
        let (code, found) = verify(&offline, &[&name]);
        assert!(code == Some(1) && found["fault"].as_str().unwrap().contains(fault), "{fault}: {found:#}");
    }
    // What was cut off at the end is only seen with a hash that was noted.
    std::fs::write(&file, lines[..lines.len() - 1].join("\n")).unwrap();
    assert_eq!(verify(&offline, &[&name]).0, Some(0));
    assert_eq!(verify(&offline, &[&name, "--head", whole["head"].as_str().unwrap()]).0, Some(1));

    // The table refuses changes; a superuser's are found.
    let change =
        "UPDATE tallyd_vendor_closings SET billed_usd = recorded_usd, state = 'matched' WHERE state = 'differs'";
    assert!(postgres.try_psql(change).unwrap_err().contains("rows of tallyd_vendor_closings are only ever added"));
    postgres.psql(&format!("ALTER TABLE tallyd_vendor_closings DISABLE TRIGGER ALL; {change}"));
    let (code, found) = verify(daemon, &[]);
    assert!(code == Some(1) && found["fault"].as_str().unwrap().contains("was changed"), "{found:#}");
}
