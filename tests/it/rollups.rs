//! The rollups: bounded keys, days of the reporting time zone, and a reconciliation that can fail.

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
fn an_application_with_a_budget_is_told_apart_however_many_others_come_first() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_ROLLUP_MAX_APPS_PER_DAY", "2").start();
    postgres.until("SELECT to_regclass('public.api_budgets') IS NOT NULL", "t");
    let set = daemon.run(&["budgets", "set", "5", "--period", "day", "--for", "app=web"]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    daemon.lines(&lines(9, |number| format!(r#"{{"provider":"acme","app":"junk-{number}","cost_usd":"0.5"}}"#)));
    daemon.lines("{\"provider\":\"acme\",\"app\":\"web\",\"cost_usd\":\"2\"}\n");
    postgres.until_calls(10);
    let rollup =
        "SELECT string_agg(value || ' ' || calls, ', ' ORDER BY value COLLATE \"C\") FROM daily_dimension_costs";
    assert_eq!(postgres.psql(rollup), "(other) 8, junk-0 1, web 1");
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

/// Runs a rebuild. Returns its exit code and its stderr.
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

    // All commands that delete or rewrite follow this convention.
    let commands: [&[&str]; 6] = [
        &["rollups", "rebuild", "--time-zone", "Asia/Tokyo"],
        &["reprice", "--from", "2026-01-01", "--to", "2027-01-01"],
        &["partitions", "drop", "--before", "2027-01-01"],
        &["users", "forget", "u"],
        &["dead-letters", "drop", "--kind", "refused"],
        &["migrate", "--citus"],
    ];
    for command in commands {
        let run = |more: &[&str]| {
            let output = daemon.run(&[command, more].concat());
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, said) = run(&[]);
        assert!(code == Some(2) && said.contains("--dry-run") && said.contains("--yes"), "{command:?}: {said}");
        assert_eq!(run(&["--yes", "--dry-run"]).0, Some(2), "{command:?}");
        let (code, said) = run(&["--dry-run"]);
        assert!(code == Some(0) && said.contains("nothing was changed"), "{command:?}: {said}");
        let named: Vec<&str> = command.iter().copied().take_while(|word| !word.starts_with('-')).take(2).collect();
        let help = String::from_utf8(daemon.run(&[&named[..], &["--help"]].concat()).stdout).unwrap();
        let (own, global) = help.split_once("Global options:").unwrap_or_else(|| panic!("{help}"));
        assert!(global.contains("--data-dir") && !own.contains("--data-dir"), "{help}");
    }
    assert_eq!(postgres.psql("SELECT count(*) FILTER (WHERE user_id = 'u') FROM api_usage_log"), "1");
    let (code, said) = rebuild(&daemon, &["--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 call on 1 day: 4 rows"), "{said}");
    postgres.until("SELECT count(*) FROM tallyd_daemons", "1");
    let pid = daemon.pid();
    let (code, said) = rebuild(&daemon, &["--yes"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("process {pid}")) && said.contains("days in UTC"), "{said}");
    assert_eq!(days(), "2026-06-01 1");

    // A rebuild that does not know of the daemon: it takes a rebuild's locks, and changes the zone while a batch waits.
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
    // The zone is the daemon's again: loading continues by itself.
    other.run("UPDATE tallyd_settings SET value = 'UTC' WHERE key = 'reporting_time_zone'");
    postgres.until_calls(2);

    // Once the daemon is stopped, its row is gone and the rebuild runs at once.
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
fn costs_and_users_are_shown_in_lists_with_headings() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(
        "{\"provider\":\"claude\",\"model\":\"claude-sonnet-4-5\",\"input_tokens\":400000,\"user_id\":\"ann\",\"app\":\"web\"}\n\
         {\"provider\":\"rentcast\",\"endpoint\":\"/avm\",\"cost_usd\":\"0.0042\",\"user_id\":\"ben\"}\n\
         {\"provider\":\"acme\",\"model\":\"new\",\"user_id\":\"ben\"}\n",
    );
    postgres.until_calls(3);
    let run = |arguments: &[&str]| {
        let output = daemon.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = |arguments: &[&str]| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        run(arguments).lines().map(words).collect::<Vec<_>>()
    };
    let expected = [
        "provider model calls unpriced USD",
        "claude claude-sonnet-4-5 1 0 1.20",
        "rentcast - 1 0 < 0.01",
        "acme new 1 1 unpriced",
        "together 3 1 1.20",
    ];
    assert_eq!(lines(&["costs"]), expected);
    assert_eq!(lines(&["costs", "--by", "provider", "--provider", "RentCast", "--exact"])[1], "rentcast 1 0 0.0042");
    assert_eq!(lines(&["costs", "--by", "user"])[1..3], ["ann 1 0 1.20", "ben 2 1 < 0.01"]);
    assert_eq!(lines(&["costs", "--by", "app"])[1..3], ["web 1 0 1.20", "- 2 1 < 0.01"]);
    assert!(lines(&["costs", "--by", "day", "--days", "1"])[1].ends_with("3 1 1.20"));
    let json: Value = serde_json::from_str(&run(&["costs", "--json"])).unwrap();
    assert_eq!((&json[0]["model"], &json[1]["cost_usd"]), (&"claude-sonnet-4-5".into(), &"0.0042".into()));
    assert_eq!(lines(&["costs", "--by", "app", "--days", "90"])[1..3], ["web 1 0 1.20", "- 2 1 < 0.01"]);
    let wrong = daemon.run(&["costs", "--by", "app", "--user", "ann", "--days", "90"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("31 days"));
    let today = postgres.psql("SELECT max(occurred_at AT TIME ZONE 'UTC')::date FROM api_usage_log");
    let users = lines(&["users", "list"]);
    assert_eq!(users[0], "user known as last call calls unpriced USD");
    assert_eq!(users[1..], [format!("ann - {today} 1 0 1.20"), format!("ben - {today} 2 1 < 0.01")]);
    assert_eq!(lines(&["users", "list", "--search", "be", "--exact"])[1], format!("ben - {today} 2 1 0.0042"));
    run(&["budgets", "set", "25"]);
    let budgets = lines(&["budgets", "list"]);
    assert_eq!(budgets[0], "id of a limit since status spent USD of USD unpriced calls");
    assert!(budgets[1].starts_with("1 everything day hard") && budgets[1].contains(" 25.00 "), "{budgets:?}");
    let negative = daemon.run(&["budgets", "set", "-5"]);
    assert!(String::from_utf8_lossy(&negative.stderr).contains("a budget is not negative"));
}

#[test]
fn an_altered_rollup_is_found_and_named() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm","cost_usd":"0.20","user_id":"u"}"#);
    postgres.until_calls(1);
    daemon.assert_reconciled();
    postgres.until_merged();
    for (rollup, table, column) in [
        ("daily_api_costs", "daily_api_costs", "cost_usd"),
        ("daily_user_api_costs", "tallyd_user_days", "requests"),
        ("user_api_totals", "tallyd_user_totals", "requests"),
    ] {
        postgres.psql(&format!("UPDATE {table} SET {column} = {column} + 1"));
        let output = daemon.run(&["reconcile", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{table}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let differences = found["differences"].as_array().unwrap();
        assert_eq!((found["equal"].as_bool(), differences.len()), (Some(false), 1), "{found:#}");
        assert_eq!((&differences[0]["table"], &differences[0]["column"]), (&rollup.into(), &column.into()));
        postgres.psql(&format!("UPDATE {table} SET {column} = {column} - 1"));
    }
    daemon.assert_reconciled();
}

#[test]
fn a_days_total_is_the_sum_of_its_records_also_when_clocks_change() {
    // New York's clocks go forward on 2026-03-08 and back on 2025-11-02. Kolkata is 5:30 ahead all year.
    for zone in ["America/New_York", "Asia/Kolkata"] {
        let postgres = Postgres::start();
        let daemon = Daemon::on(&postgres.url()).with("TALLYD_ROLLUP_TIME_ZONE", zone).start();
        // A call every half hour of the three days around each change, each with its own amount.
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
        // PostgreSQL's own computation of the zone's days.
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

#[test]
fn a_merge_ends_while_the_count_of_deltas_waits_behind_a_lock_that_waits_for_it() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines("{\"provider\":\"claude\",\"user_id\":\"u\"}\n");
    postgres.until_calls(1);
    let mut appending = postgres.session();
    appending.run("BEGIN; LOCK TABLE tallyd_user_deltas_0 IN ROW EXCLUSIVE MODE");
    let waits = |who: &str| {
        let sql = format!(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = '{who}' AND wait_event_type = 'Lock'"
        );
        postgres.until(&sql, "t");
    };
    waits("tallyd merge");
    std::thread::scope(|scope| {
        let altering = scope.spawn(|| {
            postgres.try_psql("SET lock_timeout = '50s'; LOCK TABLE tallyd_user_deltas_0 IN ACCESS EXCLUSIVE MODE")
        });
        waits("tallyd deltas");
        appending.run("COMMIT");
        assert_eq!(altering.join().unwrap(), Ok(String::new()));
    });
    postgres.until_merged();
}
