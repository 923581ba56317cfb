//! Checks every statement of the daemon and its commands against Citus's rules for distributed tables
//! ([`crate::support::citus`]). `make test-citus` runs the same commands on a real Citus.

use tallyd_store::citus::SPREAD;

use crate::support::citus::{fault, taken, written_down};
use crate::support::daemon::Daemon;

#[test]
fn the_rules_find_what_citus_has_refused() {
    for refused in [
        "UPDATE public.tallyd_user_totals AS t SET calls = 1, updated_at = clock_timestamp() WHERE user_id = $1",
        "INSERT INTO public.tallyd_user_days AS t (day) SELECT $1 ON CONFLICT (day, user_id, provider) DO UPDATE SET updated_at = clock_timestamp()",
        "INSERT INTO public.tallyd_user_days AS t (day) SELECT $1 ON CONFLICT (day, provider) DO UPDATE SET calls = 1",
        "INSERT INTO public.tallyd_user_totals (user_id) SELECT o.user_id FROM public.tallyd_user_days AS d JOIN pg_temp.tallyd_old AS o USING (user_id)",
        "SELECT l.tableoid::regclass FROM public.api_usage_log AS l",
        "SELECT EXISTS (SELECT FROM public.api_usage_log AS l)",
        "SELECT count(*) FROM (SELECT FROM public.api_usage_log WHERE occurred_at >= $1 LIMIT $2) AS l",
        "SELECT EXISTS (SELECT 1 FROM public.tallyd_user_deltas_0)",
        "SELECT t.user_id FROM public.tallyd_user_total_parts AS t JOIN public.tallyd_forgotten_users AS f ON f.id_sha256 = sha256(t.user_id::bytea)",
        "SELECT sum(t.calls) FROM public.tallyd_user_day_parts AS t WHERE NOT EXISTS (SELECT 1 FROM public.tallyd_user_total_parts AS e WHERE e.user_id = t.user_id)",
        "UPDATE public.api_usage_log AS l SET cost_usd = d.cost FROM unnest($1::text[], $2::text[]) AS d (place, user_id) WHERE l.ctid = d.place::tid AND l.user_id = d.user_id",
    ] {
        assert!(fault(refused).is_some(), "{refused}");
    }
    for taken in [
        "INSERT INTO public.tallyd_user_totals AS t (user_id, updated_at) SELECT $1, clock_timestamp() ON CONFLICT (user_id, provider) DO UPDATE SET updated_at = excluded.updated_at",
        "INSERT INTO public.api_usage_log (id) SELECT id FROM pg_temp.tallyd_adopting ORDER BY id",
        "UPDATE public.dead_letters SET settled_at = clock_timestamp()",
        "SELECT EXISTS (SELECT 1 FROM public.api_usage_log AS l LIMIT 1)",
        "DELETE FROM public.tallyd_user_totals AS t WHERE NOT EXISTS (SELECT 1 FROM public.tallyd_user_days AS d WHERE d.user_id = t.user_id)",
        "UPDATE public.api_usage_log AS l SET cost_usd = d.cost FROM unnest($1::text[], $2::uuid[]) AS d (place, id) WHERE l.ctid = d.place::tid AND l.id = d.id",
        "INSERT INTO public.daily_api_costs SELECT day FROM (SELECT day FROM public.tallyd_user_day_parts WHERE day = (SELECT value FROM public.tallyd_settings WHERE key = 'x')::date) AS s",
    ] {
        assert_eq!(fault(taken), None, "{taken}");
    }
}

/// `TODAY`, `FILES`, a folder, and `CALL`, an id, are replaced.
const COMMANDS: &str = "rollups rebuild --time-zone Asia/Tokyo --dry-run|rollups rebuild --time-zone UTC --yes|\
    duplicates list|duplicates drop --yes|prices set claude of-tomorrow --from always --rate input=1 --rate output=2|\
    reprice --from 2020-01-01 --to now --dry-run|reprice --from 2020-01-01 --to now --yes|\
    calls amend CALL --cost 1 --reason r --yes|calls void CALL --reason r --yes|calls amend CALL --reason r --yes|calls show CALL|\
    adopt --from-log old.calls --from-daily old.days --dry-run|adopt --from-log old.calls --from-daily old.days --yes|\
    partitions list|partitions drop --before 2025-03-10 --yes|partitions drop --before 2025-05-01 --yes|\
    archive list|archive verify|archive restore 1|\
    users list|users forget u2 --dry-run|users forget u2 --yes|users forget old3 --yes|\
    dead-letters list|dead-letters groups|dead-letters retry --kind refused --unset colour|\
    dimensions add team|dimensions list|dimensions remove team --yes|costs --by user|costs --by app|costs --by model|\
    costs --by day --user u1|forecast|budgets set 5|budgets set 5 --for user=u1|\
    budgets set 0.0000001 --period month --for user=u1 --for provider=claude|\
    budgets set 5 --period week --for app=web --for model=of-tomorrow|budgets list|\
    rules set days --metric cost --window 7d --alert 1 --where user=u1|\
    rules set hours --metric calls --window 2h --alert 1 --where provider=claude|\
    rules set app --metric calls --window 7d --alert 1 --where app=web|\
    rules set burn --metric burn_rate --budget 1 --window 6h --short-window 1h --alert 6|rules list|\
    report --period week|report --period month|explain --from TODAY --to TODAY --by user|\
    explain --from TODAY --to TODAY --user u1|explain --from TODAY --to TODAY --app web --by app|\
    units import FILES/units.csv|units list --by app|export focus --from TODAY --to TODAY --out FILES/focus.csv|\
    export focus --from TODAY --to TODAY --by user --format parquet --out FILES/users.parquet|\
    export calls --from TODAY --to TODAY --format ndjson --out FILES/calls.ndjson|\
    alerts list|alerts acknowledge --all|migrate|reconcile|reconcile --changed";

const OLD: &str = "CREATE SCHEMA old; CREATE TABLE old.calls (id uuid PRIMARY KEY, user_id text, api_type text, model text, input_tokens int, \
    output_tokens int, cost_usd numeric, timestamp timestamptz); \
    INSERT INTO old.calls SELECT gen_random_uuid(), 'old' || n, 'claude', 'm', n, n, 0.1, '2025-03-01Z'::timestamptz + n * interval '7 hours' \
        FROM generate_series(1, 30) AS n; \
    CREATE TABLE old.days (date date, api_type text, call_count int, input_tokens bigint, output_tokens bigint, total_cost numeric); \
    INSERT INTO old.days VALUES ('2025-02-26', 'claude', 40, 4000, 400, 1.25); \
    INSERT INTO api_usage_log SELECT * FROM api_usage_log WHERE user_id = 'u1'";

#[test]
fn every_statement_is_one_that_citus_takes() {
    let postgres = written_down();
    let archive = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_ALERTS_INTERVAL_MS", "100")
        .with("TALLYD_RETENTION_ARCHIVE", archive.path().to_str().unwrap())
        .start();
    let line = |n: usize| {
        format!(
            "{{\"provider\":\"claude\",\"model\":\"of-tomorrow\",\"user_id\":\"u{}\",\"input_tokens\":{n},\
                \"app\":\"web\",\"tags\":{{\"team\":\"search\"}}}}\n",
            n % 9
        )
    };
    daemon.lines(&(0..60).map(line).collect::<String>());
    daemon.lines("{\"provider\":\"claude\",\"colour\":1}\n");
    postgres.until_calls(60);
    assert_eq!(daemon.terminate().code(), Some(0));
    postgres.psql(OLD);
    let files = tempfile::tempdir().unwrap();
    let today = postgres.psql("SELECT current_date");
    std::fs::write(
        files.path().join("units.csv"),
        format!("day,dimension,value,unit,quantity\n{today},app,web,order,3\n"),
    )
    .unwrap();
    let call = postgres.psql("SELECT min(id::text) FROM api_usage_log WHERE user_id = 'u3'");
    let commands =
        COMMANDS.replace("TODAY", &today).replace("CALL", &call).replace("FILES", files.path().to_str().unwrap());
    for command in commands.split('|') {
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = daemon.run(&words);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Upkeep removes the late rows of a forgotten user.
    daemon.up();
    daemon.lines("{\"provider\":\"claude\",\"user_id\":\"u2\"}\n");
    postgres.until("SELECT count(*) FROM api_usage_log WHERE user_id = 'u2'", "1");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    postgres.until("SELECT count(*) FROM api_usage_log WHERE user_id = 'u2'", "0");
    daemon.assert_reconciled();
    postgres.until("SELECT count(*) FROM tallyd_alert_rule_states", "4");
    // The user's two budgets are evaluated, and the one that is exceeded is explained.
    postgres.until("SELECT count(*) FROM api_budget_states", "4");
    postgres.until("SELECT count(*) > 0 FROM api_alerts WHERE details ? 'top'", "t");

    let sent = taken(&postgres);
    // Proof that the statements were found: each table has each kind of change.
    for (verb, table) in
        SPREAD.into_iter().flat_map(|table| [("INSERT INTO", table), ("DELETE FROM", table), ("FROM", table)])
    {
        // Deltas come by COPY, to the side that the ring names.
        if verb == "INSERT INTO" && table.starts_with("tallyd_user_deltas") {
            continue;
        }
        assert!(sent.iter().any(|sql| sql.contains(&format!("{verb} public.{table}"))), "{verb} {table} was not sent");
    }
    assert!(sent.len() > 150, "{}", sent.len());
}
