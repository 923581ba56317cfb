//! The rollups: bounded keys, days of the reporting time zone, and a proof that can fail.

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(|number| line(number) + "\n").collect()
}

#[test]
fn past_the_bound_models_count_as_other_in_the_rollup_and_as_themselves_in_the_log() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_ROLLUP_MAX_MODELS_PER_DAY", "3").start();
    let all = lines(40, |number| format!(r#"{{"provider":"claude","model":"m-{}","input_tokens":1}}"#, number % 10));
    daemon.lines(&all);
    postgres.until_calls(40);
    // The bound outlives a restart, and so do the names within it.
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    daemon.lines(&all);
    postgres.until_calls(80);
    assert_eq!(postgres.psql("SELECT count(DISTINCT model) FROM api_usage_log"), "10");
    let rollup = "SELECT count(*), sum(calls) FILTER (WHERE model = '(other)') FROM daily_api_costs";
    assert_eq!(postgres.psql(rollup), "4|56");
    daemon.assert_reconciled();
}

#[test]
fn days_begin_at_midnight_of_the_reporting_time_zone() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_ROLLUP_TIME_ZONE", "Pacific/Auckland").start();
    // Midnight there is 12:00 UTC in winter and 11:00 UTC in summer.
    let times = ["2025-06-30T11:59:59.999999Z", "2025-06-30T12:00:00Z", "2025-12-31T10:59:59Z", "2025-12-31T11:00:00Z"];
    daemon.lines(&lines(4, |number| {
        format!(r#"{{"provider":"rentcast","user_id":"u","occurred_at":"{}"}}"#, times[number])
    }));
    postgres.until_calls(4);
    for table in ["daily_api_costs", "daily_user_api_costs"] {
        let days = postgres.psql(&format!("SELECT day, calls FROM {table} ORDER BY day"));
        assert_eq!(days, "2025-06-30|1\n2025-07-01|1\n2025-12-31|1\n2026-01-01|1", "{table}");
    }
    daemon.assert_reconciled();
}

/// Runs a rebuild, and returns its exit code and what it said.
fn rebuild(daemon: &Daemon, more: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["rollups", "rebuild", "--time-zone", "Asia/Tokyo"], more].concat();
    let output = daemon.run(&arguments);
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    (output.status.code(), said)
}

#[test]
fn a_rebuild_is_confirmed_refuses_while_a_daemon_runs_and_none_books_into_the_old_zone() {
    const LINE: &str = r#"{"provider":"rentcast","user_id":"u","occurred_at":"2026-06-01T20:00:00Z"}"#;
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(LINE);
    postgres.until_calls(1);
    let days = || postgres.psql("SELECT string_agg(day || ' ' || calls, ', ' ORDER BY day) FROM daily_api_costs");

    let (code, said) = rebuild(&daemon, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--dry-run") && said.contains("--yes"), "{said}");
    let (code, said) = rebuild(&daemon, &["--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 calls on 1 days: 2 rows"), "{said}");
    postgres.until("SELECT count(*) FROM tallyd_daemons", "1");
    let pid = daemon.pid();
    let (code, said) = rebuild(&daemon, &["--yes"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("process {pid}")) && said.contains("days in UTC"), "{said}");
    assert_eq!(days(), "2026-06-01 1");

    // A rebuild that does not know of the daemon: it takes the locks of one, and changes the zone while a batch waits for them.
    let mut other = postgres.session();
    other.run("BEGIN; LOCK TABLE ingest_watermark, api_usage_log IN SHARE ROW EXCLUSIVE MODE");
    daemon.lines(LINE);
    postgres.until(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'tallyd flusher' AND wait_event_type = 'Lock'",
        "t",
    );
    other.run("UPDATE tallyd_settings SET value = 'Asia/Tokyo' WHERE key = 'reporting_time_zone'; COMMIT");
    let status = daemon.until_status("it holds", |status| status["health"]["flusher"]["status"] == "failing");
    let message = status["health"]["flusher"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Asia/Tokyo") && message.contains("UTC"), "{message}");
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log"), "1");
    // The zone is the daemon's again: it goes on by itself.
    other.run("UPDATE tallyd_settings SET value = 'UTC' WHERE key = 'reporting_time_zone'");
    postgres.until_calls(2);

    // Once it is stopped, its row is gone and the rebuild runs at once.
    assert_eq!(daemon.terminate().code(), Some(0));
    let (code, said) = rebuild(&daemon, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(days(), "2026-06-02 2");
    daemon.set("TALLYD_ROLLUP_TIME_ZONE", "Asia/Tokyo");
    daemon.up();
    daemon.lines(LINE);
    postgres.until_calls(3);
    assert_eq!(days(), "2026-06-02 3");
    daemon.assert_reconciled();
}

#[test]
fn an_altered_rollup_is_found_and_named() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm","cost_usd":"0.20","user_id":"u"}"#);
    postgres.until_calls(1);
    daemon.assert_reconciled();
    for (table, column) in
        [("daily_api_costs", "cost_usd"), ("daily_user_api_costs", "requests"), ("user_api_totals", "calls")]
    {
        postgres.psql(&format!("UPDATE {table} SET {column} = {column} + 1"));
        let output = daemon.run(&["reconcile", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{table}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let differences = found["differences"].as_array().unwrap();
        assert_eq!((found["equal"].as_bool(), differences.len()), (Some(false), 1), "{found:#}");
        assert_eq!((&differences[0]["table"], &differences[0]["column"]), (&table.into(), &column.into()));
        postgres.psql(&format!("UPDATE {table} SET {column} = {column} - 1"));
    }
    daemon.assert_reconciled();
}

#[test]
fn a_days_total_is_the_sum_of_its_records_also_when_clocks_change() {
    // New York goes forward on 2026-03-08 and back on 2025-11-02; Kolkata never, and is half an hour off.
    for zone in ["America/New_York", "Asia/Kolkata"] {
        let postgres = Postgres::start();
        let daemon = Daemon::on(&postgres.url()).with("TALLYD_ROLLUP_TIME_ZONE", zone).start();
        // A call every half hour of the three days around each change, each with an amount of its own.
        let call = |number: usize| {
            let (first, half_hour) = if number < 144 { ("2025-11-01", number) } else { ("2026-03-07", number - 144) };
            let (day, minutes) = (half_hour / 48, half_hour % 48 * 30);
            let date: chrono::NaiveDate = first.parse().unwrap();
            let date = date + chrono::Days::new(day as u64);
            format!(
                r#"{{"provider":"rentcast","user_id":"u","occurred_at":"{date}T{:02}:{:02}:00Z","cost_usd":"0.00000000{:03}1"}}"#,
                minutes / 60,
                minutes % 60,
                number
            )
        };
        daemon.lines(&lines(288, call));
        postgres.until_calls(288);
        // PostgreSQL's own idea of the zone's days.
        let expected = postgres.psql(&format!(
            "SELECT (occurred_at AT TIME ZONE '{zone}')::date, count(*), trim_scale(sum(cost_usd)) FROM api_usage_log GROUP BY 1 ORDER BY 1"
        ));
        for table in ["daily_api_costs", "daily_user_api_costs"] {
            let found = postgres
                .psql(&format!("SELECT day, sum(calls), trim_scale(sum(cost_usd)) FROM {table} GROUP BY 1 ORDER BY 1"));
            assert_eq!(found, expected, "{zone} {table}");
        }
        let longest =
            postgres.psql("SELECT max(calls) || ' ' || count(*) FILTER (WHERE calls = 46) FROM daily_api_costs");
        // 25 hours in autumn, 23 in spring.
        assert_eq!(longest, if zone == "America/New_York" { "50 1" } else { "48 0" });
        daemon.assert_reconciled();
    }
}
