//! Checks every statement of the daemon and its commands against Citus's rules for distributed tables. A plain
//! PostgreSQL logs the statements, so that the test runs everywhere; `make test-citus` runs the same commands on a real
//! Citus.

use std::collections::BTreeSet;

use tallyd_store::citus::SPREAD;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// Functions that each node would evaluate for itself, so that Citus refuses them in an UPDATE or DELETE.
const VOLATILE: [&str; 3] = ["clock_timestamp(", "random(", "gen_random_uuid("];

/// The fault of a statement on distributed tables, if it has one.
fn fault(statement: &str) -> Option<&'static str> {
    let sql = statement.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    // A cast to a table's row type, and a table's name as text, do not read the table.
    let sql = sql.replace("null::public.", "type ").replace("'public.", "'");
    let is_named = |table: &&str| sql.contains(&format!("public.{table}")) || sql.contains(&format!(" {table} "));
    let named: Vec<&str> = SPREAD.into_iter().filter(is_named).collect();
    if named.is_empty() {
        return None;
    }
    let is_changed = |verb: &str| named.iter().any(|table| sql.contains(&format!("{verb} public.{table}")));
    let updated = sql.split_once("do update set").map(|(_, updated)| updated);
    let changed = if is_changed("update") { Some(sql.as_str()) } else { updated };
    if changed.is_some_and(|changed| VOLATILE.iter().any(|function| changed.contains(function))) {
        return Some("a volatile function in an UPDATE");
    }
    if let Some((_, conflict)) = sql.split_once("on conflict (")
        && is_changed("insert into")
        && !conflict.split(')').next().unwrap_or_default().contains("user_id")
    {
        return Some("ON CONFLICT without the distribution column");
    }
    let read = named.iter().fold(sql.clone(), |sql, table| sql.replace(&format!("insert into public.{table} "), ""));
    if sql.contains("pg_temp.") && named.iter().any(|table| read.contains(&format!("public.{table} "))) {
        return Some("a temporary table beside one that is spread");
    }
    if sql.contains("tableoid") {
        return Some("tableoid, which is a shard's");
    }
    if sql.contains("exists (select from") {
        return Some("EXISTS (SELECT FROM: a subquery without a column");
    }
    if named.len() > 1 && sql.contains("for update") && !sql.contains("user_id =") {
        return Some("row locks on several nodes");
    }
    None
}

/// tallyd's statements in a server's log whose lines begin with `@@@ application @@@`.
fn statements(log: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in log.split("@@@ tallyd").skip(1) {
        let entry = entry.split("@@@ ").nth(1).unwrap_or_default();
        let text = entry.strip_prefix("LOG:  statement: ").or_else(|| {
            entry.strip_prefix("LOG:  execute ").and_then(|text| text.split_once(": ").map(|(_, text)| text))
        });
        // Functions of the schema run on the coordinator, statement by statement.
        for statement in
            text.filter(|text| !text.contains("CREATE FUNCTION")).into_iter().flat_map(|text| text.split(';'))
        {
            found.insert(statement.trim().to_owned());
        }
    }
    found
}

#[test]
fn the_rules_find_what_citus_has_refused() {
    for refused in [
        "UPDATE public.tallyd_user_totals AS t SET calls = 1, updated_at = clock_timestamp() WHERE user_id = $1",
        "INSERT INTO public.tallyd_user_days AS t (day) SELECT $1 ON CONFLICT (day, user_id, provider) DO UPDATE SET updated_at = clock_timestamp()",
        "INSERT INTO public.tallyd_user_days AS t (day) SELECT $1 ON CONFLICT (day, provider) DO UPDATE SET calls = 1",
        "INSERT INTO public.tallyd_user_totals (user_id) SELECT o.user_id FROM public.tallyd_user_days AS d JOIN pg_temp.tallyd_old AS o USING (user_id)",
        "SELECT l.tableoid::regclass FROM public.api_usage_log AS l",
        "SELECT EXISTS (SELECT FROM public.api_usage_log AS l)",
    ] {
        assert!(fault(refused).is_some(), "{refused}");
    }
    for taken in [
        "INSERT INTO public.tallyd_user_totals AS t (user_id, updated_at) SELECT $1, clock_timestamp() ON CONFLICT (user_id, provider) DO UPDATE SET updated_at = excluded.updated_at",
        "INSERT INTO public.api_usage_log (id) SELECT id FROM pg_temp.tallyd_adopting ORDER BY id",
        "UPDATE public.dead_letters SET settled_at = clock_timestamp()",
        "SELECT EXISTS (SELECT 1 FROM public.api_usage_log AS l)",
    ] {
        assert_eq!(fault(taken), None, "{taken}");
    }
}

const OLD: &str = "CREATE SCHEMA old; CREATE TABLE old.calls (id uuid PRIMARY KEY, user_id text, api_type text, model text, input_tokens int, \
    output_tokens int, cost_usd numeric, timestamp timestamptz); \
    INSERT INTO old.calls SELECT gen_random_uuid(), 'old' || n, 'claude', 'm', n, n, 0.1, '2025-03-01Z'::timestamptz + n * interval '7 hours' \
        FROM generate_series(1, 30) AS n; \
    CREATE TABLE old.days (date date, api_type text, call_count int, input_tokens bigint, output_tokens bigint, total_cost numeric); \
    INSERT INTO old.days VALUES ('2025-02-26', 'claude', 40, 4000, 400, 1.25); \
    INSERT INTO api_usage_log SELECT * FROM api_usage_log WHERE user_id = 'u1'";

#[test]
fn every_statement_is_one_that_citus_takes() {
    let mut postgres =
        Postgres::stopped().with_setting("log_statement", "all").with_setting("log_line_prefix", "@@@ %a @@@ ");
    postgres.up();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let line = |n: usize| {
        format!(
            "{{\"provider\":\"claude\",\"model\":\"of-tomorrow\",\"user_id\":\"u{}\",\"input_tokens\":{n}}}\n",
            n % 9
        )
    };
    daemon.lines(&(0..60).map(line).collect::<String>());
    daemon.lines("{\"provider\":\"claude\",\"colour\":1}\n");
    postgres.until_calls(60);
    assert_eq!(daemon.terminate().code(), Some(0));
    postgres.psql(OLD);
    let commands = "rollups rebuild --time-zone Asia/Tokyo --dry-run|rollups rebuild --time-zone UTC --yes|duplicates list|duplicates drop --yes|\
        prices set claude of-tomorrow --from always --rate input=1 --rate output=2|\
        reprice --from 2020-01-01 --to now --dry-run|reprice --from 2020-01-01 --to now --yes|\
        adopt --from-log old.calls --from-daily old.days --dry-run|adopt --from-log old.calls --from-daily old.days --yes|\
        partitions list|partitions drop --before 2025-03-10 --yes|partitions drop --before 2025-05-01 --yes|\
        users list|users forget u2 --dry-run|users forget u2 --yes|users forget old3 --yes|dead-letters list|dead-letters groups|\
        dead-letters retry --kind refused --unset colour|costs --by user|costs --by app|costs --by model|forecast|budgets set 5|budgets list|migrate|reconcile";
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

    let sent = statements(&postgres.whole_log());
    let faults: Vec<_> = sent.iter().filter_map(|statement| fault(statement).map(|fault| (fault, statement))).collect();
    assert!(faults.is_empty(), "{faults:#?}");
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
