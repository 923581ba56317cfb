//! The users' rollups as base and deltas: readers see exact sums while deltas are appended and merged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tallyd_store::user_deltas::merge;
use tallyd_store::{Connection, Database, reconcile};

use crate::support::{data_dir, migrated, value};

const SUMS: &str = "SELECT (SELECT sum(calls) || ' ' || sum(cost_usd) FROM daily_user_api_costs) || ' ' \
    || (SELECT sum(calls) || ' ' || sum(cost_usd) FROM user_api_totals)";
const DELTAS: &str =
    "SELECT (SELECT count(*) FROM tallyd_user_deltas_0) || ' ' || (SELECT count(*) FROM tallyd_user_deltas_1)";
/// Number of rows and of distinct keys in each view.
const KEYS: &str = "SELECT (SELECT count(*) || ' ' || count(DISTINCT (day, user_id, provider)) FROM daily_user_api_costs) || ' ' \
    || (SELECT count(*) || ' ' || count(DISTINCT (user_id, provider)) FROM user_api_totals)";

async fn call(client: &Connection, user: &str) {
    let sql =
        format!("SELECT increment_daily_cost('claude', user_id => '{user}', cost_usd => 0.25, input_tokens => 7)");
    client.batch_execute(&sql).await.unwrap();
}

async fn assert_equal(db: &Database) {
    let found = reconcile(&mut db.connect("reconcile").await.unwrap()).await.unwrap();
    assert!(found.equal, "{:?}", found.differences);
}

/// Waits until the session of this name waits for a lock.
async fn until_waiting(db: &Database, name: &str) {
    let watcher = db.connect("watcher").await.unwrap();
    let sql =
        format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND wait_event_type = 'Lock'");
    while value(&watcher, &sql).await == "0" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_committed_state_adds_up_while_many_append_and_two_merge() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..4).map(|writer| {
        let db = db.clone();
        tokio::spawn(async move {
            let client = db.connect("writer").await.unwrap();
            for number in 0..150 {
                call(&client, &format!("u{}", (number * 7 + writer) % 20)).await;
            }
        })
    });
    let mergers = (0..2).map(|_| {
        let (db, done) = (db.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let client = db.connect("merger").await.unwrap();
            let mut rows = 0;
            while !done.load(Ordering::Relaxed) {
                rows += merge(&client).await.unwrap().map_or(0, |merged| merged.rows);
            }
            rows
        })
    });
    let (writers, mergers): (Vec<_>, Vec<_>) = (writers.collect(), mergers.collect());
    let mut looks = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        assert_equal(&db).await;
        looks += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let mut merged = 0;
    for merger in mergers {
        merged += merger.await.unwrap();
    }
    let client = db.connect("last").await.unwrap();
    while let Some(last) = merge(&client).await.unwrap() {
        merged += last.rows;
    }
    assert_eq!((merged, looks > 2), (600, true), "each delta is merged once");
    assert_eq!(value(&client, DELTAS).await, "0 0");
    assert_eq!(value(&client, SUMS).await, "600 150.00 600 150.00");
    assert_eq!(value(&client, KEYS).await, "20 20 20 20");
    assert_equal(&db).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_from_before_a_merge_sees_base_and_deltas_of_before() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let (client, reader) = (db.connect("client").await.unwrap(), db.connect("reader").await.unwrap());
    call(&client, "a").await;
    merge(&client).await.unwrap().unwrap();
    for user in ["a", "b", "b"] {
        call(&client, user).await;
    }
    // It has its snapshot, and has not read the rollups yet.
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM api_usage_log").await.unwrap();
    assert_eq!(merge(&client).await.unwrap().unwrap().rows, 3);
    call(&client, "c").await;
    merge(&client).await.unwrap().unwrap();
    assert_eq!(value(&reader, SUMS).await, "4 1.00 4 1.00");
    assert_eq!(value(&reader, KEYS).await, "2 2 2 2");
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(value(&reader, SUMS).await, "5 1.25 5 1.25");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_waits_for_who_appends_and_finds_who_was_late() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let (client, writer) = (db.connect("client").await.unwrap(), db.connect("writer").await.unwrap());
    call(&client, "a").await;
    writer.batch_execute("BEGIN").await.unwrap();
    call(&writer, "b").await;
    let merging = tokio::spawn({
        let db = db.clone();
        async move { merge(&db.connect("merges").await.unwrap()).await.unwrap() }
    });
    until_waiting(&db, "merges").await;
    // The ring has turned: another writer does not wait. (It writes another row of daily_api_costs.)
    let other = "SELECT increment_daily_cost('rentcast', user_id => 'c', cost_usd => 0.25)";
    client.batch_execute(other).await.unwrap();
    assert_eq!(value(&client, "SELECT side FROM tallyd_delta_ring").await, "1");
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(merging.await.unwrap().unwrap().rows, 2);
    assert_eq!(value(&client, DELTAS).await, "0 1");
    // A writer that read the ring before it turned, and writes after the merge.
    let late = "BEGIN; UPDATE tallyd_delta_ring SET side = 0; \
        SELECT increment_daily_cost('claude', user_id => 'a', cost_usd => 0.25); UPDATE tallyd_delta_ring SET side = 1; COMMIT";
    writer.batch_execute(late).await.unwrap();
    assert_eq!(value(&client, DELTAS).await, "1 1");
    assert_eq!(value(&client, SUMS).await, "4 1.00 4 1.00");
    assert_equal(&db).await;
    // The late row is merged first, without a turn.
    assert_eq!(merge(&client).await.unwrap().unwrap().rows, 1);
    assert_eq!(value(&client, "SELECT side FROM tallyd_delta_ring").await, "1");
    assert_eq!(merge(&client).await.unwrap().unwrap().rows, 1);
    assert_eq!(value(&client, DELTAS).await, "0 0");
    assert!(merge(&client).await.unwrap().is_none());
    assert_equal(&db).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_merges_at_a_time_and_who_holds_the_base_is_not_waited_for() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let (client, other) = (db.connect("client").await.unwrap(), db.connect("other").await.unwrap());
    call(&client, "a").await;
    other.batch_execute("BEGIN; SELECT FROM tallyd_locks WHERE name = 'merge' FOR UPDATE").await.unwrap();
    assert!(merge(&client).await.unwrap().is_none());
    assert_eq!(value(&client, "SELECT side FROM tallyd_delta_ring").await, "0", "nor does the ring turn");
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(merge(&client).await.unwrap().unwrap().rows, 1);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_row_stays_in_the_deltas_and_everybody_elses_are_merged() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("client").await.unwrap();
    let full = "INSERT INTO tallyd_user_days (day, user_id, provider, calls, input_tokens) \
            VALUES ((now() AT TIME ZONE 'UTC')::date, 'full', 'claude', 1, 9223372036854775807); \
        INSERT INTO tallyd_user_totals (user_id, provider, calls, input_tokens, first_call_at, last_call_at) \
            VALUES ('full', 'claude', 1, 9223372036854775807, '2025-01-01Z', '2025-01-01Z'); \
        INSERT INTO tallyd_dropped_user_costs SELECT * FROM tallyd_user_days; \
        INSERT INTO tallyd_dropped_totals SELECT * FROM tallyd_user_totals; \
        INSERT INTO tallyd_dropped_costs (day, provider, calls) SELECT day, provider, calls FROM tallyd_user_days; \
        INSERT INTO daily_api_costs (day, provider, calls) SELECT day, provider, calls FROM tallyd_user_days";
    client.batch_execute(full).await.unwrap();
    for user in ["full", "other", "full"] {
        call(&client, user).await;
    }
    for _ in 0..3 {
        merge(&client).await.unwrap().unwrap();
        let left = "SELECT count(*) FROM tallyd_user_day_parts WHERE user_id = 'full'";
        assert_eq!(value(&client, left).await, "3", "the base and two deltas");
        assert_eq!(value(&client, "SELECT count(*) FROM tallyd_user_day_parts WHERE user_id = 'other'").await, "1");
        for view in ["daily_user_api_costs", "user_api_totals"] {
            let tokens = format!("SELECT input_tokens FROM {view} WHERE user_id = 'full'");
            assert_eq!(value(&client, &tokens).await, "9223372036854775821", "{view}");
        }
        assert_equal(&db).await;
        call(&client, "other").await;
    }
    assert_eq!(value(&client, "SELECT calls FROM user_api_totals WHERE user_id = 'other'").await, "4");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_a_user_or_a_day_reads_that_user_or_day() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("client").await.unwrap();
    let fill = "INSERT INTO tallyd_user_days (day, user_id, provider, calls) \
            SELECT '2026-01-01'::date + d, 'u' || u, 'claude', 1 FROM generate_series(0, 49) AS d, generate_series(0, 199) AS u; \
        INSERT INTO tallyd_user_totals (user_id, provider, calls, first_call_at, last_call_at) \
            SELECT 'u' || u, 'claude', 50, '2026-01-01Z', '2026-02-19Z' FROM generate_series(0, 9999) AS u; \
        INSERT INTO tallyd_user_deltas_0 (day, user_id, provider, calls, first_call_at, last_call_at) \
            SELECT '2026-02-19', 'u' || u, 'claude', 1, '2026-02-19Z', '2026-02-19Z' FROM generate_series(0, 29999) AS u ORDER BY 'u' || u; \
        SELECT brin_summarize_new_values('tallyd_user_deltas_0_user')";
    client.batch_execute(fill).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let asked = [
        ("daily_user_api_costs WHERE user_id = 'u77'", 51, 1_000),
        ("daily_user_api_costs WHERE user_id = 'u77' AND day >= '2026-02-01'", 20, 1_000),
        ("daily_user_api_costs WHERE day = '2026-01-07'", 200, 30_200),
        ("user_api_totals WHERE user_id = 'u77' AND provider = 'claude'", 2, 1_000),
        ("tallyd_user_total_parts WHERE user_id = ANY ('{u77,u78}')", 4, 2_000),
    ];
    for (question, at_least, at_most) in asked {
        let sql = format!("EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) SELECT * FROM {question}");
        let plan: serde_json::Value = serde_json::from_str(&value(&client, &sql).await).unwrap();
        let read = read(&plan[0]["Plan"]);
        assert!((at_least..=at_most).contains(&read), "{question} reads {read} rows: {plan:#}");
    }
    db.close().await;
}

/// Rows of tables that a plan's scans have read.
fn read(plan: &serde_json::Value) -> u64 {
    let count = |name: &str| plan[name].as_f64().unwrap_or(0.0) as u64;
    let own = if plan["Relation Name"].is_string() {
        count("Actual Rows") + count("Rows Removed by Filter") + count("Rows Removed by Index Recheck")
    } else {
        0
    };
    own + plan["Plans"].as_array().into_iter().flatten().map(read).sum::<u64>()
}
