//! Upkeep: partitions ahead, the users' index, the catalog as rows.

use tallyd_config::UserIndex;
use tallyd_model::pricing::{Catalog, PricingOptions};
use tallyd_store::locks::Lock;
use tallyd_store::prices::write_catalog;
use tallyd_store::upkeep::{UpkeepOptions, upkeep};
use tallyd_store::{Granularity, MigrateOptions, migrate};

use crate::support::{data_dir, migrate_options, migrated, value};

const BUILT: &str = "SELECT coalesce(string_agg(x.relname, ' ' ORDER BY x.relname), '') FROM pg_index i \
     JOIN pg_class x ON x.oid = i.indexrelid WHERE x.relname LIKE 'api\\_usage%\\_user' AND i.indisvalid";

fn options(user_index: UserIndex) -> UpkeepOptions {
    UpkeepOptions { granularity: Granularity::Month, partitions_ahead: 2, user_index }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_indexed_once_its_time_is_over() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("upkeep").await.unwrap();
    client.batch_execute("SELECT tallyd_ensure_partition('2025-01-15Z', 'month')").await.unwrap();
    assert!(upkeep(&db, &client, options(UserIndex::Never)).await.unwrap().is_empty());
    assert_eq!(upkeep(&db, &client, options(UserIndex::Sealed)).await.unwrap(), ["api_usage_log_2025_01_user"]);
    assert!(upkeep(&db, &client, options(UserIndex::Sealed)).await.unwrap().is_empty(), "it is there");
    assert_eq!(value(&client, BUILT).await, "api_usage_log_2025_01_user");

    // An index that was left half-built is built again.
    client
        .batch_execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'api_usage_log_2025_01_user'::regclass",
        )
        .await
        .unwrap();
    assert_eq!(upkeep(&db, &client, options(UserIndex::Sealed)).await.unwrap(), ["api_usage_log_2025_01_user"]);

    // An index that another daemon is building looks half-built. It is left alone while that daemon has the lock.
    let other = db.connect("another daemon").await.unwrap();
    other.batch_execute("BEGIN; SELECT FROM tallyd_locks WHERE name = 'upkeep' FOR UPDATE").await.unwrap();
    assert!(upkeep(&db, &client, options(UserIndex::Always)).await.unwrap().is_empty());
    other.batch_execute("COMMIT").await.unwrap();

    // The current partition and the following ones get it, too.
    assert_eq!(upkeep(&db, &client, options(UserIndex::Always)).await.unwrap().len(), 3);
    assert!(Lock::Upkeep.try_take(&client).await.unwrap(), "upkeep has left its lock behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_price_of_the_catalog_can_be_looked_up() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut client = db.connect("prices").await.unwrap();
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    write_catalog(&client, &catalog).await.unwrap();
    client.batch_execute("UPDATE api_prices SET source = 'altered'").await.unwrap();
    write_catalog(&client, &catalog).await.unwrap();
    let count =
        value(&client, "SELECT count(*) FROM api_prices WHERE origin = 'builtin' AND source <> 'altered'").await;
    assert_eq!(count, catalog.prices().len().to_string());
    let input = "SELECT rates #>> '{}' LIKE '%3%' FROM api_prices WHERE model = 'claude-sonnet-4-5' LIMIT 1";
    assert_eq!(value(&client, input).await, "t");
    // A migration leaves them alone.
    migrate(&mut client, &MigrateOptions { partitions_ahead: 3, ..migrate_options() }).await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) FROM api_prices").await, count);
}
