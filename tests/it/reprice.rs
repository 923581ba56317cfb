//! `tallyd reprice` computes costs anew, exactly and once. The rollups equal the call log at every instant, also after
//! kills.

use std::fmt::Write;
use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::Postgres;
use crate::support::{bound_to_us, until};

/// 2026-03-01T00:00:00Z, in microseconds.
const MARCH_US: i64 = 1_772_323_200_000_000;
const DAY_US: i64 = 86_400_000_000;
const PERIOD: [&str; 4] = ["--from", "2026-03-01", "--to", "2026-03-11"];

/// Unpriced calls of one model, over ten days in March.
fn unpriced_calls(count: usize, random: &mut StdRng) -> String {
    let mut lines = String::new();
    for _ in 0..count {
        let (at, user) = (MARCH_US + random.random_range(0..10 * DAY_US), random.random_range(0..20));
        let (input, output) = (random.random_range(0..50_000), random.random_range(0..5_000));
        let units = if random.random_bool(0.3) { r#","extra_units":{"web_search":"1.5"}"# } else { "" };
        writeln!(
            lines,
            r#"{{"provider":"claude","model":"claude-future-1","user_id":"u{user}","occurred_at":{at},"input_tokens":{input},"output_tokens":{output}{units}}}"#
        )
        .unwrap();
    }
    lines
}

/// The calls' cost once the price is known, by PostgreSQL's arithmetic instead of the daemon's.
const EXPECTED: &str = "SELECT sum(input_tokens * 0.000002 + output_tokens * 0.00001 \
    + coalesce((extra_units ->> 'web_search')::numeric, 0) * 0.01)::numeric(20, 8) FROM api_usage_log \
    WHERE model = 'claude-future-1'";
const STORED: &str = "SELECT sum(cost_usd)::numeric(20, 8) FROM api_usage_log WHERE model = 'claude-future-1'";

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = daemon.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn set_price(daemon: &Daemon, input: &str) -> Value {
    let arguments = ["prices", "set", "claude", "claude-future-1", "--from", "always", "--by", "tester", "--json"];
    let rates = ["--rate", input, "--rate", "output=10", "--unit", "web_search=0.01"];
    json(daemon, &[&arguments[..], &rates].concat())
}

fn reprice(daemon: &Daemon, more: &[&str]) -> Value {
    let confirm: &[&str] = if more.contains(&"--dry-run") { &[] } else { &["--yes"] };
    json(daemon, &[&["reprice", "--json"], &PERIOD[..], confirm, more].concat())
}

#[test]
fn unpriced_and_wrongly_priced_calls_get_their_price_and_stated_costs_stay() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_ROLLUP_MAX_MODELS_PER_DAY", "1").start();
    let mut lines = unpriced_calls(300, &mut StdRng::seed_from_u64(1));
    lines += "{\"provider\":\"claude\",\"model\":\"claude-future-1\",\"occurred_at\":\"2026-03-05T00:00:00Z\",\"cost_usd\":\"7\"}\n";
    // Counted under (other), because a day has only one model of its own here.
    lines += "{\"provider\":\"openai\",\"model\":\"unheard-of\",\"occurred_at\":\"2026-03-05T00:00:00Z\"}\n";
    daemon.lines(&lines);
    postgres.until_calls(302);
    let check = daemon.run(&["prices", "check", "--json"]);
    let found: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(1));
    let counted: i64 = found["unpriced"].as_array().unwrap().iter().map(|model| model["calls"].as_i64().unwrap()).sum();
    assert_eq!(counted, 301, "{found:#}");

    set_price(&daemon, "input=9");
    // The output for people: an unpriced call did not cost 0.
    let shown = |more: &[&str]| {
        let output = daemon.run(&[&["reprice", "--dry-run"], &PERIOD[..], more].concat());
        assert!(output.status.success(), "{output:?}");
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
    };
    let said = shown(&[]);
    assert!(said.contains("300 of 301 calls differ: unpriced -> ") && !said.contains("0.00 USD -> "), "{said}");
    for (more, says) in [
        (
            ["--model", "claude-futur-1"],
            "no call of these days has the model \"claude-futur-1\"; near names: claude-future-1",
        ),
        (["--provider", "cloude"], "no call of these days has the provider \"cloude\"; near names: claude"),
    ] {
        let said = shown(&more);
        assert!(said.contains("0 of 0 calls differ") && said.contains(says), "{said}");
    }
    assert_eq!(reprice(&daemon, &[])["done"]["priced"], 300);
    daemon.assert_reconciled();
    // The price was wrong.
    let set = set_price(&daemon, "input=2");
    assert_eq!(set["old"]["per_million_tokens"]["input"], "9");
    let before = postgres.psql("SELECT sum(cost_usd) FROM api_usage_log");
    let dry = reprice(&daemon, &["--dry-run"]);
    assert_eq!(postgres.psql("SELECT sum(cost_usd) FROM api_usage_log"), before, "a dry run changes nothing");
    assert_eq!((&dry["preview"]["changed"], &dry["preview"]["unpriceable"]), (&300.into(), &1.into()));
    let done = reprice(&daemon, &[]);
    assert_eq!(done["preview"], dry["preview"]);
    assert_eq!((&done["done"]["changed"], &done["done"]["priced"]), (&300.into(), &0.into()));
    daemon.assert_reconciled();
    assert_eq!(
        postgres.psql(&format!("SELECT ({STORED}) - ({EXPECTED})")),
        "7.00000000",
        "the stated cost is left alone"
    );
    assert_eq!(reprice(&daemon, &[])["done"]["changed"], 0, "done once is done");

    let client = reprice(&daemon, &["--include-client"]);
    assert_eq!(client["done"]["changed"], 1);
    assert_eq!(postgres.psql(STORED), postgres.psql(EXPECTED));
    daemon.assert_reconciled();
    // Each job writes a row before it rewrites anything, and a row with its result at its end.
    let noted = "SELECT action, actor LIKE '% (command line)', (new_value ->> 'from')::timestamptz = '2026-03-01Z', \
        (new_value ->> 'to')::timestamptz = '2026-03-11Z', new_value ->> 'calls_changed', \
        (new_value ->> 'difference_usd')::numeric = (SELECT difference_usd FROM reprice_jobs ORDER BY id DESC LIMIT 1) \
        FROM tallyd_audit_log WHERE object = (SELECT 'job ' || max(id) FROM reprice_jobs) ORDER BY id";
    assert_eq!(postgres.psql(noted), "reprice.begin|t|t|t|0|f\nreprice.end|t|t|t|1|t");
    let show = json(&daemon, &["prices", "show", "claude", "claude-future-1", "--json"]);
    assert_eq!(show["changes"][0]["actor"], "tester (command line)");
    assert_eq!(
        show["prices"].as_array().unwrap().len(),
        1,
        "of two for the same instant the later one holds: {show:#}"
    );
}

#[test]
fn killed_in_the_middle_and_run_again_under_load_nothing_is_priced_twice() {
    let seed = 20_261_123;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(&unpriced_calls(2_000, &mut random));
    postgres.until_calls(2_000);
    set_price(&daemon, "input=2");
    let load = Load::start(&daemon.socket(), 1);
    let changed = "SELECT coalesce(sum(calls_changed), 0) FROM reprice_jobs";
    let arguments = [&["reprice", "--yes", "--batch-rows", "10"], &PERIOD[..]].concat();
    let mut kills = 0;
    for _ in 0..3 {
        let so_far: i64 = postgres.psql(changed).parse().unwrap();
        let kill_at = so_far + random.random_range(1..600);
        let mut command = bound_to_us(env!("CARGO_BIN_EXE_tallyd"));
        let settings = daemon.command(&arguments);
        command.args(settings.get_args()).current_dir(settings.get_current_dir().unwrap()).env_clear();
        command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ended = until("the job has come as far", || {
            if child.try_wait().unwrap().is_some() {
                return Ok(true);
            }
            let found: i64 = postgres.try_psql(changed)?.parse().unwrap();
            if found >= kill_at { Ok(false) } else { Err(format!("{found} of {kill_at}")) }
        });
        kills += i32::from(!ended);
        // The command may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
        daemon.assert_reconciled();
    }
    assert!(kills > 0, "no run was killed in its middle");
    reprice(&daemon, &["--batch-rows", "10"]);
    let sent = load.finish();
    assert_eq!(postgres.psql("SELECT string_agg(state, ',') FROM reprice_jobs WHERE calls_changed > 0"), "done");
    let noted = "SELECT string_agg(action, ' ' ORDER BY id) FROM tallyd_audit_log WHERE action LIKE 'reprice.%' \
        AND object = (SELECT 'job ' || id FROM reprice_jobs WHERE calls_changed > 0)";
    assert_eq!(postgres.psql(noted), "reprice.begin reprice.end", "a job that goes on is one");
    assert_eq!(postgres.psql(changed), "2000", "each call was changed once");
    assert_eq!(postgres.psql(STORED), postgres.psql(EXPECTED));
    assert_eq!(
        postgres.psql("SELECT sum(difference_usd) FROM reprice_jobs"),
        postgres.psql("SELECT sum(cost_usd) FROM api_usage_log WHERE model = 'claude-future-1'")
    );
    let all = sent.records() + 2_000;
    postgres.until_calls(usize::try_from(all).unwrap());
    daemon.assert_reconciled();
}

#[test]
fn a_public_list_is_compared_first_and_added_when_told_to() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    postgres.until("SELECT to_regclass('api_price_changes') IS NOT NULL", "t");
    let list = daemon.data().join("list.json");
    let text = r#"{"claude-future-1": {"litellm_provider": "anthropic", "input_cost_per_token": 2e-06, "unheard_of_cost": 1},
        "claude-opus-4-5": {"litellm_provider": "anthropic", "input_cost_per_token": 5e-06}}"#;
    std::fs::write(&list, text).unwrap();
    let list = list.display().to_string();
    let output = daemon.run(&["prices", "diff", &list, "--from", "2026-03-01", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), found["changes"].as_array().unwrap().len()), (Some(1), 1), "{found:#}");
    assert_eq!(found["unread_fields"]["unheard_of_cost"], 1);
    json(&daemon, &["prices", "import", &list, "--from", "2026-03-01", "--json"]);
    assert_eq!(
        postgres.psql("SELECT count(*) FROM api_prices WHERE origin = 'import'"),
        "0",
        "nothing without --apply"
    );
    json(&daemon, &["prices", "import", &list, "--from", "2026-03-01", "--json", "--apply"]);
    assert_eq!(
        json(&daemon, &["prices", "diff", &list, "--from", "2026-03-01", "--json"])["changes"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    until("the daemon applies it", || {
        let answer = &daemon.lines(r#"{"provider":"claude","model":"claude-future-1","input_tokens":1000000}"#)[0];
        if answer["cost_usd"] == "2" { Ok(()) } else { Err(answer.to_string()) }
    });
}
