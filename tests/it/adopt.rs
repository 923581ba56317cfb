//! `tallyd adopt` takes over the history of an older system: with a dry run, killed in its middle, run twice, and
//! beside a running daemon.

use std::process::Stdio;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{bound_to_us, until};

/// The older system's tables as a Supabase project has them, with their function.
const OLD: &str = "
    CREATE TABLE api_usage_log (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid, api_type text, endpoint text, model text,
        input_tokens int, output_tokens int, cost_usd numeric(10, 6), timestamp timestamptz DEFAULT now(),
        date date DEFAULT current_date);
    CREATE TABLE daily_api_costs (
        date date, api_type text, call_count int NOT NULL, input_tokens bigint, output_tokens bigint,
        total_cost numeric(12, 6), PRIMARY KEY (date, api_type));
    CREATE FUNCTION increment_daily_cost(p_date date, p_api_type text, p_cost numeric) RETURNS void LANGUAGE sql AS
        'UPDATE daily_api_costs SET total_cost = total_cost + p_cost WHERE date = p_date AND api_type = p_api_type';
    ALTER TABLE api_usage_log ENABLE ROW LEVEL SECURITY";

/// Calls over 100 days with their `increment_daily_cost`, and three days whose calls are lost.
const HISTORY: &str = "
    INSERT INTO api_usage_log (id, user_id, api_type, endpoint, model, input_tokens, output_tokens, cost_usd, timestamp, date)
        SELECT md5('call ' || n)::uuid, CASE WHEN n % 5 > 0 THEN md5('user ' || n % 5)::uuid END,
            CASE WHEN n % 3 = 0 THEN 'rentcast' ELSE 'claude' END, CASE WHEN n % 3 = 0 THEN '/avm/value?address=1 Main St' END,
            CASE WHEN n % 3 > 0 THEN (ARRAY['claude-sonnet-4-20250514', 'made-up-1'])[1 + n % 2] END,
            n % 1000, n % 70, n * 0.000013, t, (t AT TIME ZONE 'UTC')::date
        FROM generate_series(1, 3000) AS n, LATERAL (SELECT '2025-03-01Z'::timestamptz + n * interval '47 minutes') AS x(t);
    INSERT INTO daily_api_costs
        SELECT date, api_type, count(*), sum(input_tokens), sum(output_tokens), sum(cost_usd) FROM api_usage_log GROUP BY 1, 2;
    INSERT INTO daily_api_costs VALUES ('2025-02-26', 'claude', 40, 4000, 400, 1.25), ('2025-02-27', 'claude', 1, 2, 3, 0.000001),
        ('2025-02-27', 'rentcast', 3, 0, 0, 0.6)";

fn run(daemon: &Daemon, arguments: &[&str]) -> (bool, Value, String) {
    let output = daemon.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

#[test]
fn a_daemon_that_finds_older_tables_holds_and_names_the_command_that_mends_it() {
    let postgres = Postgres::start();
    postgres.psql(OLD);
    postgres.psql(HISTORY);
    let mut daemon = Daemon::on(&postgres.url()).start();
    let answers = daemon.lines("{\"provider\":\"rentcast\",\"endpoint\":\"/avm\"}\n");
    assert_eq!(answers[0]["ok"], true, "records are accepted meanwhile");
    let status = daemon.until_status("it says so", |status| status["health"]["status"] == "failing");
    let message = status["health"]["flusher"]["message"].as_str().unwrap();
    assert!(
        message.contains("public.api_usage_log, public.daily_api_costs")
            && message.contains("`tallyd adopt --dry-run`")
    );
    let migrate = daemon.run(&["migrate"]);
    assert_eq!(migrate.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&migrate.stderr).contains("`tallyd adopt --dry-run`"));

    // Without confirmation the command only shows its plan, and without `--move-aside` it changes nothing.
    let unconfirmed = daemon.run(&["adopt", "--move-aside"]);
    assert_eq!(unconfirmed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unconfirmed.stderr).contains("was not confirmed"), "{unconfirmed:?}");
    assert_eq!(postgres.psql("SELECT to_regnamespace('tallyd_adopted') IS NULL"), "t");
    let said = String::from_utf8(daemon.run(&["adopt", "--dry-run"]).stdout).unwrap();
    assert!(said.contains("3,000 calls, 58.52 USD, ") && !said.contains("58.519500"), "{said}");
    let (ok, dry, _) = run(&daemon, &["adopt", "--dry-run", "--json"]);
    assert!(ok && dry["done"].is_null(), "{dry:#}");
    let log = &dry["found"]["log"];
    assert_eq!(
        (log["rows"].as_i64(), log["calls"].as_i64(), log["without_user"].as_i64()),
        (Some(3000), Some(3000), Some(600))
    );
    assert_eq!(log["cost_usd"], "58.519500");
    assert_eq!(dry["found"]["daily"]["differing"].as_array().unwrap().len(), 0);
    assert_eq!(dry["found"]["daily"]["missing"]["days"], 3);
    let unknown = log["models"].as_array().unwrap().iter().find(|model| model["is_known"] == false).unwrap();
    assert_eq!(unknown["model"], "made-up-1");
    let (ok, _, said) = run(&daemon, &["adopt", "--yes"]);
    assert!(!ok && said.contains("--move-aside"), "{said}");
    assert_eq!(postgres.psql("SELECT to_regnamespace('tallyd_adopted') IS NULL"), "t");

    // The command waits for the schema, because a daemon runs that will create it.
    let log = daemon.data().join("token.log");
    let create = ["token", "create", "--name", "first", "--role", "read"];
    let mut waits = daemon.command(&create);
    let waits = waits.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    until("the token is said to wait", || {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("the token waits for it") { Ok(()) } else { Err(said) }
    });
    let (ok, done, said) = run(&daemon, &["adopt", "--move-aside", "--yes", "--json"]);
    assert!(ok, "{said}");
    assert_eq!((done["done"]["calls"].as_i64(), done["done"]["days"].as_i64()), (Some(3000), Some(3)), "{done:#}");
    assert_eq!(done["done"]["days_cost_usd"], "1.850001");
    let made = waits.wait_with_output().unwrap();
    assert!(made.status.success() && made.stdout.starts_with(b"tallyd_1_"), "{made:?}");
    // The daemon continues by itself; its own record is beside the history.
    postgres.until_calls(3001);
    daemon.until_status("all is well", |status| status["health"]["status"] == "ok");
    daemon.assert_reconciled();
    assert_eq!(postgres.psql("SELECT count(*) FROM tallyd_adopted.api_usage_log"), "3000");
    assert_eq!(postgres.psql("SELECT sum(cost_usd) FROM user_api_totals"), "60.569501");
    assert_eq!(postgres.psql("SELECT DISTINCT endpoint FROM api_usage_log ORDER BY 1"), "\n/avm\n/avm/value");
    let days = "SELECT day, provider, calls, input_tokens, cost_usd FROM daily_api_costs WHERE day < '2025-03-01' ORDER BY 1, 2";
    let expected =
        "2025-02-26|claude|40|4000|1.250000\n2025-02-27|claude|1|2|0.000001\n2025-02-27|rentcast|3|0|0.600000";
    assert_eq!(postgres.psql(days), expected);

    let (ok, again, _) = run(&daemon, &["adopt", "--yes", "--json"]);
    assert!(ok && again["done"]["calls"] == 0 && again["done"]["days"] == 0, "{again:#}");
    postgres.until_calls(3001);
    daemon.assert_reconciled();
}

#[test]
fn killed_in_its_middle_it_goes_on_and_nothing_is_taken_twice() {
    let postgres = Postgres::start();
    postgres.psql(OLD);
    postgres.psql(HISTORY);
    let mut daemon = Daemon::on(&postgres.url());
    let arguments = ["adopt", "--move-aside", "--yes", "--batch-calls", "10", "--json"];
    let mut kills = 0;
    for share in [0, 400, 1500, 2600] {
        let settings = daemon.command(&arguments);
        let mut command = bound_to_us(env!("CARGO_BIN_EXE_tallyd"));
        command.args(settings.get_args()).current_dir(settings.get_current_dir().unwrap()).env_clear();
        command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ended = until("it has come as far", || {
            if child.try_wait().unwrap().is_some() {
                return Ok(true);
            }
            // At first neither the rows nor the table exist.
            let calls =
                postgres.try_psql("SELECT count(*) FROM tallyd_adopted.api_usage_log, tallyd_adoptions LIMIT 1");
            let taken = postgres.try_psql("SELECT coalesce(sum(calls), 0) FROM tallyd_adoptions");
            let is_there = calls.and(taken).is_ok_and(|taken| taken.parse::<i64>().unwrap() > share);
            if is_there { Ok(false) } else { Err(format!("not {share} yet")) }
        });
        kills += i32::from(!ended);
        // The command may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
        daemon.assert_reconciled();
    }
    assert!(kills > 1, "only {kills} runs were killed in their middle");
    let (ok, done, said) = run(&daemon, &arguments);
    assert!(ok, "{said}");
    assert!(done["done"]["calls"].as_i64().unwrap() < 3000, "most was there: {done:#}");
    assert_eq!(postgres.psql("SELECT count(*), count(DISTINCT id) FROM api_usage_log"), "3000|3000");
    assert_eq!(postgres.psql("SELECT sum(calls), sum(cost_usd) FROM tallyd_adoptions"), "3000|58.519500");
    assert_eq!(postgres.psql("SELECT sum(calls), sum(cost_usd) FROM daily_api_costs"), "3044|60.369501");
    daemon.assert_reconciled();
    // A daemon starts on it as on any database.
    daemon.up();
    daemon.lines("{\"provider\":\"rentcast\",\"endpoint\":\"/avm\"}\n");
    postgres.until_calls(3001);
    daemon.assert_reconciled();
}
