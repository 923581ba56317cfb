//! Terminals, logs and pipes: producers, models and users choose their names, and a reader may go away.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// Clears the screen by two kinds of control sequence, reverses the following text, forges a line.
const NAME: &str = "m\u{1b}[2J\u{9b}2J\u{202e}x\u{200b}\r\nFORGED everything is fine";

/// Commands of the program, with their input files: a bill, a price list and an import.
fn commands(bill: &str, list: &str, rows: &str, folder: &str) -> Vec<Vec<String>> {
    let day = ["--from", "2026-02-01", "--to", "2026-03-01"];
    let user = &format!("user={NAME}");
    let focus = &format!("{folder}.focus.csv");
    let lists: Vec<Vec<&str>> = vec![
        vec!["migrate"],
        vec!["record", "--provider", NAME, "--model", NAME],
        vec!["import", rows, "--name", "x", "--dry-run", "5"],
        vec!["import", rows, "--name", "y"],
        vec!["open"],
        vec!["status"],
        vec!["status", "--json"],
        vec!["top", "--once"],
        vec!["top", "--once", "--json"],
        vec!["adopt", "--dry-run"],
        vec!["adopt", "--dry-run", "--from-log", "old.calls", "--from-daily", "old.days"],
        vec!["reconcile"],
        vec!["dead-letters", "list"],
        vec!["dead-letters", "list", "--json"],
        vec!["dead-letters", "show", "1"],
        vec!["dead-letters", "export"],
        vec!["duplicates", "list"],
        vec!["wal", "list"],
        vec!["partitions", "list"],
        vec!["archive", "list"],
        vec!["backup", "."],
        vec!["restore", "."],
        vec!["rollups", "rebuild", "--help"],
        vec!["prices", "list"],
        vec!["prices", "list", "--json"],
        vec!["prices", "show", "claude", NAME],
        vec!["prices", "check"],
        vec!["prices", "diff", list],
        vec!["prices", "sync", list],
        vec!["calls", "show", "01900000-0000-7000-8000-000000000000"],
        vec!["reprice", day[0], day[1], day[2], day[3], "--dry-run"],
        vec!["reprice", day[0], day[1], day[2], day[3], "--include-client", "--dry-run"],
        vec!["budgets", "set", "1", "--for", user, "--period", "day"],
        vec!["budgets", "list"],
        vec!["budgets", "list", "--json"],
        vec!["alerts", "list", "--all"],
        vec!["alerts", "test", NAME],
        vec!["rules", "set", NAME, "--metric", "cost", "--window", "1d", "--alert", "1", "--owner", NAME],
        vec!["rules", "list"],
        vec!["rules", "list", "--json"],
        vec!["report", "--period", "day", "--of", "2026-02-01"],
        vec!["report", "--period", "month", "--of", "2026-02-01", "--html"],
        vec!["report", "--period", "week", "--of", "2026-02-01", "--json"],
        vec!["costs"],
        vec!["costs", "--by", "user"],
        vec!["dimensions", "add", "team"],
        vec!["dimensions", "list"],
        vec!["costs", "--by", "tag:team"],
        vec!["export", "calls", day[0], day[1], day[2], day[3], "--format", "ndjson"],
        vec!["export", "focus", day[0], day[1], day[2], day[3], "--out", focus],
        vec!["users", "list"],
        vec!["bill-check", bill],
        vec!["bill-check", bill, "--json"],
        vec!["close", "list"],
        vec!["close", "show", "anthropic", day[1]],
        vec!["close", "verify", "--json"],
        vec!["close", "export"],
        vec!["plans", day[0], day[1], day[2], day[3]],
        vec!["forecast"],
        vec!["explain", "--by", "user"],
        vec!["units", "list", "--by", "app"],
        vec!["mcp", "--help"],
        vec!["demo", "--rate", "5", "--seconds", "1"],
        vec!["token", "create", "--name", NAME, "--role", "read"],
        vec!["token", "list"],
        vec!["users", "forget", NAME, "--dry-run"],
        vec!["config", "check", "--show"],
        vec!["psql", "-c", "SELECT 1"],
        vec!["doctor"],
        vec!["doctor", "--json"],
        vec!["init", folder, "--defaults", "--force"],
        vec!["completions", "bash"],
    ];
    lists.into_iter().map(|words| words.into_iter().map(str::to_owned).collect()).collect()
}

/// Part of each sum here, if it is printed with every digit.
const WHOLE: &str = ".00000000000000000";

/// The tables for `tallyd adopt`, with an amount that their days do not have.
const OLD: &str = "CREATE SCHEMA old;
    CREATE TABLE old.calls (id uuid PRIMARY KEY, user_id text, api_type text, model text, cost_usd numeric, timestamp timestamptz);
    CREATE TABLE old.days (date date, api_type text, call_count int, total_cost numeric, PRIMARY KEY (date, api_type));
    INSERT INTO old.calls SELECT md5('1')::uuid, 'u', 'claude', 'm', 2.000000000000000001, '2026-01-03Z';
    INSERT INTO old.days VALUES ('2026-01-03', 'claude', 1, 3.000000000000000001), ('2026-01-01', 'claude', 1, 7.000000000000000001)";

struct Scene {
    _postgres: Postgres,
    daemon: Daemon,
    commands: Vec<Vec<String>>,
}

fn scene() -> Scene {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_LOG_FILTER", "debug").start();
    let call = json!({ "provider": "claude", "model": NAME, "user_id": NAME, "app": NAME, "endpoint": NAME, "cost_usd": "2.000000000000000001",
        "input_tokens": 5, "occurred_at": "2026-02-01T10:00:00Z" });
    let refused = json!({ "provider": NAME, "model": NAME, "input_tokens": -1 });
    let at = "2026-02-03T10:00:00Z";
    let stated = json!({ "provider": "claude", "model": "claude-sonnet-4-5", "cost_usd": "3.000000000000000001", "occurred_at": at });
    let planned = json!({ "provider": "rentcast", "cost_usd": "4.000000000000000001", "occurred_at": at });
    let today = json!({ "provider": "acme", "user_id": NAME, "cost_usd": "5.000000000000000001" });
    let answers =
        daemon.lines(&[refused, call.clone(), stated, planned, today].map(|line| format!("{line}\n")).concat());
    assert!(
        answers[0]["error"]["code"] == "range" && answers[1..].iter().all(|answer| answer["ok"] == true),
        "{answers:?}"
    );
    postgres.until("SELECT count(*) FROM public.dead_letters", "1");
    postgres.until_calls(4);
    postgres.psql(OLD);
    let file = |name: &str, text: String| {
        let path = daemon.data().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let result = json!({ "amount": "100", "currency": "USD", "model": NAME });
    let bill = json!({ "data": [{ "starting_at": "2026-02-01T00:00:00Z", "results": [result] }] });
    let price = json!({ NAME: { "litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 1e-6,
        "output_cost_per_token": 2e-6 } });
    let mut more = call.clone();
    more["occurred_at"] = json!("2026-02-02T10:00:00Z");
    let bad = json!({ "provider": "claude", "model": NAME, "input_tokens": NAME });
    let commands = commands(
        &file("bill.json", bill.to_string()),
        &file("list.json", price.to_string()),
        &file("rows.ndjson", format!("{more}\n{bad}\n")),
        &daemon.data().join("new").display().to_string(),
    );
    Scene { _postgres: postgres, daemon, commands }
}

#[track_caller]
fn assert_quiet(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    let acts = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{202e}' | '\u{200b}');
    if let Some(at) = text.find(acts) {
        panic!("{what} prints {:?}", text[at..].chars().take(30).collect::<String>());
    }
    assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{what} prints a forged line: {text}");
}

#[test]
fn every_command_prints_the_texts_of_others_as_what_they_are() {
    let scene = scene();
    let (mut shown, mut amounts, mut whole) = (0, String::new(), Vec::new());
    for words in &scene.commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Output { stdout, stderr, .. } = scene.daemon.run(&words);
        assert_quiet(&format!("{words:?}"), &stdout);
        assert_quiet(&format!("{words:?}, on stderr,"), &stderr);
        let (said, told) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        shown += usize::from(said.contains("FORGED"));
        // JSON has the same text as before, and all digits.
        if words.contains(&"--json") || words.contains(&"ndjson") {
            if words[0] == "budgets" {
                let list: Value = serde_json::from_slice(&stdout).unwrap();
                assert!(list.to_string().contains("FORGED") && list[0]["scope"]["user"] == NAME, "{list:#}");
            }
        } else if format!("{said}{told}").contains(WHOLE) {
            whole.push(format!("{words:?}: {said}{told}"));
        } else {
            amounts += &said;
        }
    }
    // People read amounts in cents.
    assert!(whole.is_empty(), "amounts are printed with every digit: {}", whole.join("\n"));
    for amount in ["2.00", "3.00", "4.00", "5.00", "7.00", "14.00"] {
        assert!(amounts.contains(amount), "no command prints {amount}: {amounts}");
    }
    assert!(shown >= 8, "only {shown} commands print a name at all");
}

#[test]
fn a_reader_that_goes_away_ends_no_command_with_a_panic() {
    let scene = scene();
    let help = scene.daemon.run(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let listed: BTreeSet<&str> = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let mut listed: BTreeSet<&str> = listed.into_iter().filter(|name| !name.is_empty()).collect();
    listed.retain(|name| !matches!(*name, "serve" | "help"));
    let tried: BTreeSet<&str> = scene.commands.iter().map(|words| words[0].as_str()).collect();
    assert_eq!(tried, listed, "each command of --help is tried");
    for words in &scene.commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let whole = scene.daemon.run(&words).status.code();
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let output = scene.daemon.command(&words).stdout(write).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{words:?}: {said}");
        // A streaming command ends. A command that changes something continues to its usual end.
        let code = output.status.code();
        let is_as_before = code == whole || code == Some(0) || words[0] == "psql";
        assert!(is_as_before, "{words:?}: {code:?}, not {whole:?}: {said}");
    }
    // A full disk is reported as an error.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = scene.daemon.command(&["prices", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be written"));
}
