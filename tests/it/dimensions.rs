//! Costs by tags: every door, the bound of values, keys that are hashed, a daemon and a command that are killed.

use std::process::Stdio;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{bound_to_us, until};

const SUMS: &str = "SELECT coalesce(string_agg(concat_ws(' ', dimension, value, calls), ', ' \
    ORDER BY dimension COLLATE \"C\", value COLLATE \"C\"), '') FROM \
    (SELECT dimension, value, sum(calls) AS calls FROM daily_dimension_costs GROUP BY 1, 2) AS d";
const COUNTED: &str = "SELECT count(*) FROM tallyd_dimensions WHERE counted_from = '-infinity'";

fn daemon(postgres: &Postgres, names: &str) -> Daemon {
    Daemon::on(&postgres.url()).with("TALLYD_DIMENSIONS_NAMES", names).start()
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(|number| line(number) + "\n").collect()
}

#[test]
fn tags_are_stored_summed_and_survive_a_kill_and_a_key_is_hashed() {
    let postgres = Postgres::start();
    let mut daemon = daemon(&postgres, "team,api_key");
    postgres.until("SELECT to_regclass('public.tallyd_dimensions') IS NOT NULL", "t");
    postgres.until(COUNTED, "3");
    let call = r#"{"provider":"x","app":"web","tags":{"team":"search","api_key":"sk-live-1","run":"7"}}"#;
    daemon.lines(&lines(3, |_| call.to_owned()));
    let flags = ["record", "--provider", "x", "--tags", r#"{"team":"ads","app":"cron"}"#];
    assert!(daemon.run(&flags).status.success());
    daemon.lines("{\"provider\":\"x\"}\n");
    daemon.kill();
    daemon.up();
    postgres.until_calls(5);
    let expected =
        "api_key  2, api_key sha256:f8dc9db173ee 3, app  1, app cron 1, app web 3, team  1, team ads 1, team search 3";
    assert_eq!(postgres.psql(SUMS), expected);
    let stored = r#"SELECT DISTINCT tags FROM api_usage_log WHERE tags ? 'run'"#;
    assert_eq!(postgres.psql(stored), r#"{"run": "7", "team": "search", "api_key": "sha256:f8dc9db173ee"}"#);
    daemon.assert_reconciled();

    // Not even a refused record's.
    daemon.lines("{\"provider\":\"\",\"tags\":{\"api_key\":\"sk-live-1\",\"team\":\"ads\"}}\n");
    postgres.until("SELECT count(*) FROM dead_letters", "1");
    let letter = postgres.psql("SELECT convert_from(payload, 'UTF8') FROM dead_letters");
    assert!(
        letter.contains("sha256:f8dc9db173ee") && letter.contains("ads") && !letter.contains("sk-live"),
        "{letter}"
    );

    // A call that could not be loaded, or a correction, brings its tags along.
    let retried = daemon.run(&["dead-letters", "retry", "--code", "missing", "--set", "provider=x"]);
    assert!(retried.status.success(), "{}", String::from_utf8_lossy(&retried.stderr));
    postgres.until_calls(6);
    assert!(
        postgres.psql(SUMS).contains("api_key sha256:f8dc9db173ee 4") && postgres.psql(SUMS).contains("team ads 2")
    );
    daemon.assert_reconciled();

    // Prices that were corrected move the sums by tags, too.
    daemon.lines("{\"provider\":\"y\",\"model\":\"m\",\"input_tokens\":1000000,\"tags\":{\"team\":\"ads\"}}\n");
    postgres.until_calls(7);
    let set = ["prices", "set", "y", "m", "--from", "2020-01-01", "--rate", "input=3"];
    assert!(daemon.run(&set).status.success());
    let reprice = ["reprice", "--from", "2020-01-01", "--to", "now", "--yes"];
    let repriced = daemon.run(&reprice);
    assert!(repriced.status.success(), "{}", String::from_utf8_lossy(&repriced.stderr));
    let cost = "SELECT sum(cost_usd)::float8 FROM daily_dimension_costs WHERE dimension = 'team' AND value = 'ads'";
    assert_eq!(postgres.psql(cost), "3");
    daemon.assert_reconciled();
}

#[test]
fn past_the_bound_values_count_as_other_and_the_call_log_keeps_them() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_DIMENSIONS_NAMES", "customer")
        .with("TALLYD_DIMENSIONS_MAX_VALUES_PER_DAY", "3")
        .start();
    postgres.until("SELECT to_regclass('public.tallyd_dimensions') IS NOT NULL", "t");
    postgres.until(COUNTED, "2");
    let all = lines(40, |number| format!(r#"{{"provider":"x","tags":{{"customer":"c-{}"}}}}"#, number % 10));
    daemon.lines(&all);
    postgres.until_calls(40);
    // The bound outlives a restart, and so do the values within it.
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    daemon.lines(&all);
    postgres.until_calls(80);
    assert_eq!(postgres.psql("SELECT count(DISTINCT tags ->> 'customer') FROM api_usage_log"), "10");
    let rollup = "SELECT count(*), sum(calls) FILTER (WHERE value = '(other)') FROM daily_dimension_costs WHERE dimension = 'customer'";
    assert_eq!(postgres.psql(rollup), "4|56");
    let listed = daemon.run(&["dimensions", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("56"), "{listed:?}");
    daemon.assert_reconciled();
}

#[test]
fn a_dimension_that_is_added_later_counts_old_calls_however_often_it_is_killed() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let old = |number: usize| {
        format!(
            r#"{{"provider":"x","occurred_at":"2026-0{}-1{}T10:00:00Z","tags":{{"team":"t{}"}}}}"#,
            1 + number % 3,
            number % 10,
            number % 2
        )
    };
    daemon.lines(&lines(60, old));
    postgres.until_calls(60);
    // The command is killed in the middle of a day: it waits for rows that somebody holds.
    let mut holder = postgres.session();
    holder.run("BEGIN; LOCK TABLE daily_dimension_costs IN EXCLUSIVE MODE;");
    let settings = daemon.command(&["dimensions", "add", "team"]);
    let mut command = bound_to_us(env!("CARGO_BIN_EXE_tallyd"));
    command.args(settings.get_args()).current_dir(settings.get_current_dir().unwrap()).env_clear();
    command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'tallyd dimensions%' AND wait_event_type = 'Lock'";
    postgres.until(waiting, "t");
    child.kill().unwrap();
    child.wait().unwrap();
    holder.run("COMMIT;");
    daemon.assert_reconciled();

    // A daemon goes on, is killed itself, and its successor ends it, while calls arrive.
    daemon.lines(&lines(30, old));
    daemon.kill();
    daemon.up();
    daemon.lines(&lines(30, old));
    until("the dimension is whole", || match postgres.psql(COUNTED).as_str() {
        "2" => Ok(()),
        other => Err(other.to_owned()),
    });
    postgres.until_calls(120);
    let teams = "SELECT value, sum(calls) FROM daily_dimension_costs WHERE dimension = 'team' GROUP BY 1 ORDER BY 1";
    assert_eq!(postgres.psql(teams), "t0|60\nt1|60");
    daemon.assert_reconciled();

    let costs = |arguments: &[&str]| {
        let output = daemon.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = costs(&["costs", "--by", "tag:team", "--from", "2026-01-01", "--to", "2026-03-31"]);
    assert!(shown.contains("tag:team") && shown.contains("t0") && shown.contains("together"), "{shown}");
    let shown = costs(&["costs", "--tag", "team=t1", "--from", "2026-01-01", "--to", "2026-03-31", "--json"]);
    assert!(shown.contains("\"calls\": 60"), "{shown}");
    let refused = daemon.run(&["costs", "--by", "tag:run", "--from", "2026-01-01", "--to", "2026-03-31"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`tallyd dimensions add run`"), "{refused:?}");
    let removed = daemon.run(&["dimensions", "remove", "team", "--yes"]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    daemon.assert_reconciled();
}

#[test]
fn a_budget_of_a_tag_raises_its_alert_and_its_value_keeps_its_name() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url())
        .with("TALLYD_DIMENSIONS_NAMES", "team")
        .with("TALLYD_DIMENSIONS_MAX_VALUES_PER_DAY", "1")
        .with("TALLYD_ALERTS_INTERVAL_MS", "100")
        .start();
    postgres.until("SELECT to_regclass('public.tallyd_dimensions') IS NOT NULL", "t");
    postgres.until(COUNTED, "2");
    let set = |value: &str| daemon.run(&["budgets", "set", "5", "--for", value]);
    let output = set("tag:team=search");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (value, says) in [
        ("tag:run=1", "the tag run is not a dimension"),
        ("tag:team", "expected DIMENSION=NAME"),
        ("team=x", "no such dimension"),
    ] {
        let output = set(value);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{value}: {said}");
    }
    let call = |team: &str, cost: &str| {
        format!("{{\"provider\":\"x\",\"cost_usd\":\"{cost}\",\"tags\":{{\"team\":\"{team}\"}}}}\n")
    };
    daemon.lines(&(call("ads", "9") + &call("infra", "9") + &call("search", "4") + &call("search", "2")));
    postgres.until_calls(4);
    postgres
        .until("SELECT string_agg(status || ' ' || trim_scale(spent_usd), ', ') FROM api_budget_states", "exceeded 6");
    postgres.until("SELECT count(*) FROM api_alerts WHERE message LIKE '%(tag team \"search\")%'", "3");
    daemon.assert_reconciled();
}
