//! A user is forgotten by the command, also killed in its middle and beside a daemon under load; the daemon forgets the
//! calls that arrive later.

use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::{Postgres, Stop};
use crate::support::{bound_to_us, until};

/// 2026-03-01T00:00:00Z, in microseconds.
const MARCH_US: i64 = 1_772_323_200_000_000;
const DAY_US: i64 = 86_400_000_000;
const LEFT: &str = "SELECT coalesce(sum(calls), 0) FROM user_api_totals WHERE user_id = 'person'";

/// Calls of the person, and of others, over ten days.
fn calls(count: usize, random: &mut StdRng) -> String {
    (0..count)
        .map(|_| {
            let at = MARCH_US + random.random_range(0..10 * DAY_US);
            let user = if random.random_bool(0.8) { "person" } else { "somebody" };
            format!(
                "{{\"provider\":\"rentcast\",\"endpoint\":\"/avm\",\"user_id\":\"{user}\",\"occurred_at\":{at},\
                 \"metadata\":{{\"name\":\"{user}\"}}}}\n"
            )
        })
        .collect()
}

#[test]
fn killed_in_the_middle_and_run_again_under_load_nothing_is_counted_twice() {
    let seed = 20_261_123;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(&calls(2_500, &mut random));
    postgres.until_calls(2_500);
    let by_day = "SELECT day, calls, cost_usd FROM daily_api_costs WHERE provider = 'rentcast' ORDER BY day";
    let (days, all) = (postgres.psql(by_day), postgres.psql(LEFT).parse::<i64>().unwrap());
    let load = Load::start(&daemon.socket(), 1);
    let arguments = ["users", "forget", "person", "--yes", "--batch-calls", "10", "--json"];
    let mut kills = 0;
    for _ in 0..3 {
        let left: i64 = postgres.psql(LEFT).parse().unwrap();
        let kill_at = left - random.random_range(1..500);
        let settings = daemon.command(&arguments);
        let mut command = bound_to_us(env!("CARGO_BIN_EXE_tallyd"));
        command.args(settings.get_args()).current_dir(settings.get_current_dir().unwrap()).env_clear();
        command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ended = until("it has come as far", || {
            if child.try_wait().unwrap().is_some() {
                return Ok(true);
            }
            let left: i64 = postgres.try_psql(LEFT)?.parse().unwrap();
            if left <= kill_at { Ok(false) } else { Err(format!("{left}, not {kill_at}")) }
        });
        kills += i32::from(!ended);
        // The command may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
        daemon.assert_reconciled();
    }
    assert!(kills > 0, "no run was killed in its middle");
    let output = daemon.run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sent = load.finish();
    assert_eq!(postgres.psql(LEFT), "0");
    assert_eq!(postgres.psql(by_day), days, "costs by day are what they were");
    let nobodys = "SELECT sum(calls) FROM user_api_totals WHERE user_id = '' AND provider = 'rentcast'";
    assert!(postgres.psql(nobodys).parse::<i64>().unwrap() >= all);
    let traces = "SELECT count(*) FROM api_usage_log AS l WHERE l::text LIKE '%person%'";
    assert_eq!(postgres.psql(traces), "0");
    postgres.until_calls(2_500 + sent.records() as usize);
    sent.assert_among(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn records_that_were_on_their_way_are_made_anonymous_by_the_daemon() {
    let mut postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let mut random = StdRng::seed_from_u64(7);
    daemon.lines(&calls(20, &mut random));
    postgres.until_calls(20);
    // The dry run.
    let dry = daemon.run(&["users", "forget", "person", "--dry-run", "--json"]);
    let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(dry["found"]["calls"].to_string(), postgres.psql(LEFT));
    assert!(dry["done"].is_null() && postgres.psql(LEFT) != "0");

    // Calls that are acknowledged, and only in the WAL.
    postgres.down(Stop::Immediate);
    daemon.lines(&calls(20, &mut random));
    daemon.kill();
    postgres.up();
    assert!(daemon.run(&["users", "forget", "person", "--yes"]).status.success());
    assert_eq!(postgres.psql(LEFT), "0");
    daemon.up();
    postgres.until_calls(40);
    daemon.assert_reconciled();
    // The first upkeep may have come before they were loaded. The next one, here after a restart, finds them.
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    postgres.until(LEFT, "0");
    daemon.assert_reconciled();
    let metrics = until("the metrics tell", || {
        let text = daemon.metrics();
        if text.contains("tallyd_forgotten_late_calls_total") { Ok(text) } else { Err(text) }
    });
    assert!(!metrics.is_empty());
    // Other users keep their calls.
    assert_ne!(postgres.psql("SELECT sum(calls) FROM user_api_totals WHERE user_id = 'somebody'"), "");
}
