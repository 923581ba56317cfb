//! The rollups equal the call log, and a difference of any kind is found.

use tallyd_store::user_deltas::merge;
use tallyd_store::user_list::refresh;
use tallyd_store::{Database, Difference, MAX_DIFFERENCES, reconcile, reconcile_changed};
use tokio_postgres::Client;

use crate::support::{data_dir, migrated, value};

const TABLES: [&str; 5] =
    ["daily_api_costs", "daily_user_api_costs", "user_api_totals", "daily_dimension_costs", "hourly_api_costs"];

async fn calls(db: &Database, sessions: usize, each: usize) {
    let sessions = (0..sessions).map(|session| {
        let db = db.clone();
        tokio::spawn(async move {
            let client = db.connect("calls").await.unwrap();
            for call in 0..each {
                let cost = if call % 5 == 0 { "NULL".into() } else { format!("0.{:07}", call * 13 + session) };
                let sql = format!(
                    "SELECT increment_daily_cost(provider => '{}', model => 'm{}', endpoint => '/e?street={call}', user_id => 'u{}', app => 'app{}', \
                     cost_usd => {cost}, input_tokens => {call}, output_tokens => 2, cache_read_tokens => 3, cache_write_5m_tokens => 4, \
                     cache_write_1h_tokens => 5, status => {}, occurred_at => now() - interval '1 hour' * {call})",
                    ["claude", "Anthropic", "rentcast"][call % 3], call % 2, call % 4, call % 3, [200, 429][call % 2],
                );
                client.batch_execute(&sql).await.unwrap();
            }
        })
    });
    for session in futures_util::future::join_all(sessions).await {
        session.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_add_up_exactly() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    calls(&db, 8, 50).await;
    let mut client = db.connect("r").await.unwrap();
    let outcome = reconcile(&mut client).await.unwrap();
    assert!(outcome.equal, "{:?}", outcome.differences);
    assert_eq!((outcome.log_rows, outcome.unpriced_rows), (400, 80));
    assert_eq!(outcome.log_cost_usd, value(&client, "SELECT sum(cost_usd)::text FROM api_usage_log").await);
    let sums = "SELECT sum(calls) || ' ' || sum(errors) || ' ' || sum(unpriced_calls) || ' ' || sum(cache_write_1h_tokens) FROM ";
    for table in TABLES {
        assert_eq!(value(&client, &format!("{sums}{table}")).await, "400 200 80 2000");
    }
    assert_eq!(
        value(&client, "SELECT string_agg(DISTINCT endpoint || ' ' || provider, ',') FROM daily_api_costs").await,
        "/e claude,/e rentcast"
    );
    // Keys under '(other)' are compared there.
    let other = "UPDATE api_usage_log SET rollup_other = 7; \
        WITH gone AS (DELETE FROM daily_dimension_costs RETURNING *) INSERT INTO daily_dimension_costs \
        SELECT day, 'app', '(other)', provider, '(other)', sum(calls), sum(errors), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), \
        sum(cache_write_5m_tokens), sum(cache_write_1h_tokens), sum(requests), sum(cost_usd), sum(unpriced_calls), now() \
        FROM gone GROUP BY day, provider; \
        WITH gone AS (DELETE FROM hourly_api_costs RETURNING *) INSERT INTO hourly_api_costs \
        SELECT hour, provider, '(other)', sum(calls), sum(errors), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), \
        sum(cache_write_5m_tokens), sum(cache_write_1h_tokens), sum(requests), sum(cost_usd), sum(unpriced_calls), now() \
        FROM gone GROUP BY hour, provider; \
        WITH gone AS (DELETE FROM daily_api_costs RETURNING *) INSERT INTO daily_api_costs \
        SELECT day, provider, '(other)', '(other)', sum(calls), sum(errors), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), \
        sum(cache_write_5m_tokens), sum(cache_write_1h_tokens), sum(requests), sum(cost_usd), sum(unpriced_calls), now() \
        FROM gone GROUP BY day, provider";
    client.batch_execute(other).await.unwrap();
    assert!(reconcile(&mut client).await.unwrap().equal);
    for other in [3, 5, 6] {
        client.batch_execute(&format!("UPDATE api_usage_log SET rollup_other = {other}")).await.unwrap();
        assert!(!reconcile(&mut client).await.unwrap().equal, "{other}");
    }
    db.close().await;
}

/// Runs `damage`, returns the differences that it makes, and undoes it.
async fn differences(client: &mut Client, damage: &str) -> Vec<Difference> {
    let tables =
        ["daily_api_costs", "tallyd_user_days", "tallyd_user_totals", "daily_dimension_costs", "hourly_api_costs"];
    for table in tables {
        client.batch_execute(&format!("CREATE TABLE saved_{table} AS TABLE {table}")).await.unwrap();
    }
    client.batch_execute(damage).await.unwrap();
    let outcome = reconcile(client).await.unwrap();
    assert_eq!(outcome.equal, outcome.differences.is_empty());
    for table in tables {
        let restore = format!("DELETE FROM {table}; INSERT INTO {table} TABLE saved_{table}; DROP TABLE saved_{table}");
        client.batch_execute(&restore).await.unwrap();
    }
    assert!(reconcile(client).await.unwrap().equal);
    outcome.differences
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_altered_lost_or_invented_is_found() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut client = db.connect("r").await.unwrap();
    let call = "SELECT increment_daily_cost('claude', model => 'm', endpoint => '/e', user_id => 'u', cost_usd => 0.25, \
        occurred_at => '2026-01-05 10:00Z')";
    client.batch_execute(call).await.unwrap();

    merge(&client).await.unwrap();
    let keys = [
        ("daily_api_costs", "daily_api_costs", "day=2026-01-05, provider=claude, model=m, endpoint=/e"),
        ("daily_user_api_costs", "tallyd_user_days", "day=2026-01-05, user_id=u, provider=claude"),
        ("user_api_totals", "tallyd_user_totals", "user_id=u, provider=claude"),
        (
            "daily_dimension_costs",
            "daily_dimension_costs",
            "day=2026-01-05, dimension=app, value=, provider=claude, model=m",
        ),
        ("hourly_api_costs", "hourly_api_costs", "hour=2026-01-05 10:00:00+00, provider=claude, model=m"),
    ];
    let measures = [
        "calls",
        "errors",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "requests",
        "cost_usd",
        "unpriced_calls",
    ];
    for (rollup, table, key) in keys {
        for column in measures {
            let found = differences(&mut client, &format!("UPDATE {table} SET {column} = {column} + 1")).await;
            assert_eq!(found.len(), 1, "{table} {column}: {found:?}");
            assert_eq!((found[0].table, found[0].key.as_str(), found[0].column.as_str()), (rollup, key, column));
        }
        let found = differences(&mut client, &format!("DELETE FROM {table}")).await;
        let lost =
            Difference { table: rollup, key: key.into(), column: "calls".into(), rollup: None, log: Some("1".into()) };
        assert_eq!(found, [lost]);
        let (columns, values) = match rollup {
            "user_api_totals" => ("provider, first_call_at, last_call_at", "'ghost', now(), now()"),
            "hourly_api_costs" => ("provider, hour", "'ghost', '2026-01-05 10:00Z'"),
            _ => ("provider, day", "'ghost', '2026-01-05'"),
        };
        let found = differences(&mut client, &format!("INSERT INTO {table} ({columns}) VALUES ({values})")).await;
        assert_eq!((found.len(), found[0].rollup.as_deref(), found[0].log.as_deref()), (1, Some("0"), None));
    }
    for column in ["first_call_at", "last_call_at"] {
        let found =
            differences(&mut client, &format!("UPDATE tallyd_user_totals SET {column} = {column} - interval '1 us'"))
                .await;
        assert_eq!((found.len(), found[0].column.as_str()), (1, column));
    }
    let found = differences(&mut client, "UPDATE daily_api_costs SET cost_usd = cost_usd + 0.000000000000000001").await;
    assert_eq!(found[0].rollup.as_deref(), Some("0.250000000000000001"));
    assert_eq!(found[0].log.as_deref(), Some("0.25"));
    assert_eq!(serde_json::to_value(&found[0]).unwrap()["table"], "daily_api_costs");

    let many =
        "INSERT INTO tallyd_user_days (day, user_id) SELECT '2026-01-01', g::text FROM generate_series(1, 1500) g";
    client.batch_execute(many).await.unwrap();
    client.batch_execute("UPDATE tallyd_user_totals SET calls = 9").await.unwrap();
    let outcome = reconcile(&mut client).await.unwrap();
    assert_eq!((outcome.differences.len(), outcome.difference_count), (MAX_DIFFERENCES, 1501));
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_row_of_the_list_of_users_is_found_unless_the_user_is_due() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut client = db.connect("r").await.unwrap();
    for user in ["u", "v"] {
        let call = format!("SELECT increment_daily_cost('claude', user_id => '{user}', cost_usd => 0.25)");
        client.batch_execute(&call).await.unwrap();
    }
    merge(&client).await.unwrap();
    refresh(&client).await.unwrap();
    client.batch_execute("CREATE TABLE saved AS TABLE tallyd_user_list").await.unwrap();
    for (column, damage) in [
        ("calls", "UPDATE tallyd_user_list SET calls = calls + 1"),
        ("claude_calls", "UPDATE tallyd_user_list SET claude_calls = 0"),
        ("rentcast_calls", "UPDATE tallyd_user_list SET rentcast_calls = 1"),
        ("errors", "UPDATE tallyd_user_list SET errors = 1"),
        ("unpriced_calls", "UPDATE tallyd_user_list SET unpriced_calls = 1"),
        ("cost_usd", "UPDATE tallyd_user_list SET cost_usd = cost_usd + 0.000000000000000001"),
        ("first_call_at", "UPDATE tallyd_user_list SET first_call_at = first_call_at - interval '1 us'"),
        ("last_call_at", "UPDATE tallyd_user_list SET last_call_at = last_call_at + interval '1 us'"),
        ("calls", "DELETE FROM tallyd_user_list"),
    ] {
        client.batch_execute(&format!("{damage} WHERE user_id = 'u'")).await.unwrap();
        let found = reconcile(&mut client).await.unwrap().differences;
        let told: Vec<_> = found.iter().map(|found| (found.table, &*found.key, &*found.column)).collect();
        assert_eq!(told, [("tallyd_user_list", "user_id=u", column)], "{damage}");
        client.batch_execute("INSERT INTO tallyd_user_list_due VALUES ('u')").await.unwrap();
        assert!(reconcile(&mut client).await.unwrap().equal, "{damage}");
        refresh(&client).await.unwrap();
        let differing = "SELECT count(*) FROM (TABLE saved EXCEPT TABLE tallyd_user_list) AS d";
        assert_eq!(value(&client, differing).await, "0", "{damage}");
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_sees_one_state_whatever_is_committed_between_its_statements() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut writer = db.connect("writer").await.unwrap();
    writer.batch_execute("SELECT increment_daily_cost('claude', cost_usd => 1)").await.unwrap();
    merge(&writer).await.unwrap();
    // Stops the comparison at its first rollup, after it has read the call log.
    let barrier = writer.transaction().await.unwrap();
    barrier.batch_execute("LOCK TABLE daily_api_costs IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let other = db.clone();
    let comparison =
        tokio::spawn(async move { reconcile(&mut other.connect("compare").await.unwrap()).await.unwrap() });
    let watcher = db.connect("watcher").await.unwrap();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'compare' AND wait_event_type = 'Lock'";
    while value(&watcher, waiting).await == "0" {
        assert!(!comparison.is_finished());
    }
    barrier.batch_execute("UPDATE tallyd_user_totals SET calls = calls + 1").await.unwrap();
    barrier.commit().await.unwrap();
    let before = comparison.await.unwrap();
    assert!(before.equal, "{:?}", before.differences);
    let after = reconcile(&mut db.connect("compare").await.unwrap()).await.unwrap();
    assert_eq!(after.difference_count, 1);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outside_the_bounds_is_refused_whole() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("r").await.unwrap();
    let refused = [
        ("''", "provider is empty"),
        ("'x', input_tokens => -1", "negative"),
        ("'x', requests => 1000000001", "10^9"),
        ("'x', cost_usd => 'NaN'", "10^9"),
        ("'x', cost_usd => 1000000001", "10^9"),
        ("'x', cost_usd => 1e-65", "64 decimals"),
        ("'x', extra_units => jsonb_build_object('u', repeat('1', 16400)::numeric)", "extra_units"),
        ("'x', user_id => repeat('y', 513)", "512 bytes"),
        ("'x', metadata => '[1]'", "metadata"),
        ("'x', tags => '[1]'", "tags is not a JSON object"),
        ("'x', tags => '{\"team\": 1}'", "not text"),
        ("'x', tags => '{\"\": \"a\"}'", "1 to 64 bytes"),
        ("'x', tags => jsonb_build_object(repeat('n', 65), 'a')", "1 to 64 bytes"),
        ("'x', tags => jsonb_build_object('n', repeat('a', 257))", "256 bytes"),
        ("'x', tags => (SELECT jsonb_object_agg(n, 'a') FROM generate_series(1, 17) AS n)", "more than 16"),
        ("'x', occurred_at => '2014-12-31 00:00Z'", "2015"),
        ("'x', occurred_at => now() + interval '6 minutes'", "ahead"),
    ];
    for (arguments, reason) in refused {
        let error = client.batch_execute(&format!("SELECT increment_daily_cost({arguments})")).await.unwrap_err();
        let message = error.as_db_error().unwrap().message();
        assert!(message.contains(reason), "{arguments}: {message}");
    }
    assert_eq!(value(&client, "SELECT count(*) FROM api_usage_log").await, "0");
    let id = "0198c0de-0000-7000-8000-000000000001";
    assert_eq!(
        value(&client, &format!("SELECT increment_daily_cost('x', id => '{id}', extra_units => '{{\"image\": 2}}')"))
            .await,
        id
    );
    assert_eq!(
        value(&client, "SELECT cost_source || coalesce(cost_usd::text, ' none') FROM api_usage_log").await,
        "unpriced none"
    );

    client.batch_execute("CREATE ROLE visitor; SET ROLE visitor").await.unwrap();
    for sql in [
        "SELECT increment_daily_cost('x')",
        "SELECT tallyd_ensure_partition(now(), 'day')",
        "SELECT * FROM tallyd_ensure_partitions(now(), now())",
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
    db.close().await;
}

/// Reads changed days, which must equal the call log or not. Returns how many were read and how many were not.
async fn read_days(client: &mut Client, equal: bool) -> (usize, usize) {
    let found = reconcile_changed(client).await.unwrap();
    assert_eq!(found.equal, equal, "{:?}", found.differences);
    assert_eq!(found.equal, found.differences.is_empty());
    (found.days_read, found.days_unchanged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_day_is_read_again_only_if_its_rollups_change() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    // A call an hour.
    calls(&db, 2, 60).await;
    let mut client = db.connect("r").await.unwrap();
    let (days, unchanged) = read_days(&mut client, true).await;
    assert!(days >= 3 && unchanged == 0, "{days} {unchanged}");
    assert_eq!(read_days(&mut client, true).await, (0, days));
    // A merge adds rows together, and changes no sum.
    while merge(&client).await.unwrap().is_some() {}
    assert_eq!(read_days(&mut client, true).await, (0, days));
    let late = "SELECT increment_daily_cost(provider => 'claude', user_id => 'late', occurred_at => now() - interval '30 hours')";
    client.batch_execute(late).await.unwrap();
    assert_eq!(read_days(&mut client, true).await, (1, days - 1));
    assert_eq!(read_days(&mut client, true).await, (0, days));
    while merge(&client).await.unwrap().is_some() {}

    // A change by hand of any rollup is found; undone, the day is as it was proven.
    for (table, period) in [
        ("tallyd_user_days", "day"),
        ("daily_dimension_costs", "day"),
        ("hourly_api_costs", "hour"),
        ("daily_api_costs", "day"),
    ] {
        for change in ["calls = calls + 1", "cost_usd = cost_usd + 0.000000000000000001", "errors = errors + 1"] {
            let of_first = format!("WHERE {period} = (SELECT min({period}) FROM {table})");
            client.batch_execute(&format!("UPDATE {table} SET {change} {of_first}")).await.unwrap();
            assert_eq!(read_days(&mut client, false).await, (1, days - 1), "{table} {change}");
            let undo = change.replace('+', "-");
            client.batch_execute(&format!("UPDATE {table} SET {undo} {of_first}")).await.unwrap();
            assert_eq!(read_days(&mut client, true).await, (0, days), "{table} {change}");
        }
    }
    // The same sums under another key.
    for (change, undo) in [("'u1'", "'v1'"), ("'v1'", "'u1'")] {
        let days_of = format!("UPDATE tallyd_user_days SET user_id = {undo} WHERE user_id = {change}");
        client.batch_execute(&days_of).await.unwrap();
        let expected = change == "'v1'";
        assert_eq!(read_days(&mut client, expected).await.0 == 0, expected);
    }
    // A day that has left all rollups is read, because it was there.
    let first = value(&client, "SELECT min(day) FROM daily_api_costs").await;
    let of_first = |table: &str| match table {
        "hourly_api_costs" => format!("{table} WHERE (hour AT TIME ZONE 'UTC')::date = '{first}'"),
        _ => format!("{table} WHERE day = '{first}'"),
    };
    let by_day = ["tallyd_user_days", "daily_dimension_costs", "hourly_api_costs", "daily_api_costs"];
    for table in by_day {
        let taken = format!("CREATE TABLE saved_{table} AS SELECT * FROM {0}; DELETE FROM {0}", of_first(table));
        client.batch_execute(&taken).await.unwrap();
    }
    assert_eq!(read_days(&mut client, false).await, (1, days - 1));
    for table in by_day {
        client.batch_execute(&format!("INSERT INTO {table} TABLE saved_{table}")).await.unwrap();
    }
    assert_eq!(read_days(&mut client, true).await, (0, days));
    client.batch_execute("UPDATE tallyd_user_totals SET calls = calls + 1 WHERE user_id = 'u2'").await.unwrap();
    assert_eq!(read_days(&mut client, false).await, (0, days), "totals alone");
    client.batch_execute("UPDATE tallyd_user_totals SET calls = calls - 1 WHERE user_id = 'u2'").await.unwrap();
    // A change of the call log alone is on a day that is not read.
    let by_hand = "DELETE FROM api_usage_log WHERE occurred_at = (SELECT min(occurred_at) FROM api_usage_log)";
    client.batch_execute(by_hand).await.unwrap();
    assert_eq!(read_days(&mut client, true).await, (0, days));
    assert!(!reconcile(&mut client).await.unwrap().equal);
    db.close().await;
}
