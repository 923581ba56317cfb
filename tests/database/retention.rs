//! Partitions are dropped: the rollups stay, and reconcile by the sums that were kept.

use chrono::{DateTime, Utc};
use tallyd_store::retention::{DropState, RetentionError, drop_before};
use tallyd_store::{Connection, Database, partitions, rebuild_rollups, reconcile};

use crate::support::{TESTER, data_dir, migrated, until_waiting, value};

/// Calls of two users in each of the months: priced, unpriced, failed, and past a rollup's bound.
async fn calls(client: &Connection, months: &[&str]) {
    for (number, month) in months.iter().enumerate() {
        for call in 0..12 {
            let cost = if call % 4 == 0 { "NULL".into() } else { format!("0.00000000{call}7") };
            let sql = format!(
                "SELECT increment_daily_cost(provider => '{}', model => 'm{}', user_id => 'u{}', cost_usd => {cost}, \
                 input_tokens => {call}, status => {}, occurred_at => '{month}-15Z'::timestamptz + '{call} hours')",
                ["claude", "rentcast"][call % 2],
                call % 3,
                (call + number) % 2,
                [200, 429][call % 2],
            );
            client.batch_execute(&sql).await.unwrap();
        }
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// All rows of the rollups.
async fn rollups(client: &Connection) -> String {
    let mut all = String::new();
    for table in ["daily_api_costs", "daily_user_api_costs", "user_api_totals"] {
        all += &value(client, &format!("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM {table} AS t")).await;
    }
    all
}

async fn assert_equal(db: &Database, log_rows: i64, dropped_rows: i64) {
    let found = reconcile(&mut db.connect("reconcile").await.unwrap()).await.unwrap();
    assert!(found.equal, "{:?}", found.differences);
    assert_eq!((found.log_rows, found.dropped_rows), (log_rows, dropped_rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_stays_in_the_rollups_and_in_the_proof() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("drop").await.unwrap();
    calls(&client, &["2024-12", "2025-01", "2025-02"]).await;
    client.batch_execute("SELECT increment_daily_cost(provider => 'claude', user_id => 'u0')").await.unwrap();
    let before = rollups(&client).await;
    // Only partitions that end before the bound: a day of February is left.
    let dropped = drop_before(&client, at("2025-02-28T00:00:00Z"), &TESTER, None, |_| {}).await.unwrap();
    let names: Vec<_> = dropped.iter().map(|one| (one.partition.as_str(), one.calls, one.state)).collect();
    let expected = [("api_usage_log_2024_12", 12, DropState::Gone), ("api_usage_log_2025_01", 12, DropState::Gone)];
    assert_eq!(names, expected);
    assert_eq!(rollups(&client).await, before, "rollups and lifetime totals are as they were");
    assert_equal(&db, 13, 24).await;
    let left = partitions::list(&client).await.unwrap();
    assert!(left.iter().all(|one| one.name != "api_usage_log_2025_01") && left[0].sealed && left[0].owned, "{left:?}");
    let noted = "SELECT string_agg(actor || ' ' || object || ' ' || (old_value ->> 'calls'), ', ' ORDER BY id) FROM tallyd_audit_log";
    assert_eq!(value(&client, noted).await, "tester api_usage_log_2024_12 12, tester api_usage_log_2025_01 12");
    let sums = "SELECT sum(calls) || ' ' || sum(unpriced_calls) FROM tallyd_dropped_partitions";
    assert_eq!(value(&client, sums).await, "24 6");
    assert!(drop_before(&client, at("2025-02-28T00:00:00Z"), &TESTER, None, |_| {}).await.unwrap().is_empty());

    // Reconciliation notices an altered row in each of the three tables.
    for (table, column) in [
        ("tallyd_dropped_costs", "cost_usd"),
        ("tallyd_dropped_user_costs", "errors"),
        ("tallyd_dropped_totals", "input_tokens"),
    ] {
        client.batch_execute(&format!("UPDATE {table} SET {column} = {column} + 1")).await.unwrap();
        let mut other = db.connect("reconcile").await.unwrap();
        assert!(!reconcile(&mut other).await.unwrap().equal, "{table}");
        client.batch_execute(&format!("UPDATE {table} SET {column} = {column} - 1")).await.unwrap();
    }
    client.batch_execute("UPDATE tallyd_dropped_totals SET first_call_at = '2020-01-01'").await.unwrap();
    assert!(!reconcile(&mut db.connect("reconcile").await.unwrap()).await.unwrap().equal);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_come_late_for_a_dropped_period_are_counted_and_dropped_in_their_turn() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("drop").await.unwrap();
    let before = at("2025-03-01T00:00:00Z");
    for round in 1..=3 {
        calls(&client, &["2025-01"]).await;
        assert_equal(&db, 12, 12 * (round - 1)).await;
        let dropped = drop_before(&client, before, &TESTER, None, |_| {}).await.unwrap();
        assert_eq!(dropped.iter().map(|one| one.calls).sum::<i64>(), 12);
        assert_equal(&db, 0, 12 * round).await;
    }
    assert_eq!(value(&client, "SELECT sum(calls) FROM user_api_totals").await, "36");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_is_waited_for_and_missed_by_nobody() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("drop").await.unwrap();
    calls(&client, &["2025-01"]).await;
    let writer = db.connect("writer").await.unwrap();
    writer.batch_execute("BEGIN").await.unwrap();
    calls(&writer, &["2025-01"]).await;
    let before = at("2025-03-01T00:00:00Z");
    // The writer does not end: nothing is dropped, and nothing lost.
    let dropped = drop_before(&client, before, &TESTER, None, |_| {}).await.unwrap();
    assert_eq!((dropped[0].state, dropped[0].calls), (DropState::Busy, 0));
    assert_equal(&db, 12, 0).await;
    // The writer ends while the drop waits for it.
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { drop_before(&db.connect("waits").await.unwrap(), before, &TESTER, None, |_| {}).await.unwrap() }
    });
    until_waiting(&client, "waits").await;
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap()[0].calls, 24);
    assert_equal(&db, 0, 24).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_waited_for_and_what_arrives_for_an_empty_partition_counts() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("drop").await.unwrap();
    calls(&client, &["2025-01"]).await;
    let before = at("2025-03-01T00:00:00Z");
    let reader = db.connect("reader").await.unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM api_usage_log_2025_01").await.unwrap();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { drop_before(&db.connect("waits").await.unwrap(), before, &TESTER, None, |_| {}).await.unwrap() }
    });
    until_waiting(&client, "waits").await;
    // Meanwhile calls of other partitions are loaded, and reconciliation runs.
    calls(&client, &["2025-02"]).await;
    // A reader always holds a lock on the call log: the empty partition stays.
    reader.batch_execute("ROLLBACK; BEGIN; LOCK TABLE ONLY api_usage_log IN ACCESS SHARE MODE").await.unwrap();
    let dropped = waiting.await.unwrap();
    assert_eq!((dropped[0].state, dropped[0].calls), (DropState::Emptied, 12));
    assert_equal(&db, 12, 12).await;
    calls(&client, &["2025-01"]).await;
    assert_equal(&db, 24, 12).await;
    reader.batch_execute("ROLLBACK").await.unwrap();
    let dropped = drop_before(&client, at("2025-02-01T00:00:00Z"), &TESTER, None, |_| {}).await.unwrap();
    assert_eq!((dropped[0].state, dropped[0].calls), (DropState::Gone, 12));
    assert_equal(&db, 12, 24).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_between_emptying_and_dropping_is_not_dropped_uncounted() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("drop").await.unwrap();
    calls(&client, &["2025-01"]).await;
    // This session's lock keeps the drop from locking the whole call log, and the session can write meanwhile.
    let writer = db.connect("writer").await.unwrap();
    writer.batch_execute("BEGIN; LOCK TABLE ONLY api_usage_log IN ROW EXCLUSIVE MODE").await.unwrap();
    let dropping = tokio::spawn({
        let db = db.clone();
        let before = at("2025-03-01T00:00:00Z");
        async move { drop_before(&db.connect("waits").await.unwrap(), before, &TESTER, None, |_| {}).await.unwrap() }
    });
    until_waiting(&client, "waits").await;
    assert_eq!(value(&client, "SELECT count(*) FROM api_usage_log_2025_01").await, "0", "it is empty");
    calls(&writer, &["2025-01"]).await;
    writer.batch_execute("COMMIT").await.unwrap();
    let dropped = dropping.await.unwrap();
    assert_eq!((dropped[0].state, dropped[0].calls), (DropState::Gone, 24));
    assert_equal(&db, 0, 24).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_drop_each_partition_once() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("drop").await.unwrap();
    calls(&client, &["2024-10", "2024-11", "2024-12", "2025-01"]).await;
    let before = at("2025-03-01T00:00:00Z");
    let droppers = (0..4).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            let client = db.connect("drop").await.unwrap();
            match drop_before(&client, before, &TESTER, None, |_| {}).await {
                Ok(dropped) => dropped.iter().map(|one| one.calls).sum::<i64>(),
                Err(RetentionError::Taken) => 0,
                Err(error) => panic!("{error}"),
            }
        })
    });
    let dropped: i64 = futures_util::future::join_all(droppers).await.into_iter().map(Result::unwrap).sum();
    assert!(dropped <= 48, "{dropped}");
    // A drop that gave way may have left some partitions.
    drop_before(&client, before, &TESTER, None, |_| {}).await.unwrap();
    assert_equal(&db, 0, 48).await;
    assert_eq!(value(&client, "SELECT sum(calls) FROM tallyd_dropped_partitions").await, "48");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_keeps_what_was_dropped_in_any_zone() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut client = db.connect("drop").await.unwrap();
    calls(&client, &["2024-12", "2025-01", "2025-02"]).await;
    drop_before(&client, at("2025-02-01T00:00:00Z"), &TESTER, None, |_| {}).await.unwrap();
    let sums = "SELECT sum(calls) || ' ' || sum(cost_usd) || ' ' || sum(errors) || ' ' || min(first_call_at) || ' ' || \
        max(last_call_at) FROM user_api_totals";
    let before = value(&client, sums).await;
    rebuild_rollups(&mut client, "UTC", &TESTER).await.unwrap();
    assert_equal(&db, 12, 24).await;
    assert_eq!(value(&client, sums).await, before);

    // The call log goes back further than the dropped partitions, so that all of them are computed anew, in each zone.
    calls(&client, &["2024-06"]).await;
    for zone in ["UTC", "Pacific/Auckland"] {
        rebuild_rollups(&mut client, zone, &TESTER).await.unwrap();
        assert_equal(&db, 24, 24).await;
    }
    // Partitions that are dropped now have this zone's days, and so do later calls.
    drop_before(&client, at("2024-07-01T00:00:00Z"), &TESTER, None, |_| {}).await.unwrap();
    calls(&client, &["2024-05", "2024-06"]).await;
    assert_equal(&db, 36, 36).await;
    rebuild_rollups(&mut client, "America/Los_Angeles", &TESTER).await.unwrap();
    assert_equal(&db, 36, 36).await;
    // With an empty call log.
    drop_before(&client, at("2025-03-01T00:00:00Z"), &TESTER, None, |_| {}).await.unwrap();
    rebuild_rollups(&mut client, "UTC", &TESTER).await.unwrap();
    assert_equal(&db, 0, 72).await;
    db.close().await;
}

/// A partition is dropped while reconciliation begins: the call log and the sums that it reads are of one state.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_begins_while_a_partition_goes_holds() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("drop").await.unwrap();
    calls(&client, &["2025-01"]).await;
    client
        .batch_execute(
            "BEGIN; LOCK TABLE api_usage_log IN ACCESS EXCLUSIVE MODE; \
             INSERT INTO tallyd_dropped_costs TABLE daily_api_costs; \
             INSERT INTO tallyd_dropped_user_costs TABLE daily_user_api_costs; \
             INSERT INTO tallyd_dropped_totals TABLE user_api_totals; \
             INSERT INTO tallyd_dropped_dimension_costs TABLE daily_dimension_costs; \
             INSERT INTO tallyd_dropped_hour_costs TABLE hourly_api_costs; DROP TABLE api_usage_log_2025_01",
        )
        .await
        .unwrap();
    let proving = tokio::spawn({
        let db = db.clone();
        async move { reconcile(&mut db.connect("waits").await.unwrap()).await.unwrap() }
    });
    until_waiting(&db.connect("looks").await.unwrap(), "waits").await;
    client.batch_execute("COMMIT").await.unwrap();
    let found = proving.await.unwrap();
    assert!(found.equal, "{:?}", found.differences);
    assert_eq!((found.log_rows, found.dropped_rows), (0, 12));
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_drops() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("drop").await.unwrap();
    calls(&client, &["2025-01"]).await;
    client.batch_execute("SET ROLE tallyd_writer").await.unwrap();
    let error = drop_before(&client, at("2025-03-01T00:00:00Z"), &TESTER, None, |_| {}).await.unwrap_err();
    assert!(matches!(error, RetentionError::NotOwner { .. }), "{error}");
    for part in ["tallyd_writer", "api_usage_log_2025_01", "tallyd partitions drop"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(value(&client, "SELECT count(*) FROM api_usage_log").await, "12");
    db.close().await;
}
