//! Any number of daemons migrate a database together, and agree about its contents.

use tallyd_store::{MigrateError, MigrateOptions, migrate, rebuild_rollups, reconcile};

use crate::support::{TESTER, data_dir, database, migrate_options, migrated, value};

#[tokio::test(flavor = "multi_thread")]
async fn four_at_once_apply_each_file_once() {
    let dir = data_dir();
    let db = database(dir.path()).await;
    let daemons = (0..4).map(|_| {
        let db = db.clone();
        tokio::spawn(async move { migrate(&mut db.connect("m").await.unwrap(), &migrate_options()).await.unwrap() })
    });
    let reports: Vec<_> = futures_util::future::join_all(daemons).await.into_iter().map(Result::unwrap).collect();
    let mut applied: Vec<&str> = reports.iter().flat_map(|report| &report.applied).map(String::as_str).collect();
    applied.sort_unstable();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut expected: Vec<_> = names.filter_map(|name| name.strip_suffix(".sql").map(str::to_owned)).collect();
    expected.sort_unstable();
    assert_eq!(applied, expected);
    for report in &reports {
        assert_eq!(report.database_id, reports[0].database_id);
        assert_eq!(report.partitions.len(), 3);
        assert_eq!(report.partitions, reports[0].partitions);
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_a_newer_database_and_a_failure_change_nothing() {
    let dir = data_dir();
    let db = database(dir.path()).await;
    let mut client = db.connect("m").await.unwrap();
    client.batch_execute("CREATE TABLE tallyd_settings (mine int)").await.unwrap();
    let error = migrate(&mut client, &migrate_options()).await.unwrap_err().to_string();
    assert!(error.contains("V3__ingestion") && error.contains("already exists"), "{error}");
    assert_eq!(value(&client, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").await, "1");
    client.batch_execute("DROP TABLE tallyd_settings").await.unwrap();
    migrate(&mut client, &migrate_options()).await.unwrap();
    assert_eq!(migrate(&mut client, &migrate_options()).await.unwrap().applied, Vec::<String>::new());

    client.batch_execute("UPDATE tallyd_schema_history SET checksum = '1' WHERE version = 2").await.unwrap();
    let error = migrate(&mut client, &migrate_options()).await.unwrap_err();
    assert!(matches!(&error, MigrateError::Diverged { name } if name == "V2__rollups"), "{error}");
    client
        .batch_execute("DELETE FROM tallyd_schema_history; INSERT INTO tallyd_schema_history VALUES (99, 'x', '', '1')")
        .await
        .unwrap();
    let error = migrate(&mut client, &migrate_options()).await.unwrap_err();
    assert!(matches!(&error, MigrateError::Newer { name } if name == "V99__x"), "{error}");
    db.close().await;
}

fn in_zone(zone: &str) -> MigrateOptions {
    MigrateOptions { reporting_time_zone: Some(zone.into()), ..migrate_options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_zone_is_free_until_something_is_recorded_and_then_takes_a_rebuild() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut client = db.connect("m").await.unwrap();
    migrate(&mut client, &in_zone("America/New_York")).await.unwrap();
    let unknown = migrate(&mut client, &in_zone("EST5")).await.unwrap_err();
    assert!(matches!(unknown, MigrateError::UnknownTimeZone { .. }), "{unknown}");

    let call = "SELECT increment_daily_cost('claude', user_id => 'u', cost_usd => 0.1, occurred_at => '2026-03-01 03:00Z'), \
        increment_daily_cost('claude', user_id => 'u', cost_usd => 0.2, occurred_at => '2026-03-02 12:00Z', status => 500), \
        increment_daily_cost('rentcast', endpoint => '/a', occurred_at => '2026-03-02 03:00Z')";
    client.batch_execute(call).await.unwrap();
    let days = "SELECT string_agg(day || ' ' || provider || ' ' || cost_usd, ', ' ORDER BY day, provider) FROM daily_api_costs";
    assert_eq!(value(&client, days).await, "2026-02-28 claude 0.1, 2026-03-01 rentcast 0, 2026-03-02 claude 0.2");

    let refused = migrate(&mut client, &in_zone("Asia/Tokyo")).await.unwrap_err().to_string();
    for part in ["America/New_York", "Asia/Tokyo", "tallyd rollups rebuild --time-zone Asia/Tokyo"] {
        assert!(refused.contains(part), "{refused}");
    }
    rebuild_rollups(&mut client, "Asia/Tokyo", &TESTER).await.unwrap();
    migrate(&mut client, &in_zone("Asia/Tokyo")).await.unwrap();
    assert_eq!(value(&client, days).await, "2026-03-01 claude 0.1, 2026-03-02 claude 0.2, 2026-03-02 rentcast 0");
    let outcome = reconcile(&mut client).await.unwrap();
    assert!(outcome.equal, "{outcome:?}");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_repairs_the_rollups_and_keeps_what_only_they_still_know() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut client = db.connect("m").await.unwrap();
    let calls = "SELECT increment_daily_cost('claude', user_id => 'old', cost_usd => 5, occurred_at => '2026-01-10 12:00Z'), \
        increment_daily_cost('claude', user_id => 'both', cost_usd => 7, occurred_at => '2026-01-11 12:00Z'), \
        increment_daily_cost('claude', user_id => 'both', cost_usd => 1, occurred_at => '2026-05-11 12:00Z')";
    client.batch_execute(calls).await.unwrap();
    client.batch_execute("DROP TABLE api_usage_log_2026_01").await.unwrap();
    client
        .batch_execute(
            "UPDATE daily_api_costs SET calls = calls + 1 WHERE day = '2026-05-11'; \
        UPDATE tallyd_user_totals SET cost_usd = 0, last_call_at = 'infinity' WHERE user_id = 'both'; \
        INSERT INTO tallyd_user_days VALUES ('2026-06-01', 'ghost', 'claude', 1)",
        )
        .await
        .unwrap();
    rebuild_rollups(&mut client, "UTC", &TESTER).await.unwrap();
    let totals = "SELECT string_agg(concat_ws(' ', user_id, calls, cost_usd, first_call_at::date, last_call_at::date), ', ' \
        ORDER BY user_id) FROM user_api_totals";
    assert_eq!(value(&client, totals).await, "both 2 8 2026-01-11 2026-05-11, old 1 5 2026-01-10 2026-01-10");
    let days = "SELECT string_agg(day || ' ' || calls || ' ' || cost_usd, ', ' ORDER BY day) FROM daily_api_costs";
    assert_eq!(value(&client, days).await, "2026-01-10 1 5, 2026-01-11 1 7, 2026-05-11 1 1");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_waits_for_writers_and_misses_none() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut writer = db.connect("writer").await.unwrap();
    let half_way = writer.transaction().await.unwrap();
    half_way.batch_execute("SELECT increment_daily_cost('claude', cost_usd => 1)").await.unwrap();
    let other = db.clone();
    let rebuild = tokio::spawn(async move {
        rebuild_rollups(&mut other.connect("rebuild").await.unwrap(), "Asia/Tokyo", &TESTER).await
    });
    let mut watcher = db.connect("watcher").await.unwrap();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rebuild' AND wait_event_type = 'Lock'";
    while value(&watcher, waiting).await == "0" {
        assert!(!rebuild.is_finished(), "it did not wait for a writer that has rows in the log");
    }
    // A call in SQL that arrives meanwhile is booked into a day of the new zone.
    let late = db.connect("late").await.unwrap();
    let late = tokio::spawn(async move {
        let call = "SELECT increment_daily_cost('claude', cost_usd => 1, occurred_at => '2026-05-01 20:00Z')";
        late.batch_execute(call).await
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'late' AND wait_event_type = 'Lock'";
    while value(&watcher, waiting).await == "0" {
        assert!(!late.is_finished(), "it did not wait for the rebuild");
    }
    half_way.commit().await.unwrap();
    rebuild.await.unwrap().unwrap();
    late.await.unwrap().unwrap();
    let outcome = reconcile(&mut watcher).await.unwrap();
    assert!(outcome.equal && outcome.log_rows == 2, "{outcome:?}");
    assert_eq!(value(&watcher, "SELECT min(day) FROM daily_api_costs").await, "2026-05-02");
    db.close().await;
}
