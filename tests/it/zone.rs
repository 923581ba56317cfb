//! Every command uses the database's reporting time zone, in any shell.

use std::process::Output;

use serde_json::Value;
use tallyd_base::clock::{Clock, SystemClock};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

const SETTING: &str = "TALLYD_ROLLUP_TIME_ZONE";

/// Runs a command without a zone in its environment.
fn run(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.command(arguments).env_remove(SETTING).output().unwrap()
}

/// 0.30 USD at 2026-06-02T02:00Z, the day before in New York. The vendor bills days of UTC.
const BILL: &str = "usage_date_utc,model,cost_usd\n2026-06-02,claude-sonnet-4-5,0.30\n";

#[test]
fn a_command_without_the_setting_has_the_zone_of_the_database() {
    // At any hour, one of these zones has another date than UTC.
    let hour = SystemClock.now_us().div_euclid(3_600_000_000) % 24;
    let zone = if hour < 10 { "Pacific/Pago_Pago" } else { "Pacific/Kiritimati" };
    for (zone, occurred_at) in [("America/New_York", "2026-06-02T02:00:00Z"), (zone, "2026-06-02T12:00:00Z")] {
        let postgres = Postgres::start();
        let daemon = Daemon::on(&postgres.url()).with(SETTING, zone).start();
        daemon.lines(&format!(
            r#"{{"provider":"claude","model":"claude-sonnet-4-5","input_tokens":100000,"occurred_at":"{occurred_at}"}}"#
        ));
        postgres.until_calls(1);
        let file = daemon.data().join("bill.csv");
        std::fs::write(&file, BILL).unwrap();
        let output = run(&daemon, &["bill-check", &file.display().to_string(), "--tolerance-usd", "0"]);
        assert_eq!(output.status.code(), Some(0), "{zone}: {}", String::from_utf8_lossy(&output.stdout));

        assert!(run(&daemon, &["budgets", "set", "25"]).status.success());
        let today = || postgres.psql(&format!("SELECT (now() AT TIME ZONE '{zone}')::date"));
        let before = today();
        let output = run(&daemon, &["budgets", "list", "--json"]);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let since = found[0]["period_start"].as_str().unwrap_or_default().to_owned();
        // Midnight may have been in between.
        assert!([before, today()].contains(&since), "{zone}: {found:#}");
        assert!(run(&daemon, &["migrate"]).status.success());
        assert!(run(&daemon, &["reconcile"]).status.success());
    }
}

#[test]
fn a_setting_that_differs_is_an_error_of_every_command_and_names_both() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with(SETTING, "America/New_York").start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm","occurred_at":"2026-06-02T02:00:00Z"}"#);
    postgres.until_calls(1);
    let bill = daemon.data().join("bill.csv");
    std::fs::write(&bill, BILL).unwrap();
    let bill = bill.display().to_string();
    let period = ["--from", "2026-06-01", "--to", "2026-07-01"];
    let reprice = [&["reprice", "--dry-run"][..], &period].concat();
    let commands: [&[&str]; 10] = [
        &["bill-check", &bill],
        &["budgets", "list"],
        &["budgets", "set", "25"],
        &["forecast"],
        &reprice,
        &["reconcile"],
        &["adopt", "--dry-run"],
        &["migrate"],
        &["dead-letters", "list"],
        &["token", "list"],
    ];
    for command in commands {
        let output = daemon.command(command).env(SETTING, "Asia/Tokyo").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        for zone in ["America/New_York", "Asia/Tokyo"] {
            assert!(said.contains(zone), "{command:?}: {said}");
        }
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM api_budgets"), "0");
    // The setting may also name the zone that is there.
    assert!(daemon.run(&["budgets", "list"]).status.success());
}
