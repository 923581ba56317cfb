//! Dead letters are found, corrected, and loaded exactly once, also when the retry is interrupted; or they are dropped.

use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, url};
use crate::support::proxy::Proxy;
use crate::support::until;
use tallyd_client::Record;

/// A record that the daemon accepts and PostgreSQL refuses.
const POISON: &str = r#"{"provider":"rentcast","endpoint":"/poison","request_id":"poison"}"#;
/// The constraint on the call log that refuses [`POISON`], as somebody might add one.
const RULE: &str = "ALTER TABLE api_usage_log ADD CONSTRAINT no_poison CHECK (request_id <> 'poison')";

fn letters(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.run(&[&["dead-letters"], arguments].concat())
}

/// The command's JSON, with any exit code.
#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{output:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn ids(output: &Output) -> Vec<i64> {
    json(output).as_array().unwrap().iter().map(|letter| letter["id"].as_i64().unwrap()).collect()
}

/// A daemon that was sent these lines, all of which end in the dead letters.
fn with_letters(postgres: &Postgres, lines: &[&str]) -> Daemon {
    let daemon = Daemon::on(&postgres.url()).start();
    postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    postgres.psql(RULE);
    daemon.lines(&lines.join("\n"));
    postgres.until("SELECT count(*) FROM dead_letters", &lines.len().to_string());
    daemon
}

#[test]
fn letters_are_found_by_reason_kind_provider_and_time() {
    let postgres = Postgres::start();
    let daemon = with_letters(
        &postgres,
        &[
            r#"{"provider":"anthropic","colour":"red"}"#,
            r#"{"provider":"rentcast","status":"good"}"#,
            r#"{"model":"x"}"#,
            POISON,
        ],
    );
    let found = |arguments: &[&str]| ids(&letters(&daemon, &[&["list", "--json"], arguments].concat())).len();
    assert_eq!(found(&[]), 4);
    assert_eq!(found(&["--code", "unknown_field,missing"]), 2);
    assert_eq!(found(&["--kind", "poison"]), 1);
    assert_eq!(found(&["--provider", "claude"]), 1, "an alias is the same provider");
    assert_eq!(found(&["--provider", "rentcast"]), 2);
    assert_eq!(found(&["--since", "1h"]), 4);
    assert_eq!(found(&["--until", "1h"]), 0);
    assert_eq!(found(&["--limit", "3"]), 3);
    assert_eq!(found(&["--producer", "nobody"]), 0);
    let shown = letters(&daemon, &["list", "--code", "type"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let shown: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(shown[0], ["id", "arrived", "kind", "reason", "field", "provider", "message"]);
    assert_eq!(shown[1][2..6], ["refused", "type", "status", "rentcast"], "{shown:?}");
    let exported = letters(&daemon, &["export"]).stdout;
    assert_eq!(String::from_utf8(exported).unwrap().lines().count(), 4);
    assert_eq!(letters(&daemon, &["show", "12345"]).status.code(), Some(1));
    assert_eq!(letters(&daemon, &["retry"]).status.code(), Some(1), "every letter is never meant by mistake");
}

#[test]
fn a_corrected_letter_is_loaded_once_with_its_price_its_time_and_its_rollups() {
    let postgres = Postgres::start();
    let daemon = with_letters(
        &postgres,
        &[
            r#"{"provider":"rentcast","endpoint":"/avm/value","user_id":"u1","colour":"red"}"#,
            r#"{"provider":"rentcast","endpoint":"/avm/value","occurred_at":"2020-02-03T04:05:06Z","status":"good"}"#,
            POISON,
        ],
    );
    let all = ["--since", "1h", "--json"];
    let retry = |more: &[&str]| letters(&daemon, &[&["retry"], &all[..], more].concat());
    let unchanged = retry(&[]);
    assert_eq!(unchanged.status.code(), Some(1));
    assert_eq!(json(&unchanged)["refused"].as_array().unwrap().len(), 3, "what was wrong still is");

    let first = retry(&["--unset", "colour", "--set", "status=200", "--set", "request_id=fine"]);
    assert!(first.status.success(), "{first:?}");
    assert_eq!(json(&first)["retried"], 3);
    let again = retry(&["--unset", "colour", "--set", "status=200", "--set", "request_id=fine"]);
    assert_eq!(json(&again)["retried"], 0);
    let calls = "SELECT endpoint, cost_usd::float8, cost_source, occurred_at > now() - interval '1 hour' \
        FROM api_usage_log ORDER BY 1, 4";
    assert_eq!(postgres.psql(calls), "/avm/value|0.2|catalog|f\n/avm/value|0.2|catalog|t\n/poison|0.2|catalog|t");
    daemon.assert_reconciled();
    let marked =
        "SELECT count(*) FROM dead_letters d JOIN api_usage_log l ON l.id = d.record_id WHERE outcome = 'retried'";
    assert_eq!(postgres.psql(marked), "3");
    assert!(ids(&letters(&daemon, &["list", "--json"])).is_empty());
    assert_eq!(ids(&letters(&daemon, &["list", "--json", "--all"])).len(), 3);
    // The lanes continue meanwhile.
    daemon.lines(r#"{"provider":"rentcast"}"#);
    postgres.until_calls(4);
    daemon.assert_reconciled();
}

#[test]
fn dropping_needs_a_yes_and_deletes_what_the_record_said() {
    let postgres = Postgres::start();
    let daemon = with_letters(&postgres, &[r#"{"provider":"a","colour":"secret"}"#, r#"{"provider":"b","status":[]}"#]);
    let unsure = letters(&daemon, &["drop", "--code", "unknown_field"]);
    assert_eq!(unsure.status.code(), Some(2));
    assert!(String::from_utf8(unsure.stderr).unwrap().contains("was not confirmed"));
    let tried = letters(&daemon, &["drop", "--code", "unknown_field", "--dry-run"]);
    assert_eq!(tried.status.code(), Some(0));
    assert!(String::from_utf8(tried.stdout).unwrap().contains("1 dead letter would be dropped"));
    assert_eq!(postgres.psql("SELECT count(*) FROM dead_letters WHERE settled_at IS NULL"), "2");
    let dropped = letters(&daemon, &["drop", "--code", "unknown_field", "--yes", "--json"]);
    assert_eq!(json(&dropped)["dropped"], 1);
    let kept = postgres.psql("SELECT dead_letters::text FROM dead_letters WHERE outcome = 'dropped'");
    assert!(kept.contains("unknown_field") && !kept.contains("secret"), "{kept}");
    let retried = letters(&daemon, &["retry", "1", "2", "--set", "status=200", "--unset", "colour", "--json"]);
    assert_eq!(json(&retried)["retried"], 1, "a dropped letter is not retried");
    assert_eq!(postgres.psql("SELECT provider FROM api_usage_log"), "b");
}

#[test]
fn a_record_that_takes_several_values_of_the_log_is_corrected_whole() {
    let postgres = Postgres::start();
    let note = "x".repeat(15_000);
    let line = format!(r#"{{"provider":"rentcast","metadata":{{"note":"{note}"}},"status":"good"}}"#);
    let daemon = with_letters(&postgres, &[&line]);
    let retried = letters(&daemon, &["retry", "1", "--set", "status=200"]);
    assert!(retried.status.success(), "{retried:?}");
    assert_eq!(postgres.psql("SELECT length(metadata ->> 'note') FROM api_usage_log"), "15000");
    daemon.assert_reconciled();
}

fn spawn_retry(daemon: &Daemon) -> Child {
    let mut command = daemon.command(&["dead-letters", "retry", "--since", "1h", "--unset", "colour", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_retry_that_is_killed_or_raced_counts_once() {
    let postgres = Postgres::start();
    let wrong = vec![r#"{"provider":"rentcast","endpoint":"/x","user_id":"u","colour":1}"#; 250];
    let daemon = with_letters(&postgres, &wrong);
    // The retry is held in the middle of its transaction: rows are copied, and the rollups cannot be written.
    let mut holder = postgres.session();
    holder.run("BEGIN; LOCK TABLE daily_api_costs IN SHARE MODE");
    let mut killed = spawn_retry(&daemon);
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND application_name = 'tallyd dead-letters'";
    postgres.until(waiting, "t");
    killed.kill().unwrap();
    killed.wait().unwrap();
    holder.run("COMMIT");
    postgres.until("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tallyd dead-letters'", "0");
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log"), "0");
    assert_eq!(postgres.psql("SELECT count(*) FROM dead_letters WHERE settled_at IS NULL"), "250");

    let racers = [spawn_retry(&daemon), spawn_retry(&daemon), spawn_retry(&daemon)];
    let retried = racers.into_iter().map(|racer| {
        let output = racer.wait_with_output().unwrap();
        json(&output)["retried"].as_u64().unwrap()
    });
    assert_eq!(retried.sum::<u64>(), 250);
    assert_eq!(postgres.psql("SELECT count(*), count(DISTINCT id) FROM api_usage_log"), "250|250");
    daemon.assert_reconciled();
}

#[test]
fn with_the_answer_to_commit_lost_a_letter_is_not_loaded_again() {
    let postgres = Postgres::start();
    let wrong = vec![r#"{"provider":"rentcast","colour":1}"#; 10];
    let mut daemon = with_letters(&postgres, &wrong);
    daemon.kill();
    let proxy = Proxy::to(&postgres.sockets());
    daemon.set("TALLYD_DATABASE_URL", &url(&proxy.sockets()));
    proxy.lose_commits(1);
    let output = spawn_retry(&daemon).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    until("the answer was lost", || if proxy.commits_lost() == 1 { Ok(()) } else { Err("not yet".into()) });
    assert_eq!(json(&output)["not_open"], 10, "the second attempt finds them settled");
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log"), "10");
    daemon.assert_reconciled();
}

#[test]
fn a_retried_record_is_priced_by_the_prices_in_force_also_those_that_were_added() {
    let postgres = Postgres::start();
    let daemon = with_letters(
        &postgres,
        &[r#"{"provider":"claude","model":"claude-opus-4-5","input_tokens":1000000,"colour":"red"}"#],
    );
    postgres.psql(
        "INSERT INTO api_prices (provider, model, service_tier, effective_from, rates, origin) VALUES ('claude', \
         'claude-opus-4-5', 'standard', '2015-01-01', '{\"per_million_tokens\": {\"input\": \"0.7\"}}', 'manual')",
    );
    let retried = letters(&daemon, &["retry", "--code", "unknown_field", "--unset", "colour"]);
    assert!(retried.status.success(), "{retried:?}");
    assert_eq!(postgres.psql("SELECT cost_usd, cost_source, price_id FROM api_usage_log"), "0.7|catalog|1000000");
    daemon.assert_reconciled();
}

#[test]
fn a_row_that_postgresql_refuses_goes_to_the_dead_letters_alone() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    postgres.psql(RULE);
    let mut session = daemon.session("p");
    // Two poison records in one frame and one in another, between many good ones.
    let record = |seq: u64| Record {
        request_id: if [31, 77, 250].contains(&seq) { "poison".into() } else { "".into() },
        ..Record::claude("claude-sonnet-4-5", seq, 1)
    };
    for first_seq in [1, 101, 201] {
        session.send(first_seq, &(first_seq..first_seq + 100).map(record).collect::<Vec<_>>()).unwrap();
    }
    for seq in [100, 200, 300] {
        assert_eq!(session.recv_ack().unwrap().seq, seq);
    }
    postgres.until_calls(297);
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log WHERE input_tokens IN (31, 77, 250)"), "0");
    let letters = "SELECT kind, code, producer, payload_format, \
        (convert_from(payload, 'UTF8')::json ->> 'input_tokens') FROM dead_letters ORDER BY 5";
    let expected = [250, 31, 77].map(|tokens| format!("poison|23514|p|json|{tokens}"));
    postgres.until(letters, &expected.join("\n"));
    daemon.assert_reconciled();
    // The lanes continue as before.
    session.send(301, &[record(301)]).unwrap();
    session.recv_ack().unwrap();
    postgres.until_calls(298);
}
