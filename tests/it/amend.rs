//! A call is amended or voided: its row, all sums and the record of changes move together, and nothing else does.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::Postgres;

const PRICED: &str = "00000000-0000-4000-8000-00000000000a";
const STATED: &str = "00000000-0000-4000-8000-00000000000b";
const UNPRICED: &str = "00000000-0000-4000-8000-00000000000c";
const FAILED: &str = "00000000-0000-4000-8000-00000000000d";

/// Calls of January and February of 2025.
fn calls() -> String {
    [
        json!({"id": PRICED, "provider": "claude", "model": "claude-sonnet-4-5", "input_tokens": 100_000, "user_id": "u1",
            "app": "web", "tags": {"team": "search"}, "occurred_at": "2025-01-05T23:30:00Z"}),
        json!({"id": STATED, "provider": "acme", "model": "m", "input_tokens": 7, "cost_usd": "2", "user_id": "u2",
            "occurred_at": "2025-02-05T10:00:00Z"}),
        json!({"id": UNPRICED, "provider": "claude", "model": "unheard-of", "input_tokens": 11, "user_id": "u1",
            "occurred_at": "2025-01-06T10:00:00Z"}),
        json!({"id": FAILED, "provider": "claude", "model": "claude-sonnet-4-5", "input_tokens": 500_000, "output_tokens": 9,
            "cache_read_tokens": 8, "status": 500, "user_id": "u1", "extra_units": {"web_search": "2.5"}, "tags": {"team": "ads"},
            "occurred_at": "2025-01-07T10:00:00.123456Z"}),
    ]
    .map(|call| format!("{call}\n"))
    .concat()
}

/// Runs `tallyd calls`, and returns its code, its JSON and its messages.
fn change(daemon: &Daemon, words: &[&str]) -> (Option<i32>, Value, String) {
    let output = daemon.run(&[&["calls"], words, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

fn done(daemon: &Daemon, words: &[&str]) -> Value {
    let (code, answer, said) = change(daemon, &[words, &["--yes"]].concat());
    assert_eq!(code, Some(0), "{words:?}: {said}");
    answer["done"].clone()
}

fn refused(daemon: &Daemon, words: &[&str], says: &str) {
    let (code, _, said) = change(daemon, &[words, &["--yes"]].concat());
    assert!(code == Some(1) && said.contains(says), "{words:?}: {code:?} {said}");
}

fn row(postgres: &Postgres, id: &str) -> String {
    postgres.psql(&format!("SELECT t::text FROM api_usage_log AS t WHERE id = '{id}'"))
}

fn short(postgres: &Postgres, id: &str) -> String {
    postgres.psql(&format!(
        "SELECT cost_source, trim_scale(cost_usd), input_tokens, output_tokens, requests, price_id IS NOT NULL, extra_units \
         FROM api_usage_log WHERE id = '{id}'"
    ))
}

#[test]
fn an_amended_and_a_voided_call_change_every_sum_under_load_and_stay_so_in_all_that_follows() {
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_RETENTION_ARCHIVE", &archive.display().to_string())
        .with("TALLYD_DIMENSIONS_NAMES", "team")
        .with("TALLYD_ROLLUP_MAX_MODELS_PER_DAY", "2")
        .start();
    daemon.lines(&calls());
    postgres.until_calls(4);
    let before = [PRICED, STATED, UNPRICED, FAILED].map(|id| row(&postgres, id));

    // Without a confirmation nothing changes, nor without a reason, a price, a difference or a call.
    let void = ["void", FAILED, "--reason", "a load test"];
    assert_eq!(change(&daemon, &void).0, Some(2));
    let (code, shown, _) = change(&daemon, &[&void[..], &["--dry-run"]].concat());
    assert_eq!((code, &shown["done"], &shown["found"]["after"]["cost_usd"]), (Some(0), &Value::Null, &json!("0")));
    assert_eq!(change(&daemon, &["void", FAILED, "--yes"]).0, Some(2));
    refused(&daemon, &["void", FAILED, "--reason", " "], "reason: a text of 1 to 512 bytes");
    refused(&daemon, &["amend", PRICED, "--reason", "r"], "has these values already");
    refused(&daemon, &["amend", PRICED, "--cost", "0.3", "--reason", "r"], "has these values already");
    refused(&daemon, &["amend", UNPRICED, "--input-tokens", "5", "--reason", "r"], "hint: state its cost, too");
    refused(&daemon, &["amend", STATED, "--cost", "1000000001", "--reason", "r"], "cost_usd: at most 1000000000");
    let nobody = "00000000-0000-4000-8000-0000000000ff";
    refused(&daemon, &["void", nobody, "--reason", "r"], "the call log does not have a call");
    refused(&daemon, &["void", FAILED, "--at", "2025-01-07T10:00:00Z", "--reason", "r"], "does not have a call");
    assert_eq!([PRICED, STATED, UNPRICED, FAILED].map(|id| row(&postgres, id)), before);
    assert_eq!(postgres.psql("SELECT count(*) FROM tallyd_amendments"), "0");

    // While calls are loaded, and two change one call at a time.
    let load = Load::start(&daemon.socket(), 1);
    load.until_acked(100);
    let first =
        done(&daemon, &["amend", PRICED, "--input-tokens", "50000", "--reason", "counted twice", "--by", "ada"]);
    assert_eq!((&first["kind"], &first["actor"]), (&json!("amended"), &json!("ada (command line)")), "{first:#}");
    assert_eq!((&first["before"]["cost_usd"], &first["after"]["cost_usd"]), (&json!("0.3"), &json!("0.15")));
    assert_eq!(short(&postgres, PRICED), "amended|0.15|50000|0|1|t|");
    done(&daemon, &["amend", UNPRICED, "--cost", "-0.000000000000000001", "--reason", "a credit"]);
    done(&daemon, &["amend", STATED, "--input-tokens", "8", "--reason", "the stated cost stays"]);
    assert_eq!(short(&postgres, STATED), "amended|2|8|0|1|f|");
    done(&daemon, &void);
    assert_eq!(short(&postgres, FAILED), "voided|0|0|0|0|f|");
    refused(&daemon, &void, "is voided already");
    std::thread::scope(|scope| {
        for begin in [100, 200] {
            let daemon = &daemon;
            scope.spawn(move || {
                for cost in begin..begin + 6 {
                    done(daemon, &["amend", STATED, "--cost", &cost.to_string(), "--reason", "again"]);
                }
            });
        }
    });
    load.until_acked(100);
    daemon.assert_reconciled();
    let steps = "SELECT bool_and(before = former) FROM (SELECT before, lag(after, 1, before) OVER (ORDER BY id) AS former \
        FROM tallyd_amendments WHERE call_id = '00000000-0000-4000-8000-00000000000b') AS a";
    assert_eq!(postgres.psql(steps), "t", "each change begins where the one before ended");
    let sums = "SELECT day, calls, errors, input_tokens, requests, unpriced_calls, trim_scale(cost_usd) FROM daily_user_api_costs \
        WHERE user_id = 'u1' ORDER BY day";
    let changed = "2025-01-05|1|0|50000|1|0|0.15\n2025-01-06|1|0|11|1|0|-0.000000000000000001\n2025-01-07|1|1|0|0|0|0";
    assert_eq!(postgres.psql(sums), changed);
    let audited = "SELECT count(*), count(DISTINCT object), bool_and(new_value ? 'reason') FROM tallyd_audit_log \
        WHERE action IN ('call.amend', 'call.void')";
    assert_eq!(postgres.psql(audited), "16|4|t");

    // A voided call that is amended without a correction is as it was, to the last byte.
    done(&daemon, &["amend", FAILED, "--reason", "it was not a test"]);
    assert_eq!(row(&postgres, FAILED), before[3]);
    daemon.assert_reconciled();
    done(&daemon, &void);

    // Every change of a call is shown, oldest first, and begins where the one before ended.
    let history = |id: &str, reasons: &[&str]| {
        let (_, found, _) = change(&daemon, &["show", id]);
        let found = found.as_array().unwrap().clone();
        assert_eq!(found.iter().map(|one| one["reason"].as_str().unwrap()).collect::<Vec<_>>(), reasons);
        assert!(
            found
                .windows(2)
                .all(|two| two[0]["after"] == two[1]["before"] && two[0]["at"].as_str() < two[1]["at"].as_str())
        );
        found
    };
    history(STATED, &[&["the stated cost stays"][..], &["again"; 12]].concat());
    let found = history(FAILED, &["a load test", "it was not a test", "a load test"]);
    assert_eq!(found[0]["before"]["extra_units"], json!({"web_search": "2.5"}));
    let shown = daemon.run(&["calls", "show", FAILED]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    let first = "input tokens 500000 -> 0, output tokens 9 -> 0, cache read tokens 8 -> 0, requests 1 -> 0, other units \
        {\"web_search\": \"2.5\"} -> none: a load test";
    assert!(lines[0].contains(": voided by ") && lines[0].ends_with(first), "{shown}");
    assert!(lines[1].contains(": amended by ") && lines[1].contains("input tokens 0 -> 500000"), "{shown}");

    // Prices that change do not change these calls.
    for model in ["claude-sonnet-4-5", "unheard-of"] {
        let set = ["prices", "set", "claude", model, "--from", "always", "--rate", "input=9", "--rate", "output=9"];
        assert!(daemon.run(&set).status.success());
    }
    let reprice = ["reprice", "--from", "2025-01-01", "--to", "2025-03-01", "--include-client", "--yes", "--json"];
    let repriced: Value = serde_json::from_slice(&daemon.run(&reprice).stdout).unwrap();
    assert_eq!((&repriced["done"]["read"], &repriced["done"]["changed"]), (&json!(0), &json!(0)), "{repriced:#}");
    let sent = load.finish();
    postgres.until_calls(usize::try_from(sent.records()).unwrap() + 4);

    // A user is forgotten, days move to another zone and back, a file is written, January is archived and dropped.
    assert!(daemon.run(&["users", "forget", "u1", "--yes"]).status.success());
    daemon.assert_reconciled();
    assert_eq!(short(&postgres, FAILED), "voided|0|0|0|0|f|");
    let file = folder.path().join("focus.csv").display().to_string();
    let focus = ["export", "focus", "--from", "2025-01-01", "--to", "2025-01-31", "--out", &file];
    assert!(daemon.run(&focus).status.success());
    let text = std::fs::read_to_string(&file).unwrap();
    let billed: Vec<&str> = text.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(billed, ["0.15", "-0.000000000000000001", "0"], "{text}");
    assert_eq!(daemon.terminate().code(), Some(0));
    for zone in ["Asia/Tokyo", "UTC"] {
        let rebuilt = daemon.run(&["rollups", "rebuild", "--time-zone", zone, "--yes"]);
        assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
        daemon.assert_reconciled();
    }
    daemon.up();
    assert!(daemon.run(&["partitions", "drop", "--before", "2025-02-01", "--yes"]).status.success());
    assert_eq!(daemon.assert_reconciled()["dropped_rows"], 3);
    assert!(daemon.run(&["archive", "verify"]).status.success());
    refused(&daemon, &["void", PRICED, "--reason", "r"], "calls of dropped and archived partitions cannot be changed");
    let change = "UPDATE tallyd_amendments SET reason = 'another'";
    assert!(postgres.try_psql(change).unwrap_err().contains("rows of tallyd_amendments are only ever added"));
}
