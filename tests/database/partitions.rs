//! Partitions exist when they are needed, next to any that existed before.

use tokio_postgres::Client;

use crate::support::{data_dir, migrated, value};

async fn ensure(client: &Client, at: &str, granularity: &str) -> String {
    value(client, &format!("SELECT tallyd_ensure_partition('{at}', '{granularity}')")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn months_and_days_stand_side_by_side() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("p").await.unwrap();
    // Bounds and names are in UTC, in a session of any time zone.
    client.batch_execute("SET timezone = 'Pacific/Auckland'; SET datestyle = 'SQL, DMY'").await.unwrap();
    assert_eq!(ensure(&client, "2025-01-31 23:59:59.999999Z", "month").await, "api_usage_log_2025_01");
    assert_eq!(ensure(&client, "2025-02-01 00:00Z", "month").await, "api_usage_log_2025_02");
    assert_eq!(ensure(&client, "2025-02-10 00:00Z", "day").await, "api_usage_log_2025_02", "it holds the day already");
    assert_eq!(ensure(&client, "2025-03-10 23:00Z", "day").await, "api_usage_log_2025_03_10");
    assert_eq!(
        ensure(&client, "2025-03-11 00:00Z", "month").await,
        "api_usage_log_2025_03_11",
        "a month would overlap"
    );
    assert_eq!(ensure(&client, "2025-03-10 01:00Z", "month").await, "api_usage_log_2025_03_10");
    assert_eq!(ensure(&client, "2025-04-01 01:00Z", "month").await, "api_usage_log_2025_04");

    // A partition made by hand, with its own name and bounds.
    client
        .batch_execute("CREATE TABLE by_hand PARTITION OF api_usage_log FOR VALUES FROM ('2025-06-01 00:00Z') TO ('2025-07-15 00:00Z')")
        .await
        .unwrap();
    assert_eq!(ensure(&client, "2025-07-14 12:00Z", "month").await, "by_hand");
    assert_eq!(ensure(&client, "2025-07-15 12:00Z", "month").await, "api_usage_log_2025_07_15");

    let names = "SELECT string_agg(p, ' ') FROM tallyd_ensure_partitions('2025-02-27 00:00Z', '2025-03-02 00:00Z', 'month') AS p";
    assert_eq!(value(&client, names).await, "api_usage_log_2025_02 api_usage_log_2025_03_01 api_usage_log_2025_03_02");

    for wrong in ["'2025-01-01', 'week'", "'infinity', 'day'", "NULL, 'day'", "now(), NULL"] {
        assert!(client.batch_execute(&format!("SELECT tallyd_ensure_partition({wrong})")).await.is_err(), "{wrong}");
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_dropped_or_detached_is_made_again() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("p").await.unwrap();
    let at = "2025-01-15 00:00Z";
    assert_eq!(ensure(&client, at, "month").await, "api_usage_log_2025_01");
    client.batch_execute("DROP TABLE api_usage_log_2025_01").await.unwrap();
    assert_eq!(ensure(&client, at, "month").await, "api_usage_log_2025_01");
    let call = "SELECT increment_daily_cost('x', occurred_at => '2025-01-15 00:00Z')";
    client.batch_execute(call).await.unwrap();
    client.batch_execute("ALTER TABLE api_usage_log DETACH PARTITION api_usage_log_2025_01").await.unwrap();
    assert_eq!(ensure(&client, at, "month").await, "api_usage_log_2025_01_v2");
    assert_eq!(ensure(&client, at, "month").await, "api_usage_log_2025_01_v2");
    client.batch_execute(call).await.unwrap();
    assert_eq!(
        value(&client, "SELECT count(*) FROM api_usage_log").await,
        "1",
        "the detached rows stay out of the log"
    );
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_callers_make_one_and_nobody_waits_who_loads() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    // A session in the middle of loading another partition.
    let mut loading = db.connect("copy").await.unwrap();
    let load = loading.transaction().await.unwrap();
    load.batch_execute("INSERT INTO api_usage_log (occurred_at, id, provider) VALUES (now(), gen_random_uuid(), 'x')")
        .await
        .unwrap();
    let callers = (0..8).map(|caller| {
        let db = db.clone();
        tokio::spawn(async move {
            let client = db.connect("p").await.unwrap();
            client.batch_execute("SET lock_timeout = '20s'").await.unwrap();
            ensure(&client, "2025-05-05 00:00Z", if caller % 2 == 0 { "month" } else { "day" }).await
        })
    });
    let names: Vec<String> = futures_util::future::join_all(callers).await.into_iter().map(Result::unwrap).collect();
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    load.commit().await.unwrap();
    let client = db.connect("p").await.unwrap();
    assert_eq!(
        value(&client, "SELECT count(*) FROM pg_class WHERE relname LIKE 'api_usage_log_2025_05%' AND relkind = 'r'")
            .await,
        "1"
    );
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_like_the_log() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("p").await.unwrap();
    let name = ensure(&client, "2025-05-05 00:00Z", "day").await;
    let columns = |table: &str| {
        format!(
            "SELECT string_agg(concat_ws(' ', attnum, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)), ', ' ORDER BY attnum) \
         FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = '{table}'::regclass AND attnum > 0"
        )
    };
    assert_eq!(value(&client, &columns(&name)).await, value(&client, &columns("api_usage_log")).await);
    let index = format!(
        "SELECT count(*) FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid \
        WHERE inhparent = 'api_usage_log_occurred_at'::regclass AND indrelid = '{name}'::regclass"
    );
    assert_eq!(value(&client, &index).await, "1");
    db.close().await;
}
