//! Citus on a PostgreSQL without it: stand-ins of its functions record their calls.

use std::process::{Command, Output};

use tallyd_store::citus::{CitusError, SPREAD, column, distribute, plan};
use tallyd_store::embedded::{DATABASE, Embedded, USER};
use tallyd_store::migrate;
use tokio_postgres::Client;

use crate::support::{data_dir, migrate_options, session, value};

/// Citus's two functions and its catalogs of distributed tables and nodes, with the same signatures. A table that is named in
/// `stub.refused` fails.
const STAND_IN: &str = "
    CREATE SCHEMA stub;
    CREATE TABLE stub.pg_dist_partition (logicalrelid regclass, said text);
    CREATE TABLE stub.refused (relation regclass);
    CREATE FUNCTION stub.create_distributed_table(table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
        colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM stub.refused WHERE relation = table_name) THEN RAISE 'a node is away'; END IF;
        INSERT INTO stub.pg_dist_partition VALUES (table_name, concat_ws(' ', distribution_column, distribution_type, shard_count, colocate_with));
    END $$;
    CREATE TABLE stub.pg_dist_node (isactive bool DEFAULT true, shouldhaveshards bool, noderole text DEFAULT 'primary');
    INSERT INTO stub.pg_dist_node (shouldhaveshards) VALUES (false), (true), (true), (true);
    CREATE TABLE stub.cleared (relation regclass);
    CREATE FUNCTION stub.truncate_local_data_after_distributing_table(function_name regclass) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO stub.cleared VALUES (function_name);
        EXECUTE format('TRUNCATE %s', function_name);
    END $$;";

async fn cluster(dir: &std::path::Path) -> (Embedded, Client) {
    let cluster = Embedded::open(dir, None).await.unwrap();
    let mut client = session(&cluster).await;
    migrate(&mut client, &migrate_options()).await.unwrap();
    (cluster, client)
}

/// Installs the stand-in for this session and all later ones, as Citus's own functions are visible in every session.
async fn stand_in(client: &Client) {
    let path = format!("ALTER DATABASE {DATABASE} SET search_path = public, stub; SET search_path = public, stub");
    client.batch_execute(STAND_IN).await.unwrap();
    client.batch_execute(&path).await.unwrap();
}

fn tallyd(cluster: &Embedded, words: &[&str]) -> Output {
    let url = format!("postgresql://{USER}@localhost/{DATABASE}?host={}", cluster.host().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
    command.args(["migrate", "--database-url", &url]).args(words).env_clear().current_dir(cluster.host());
    command.output().unwrap()
}

const SAID: &str = "SELECT string_agg(logicalrelid || ': ' || said, ', ' ORDER BY ctid) FROM stub.pg_dist_partition";
const CLEARED: &str = "SELECT string_agg(relation::text, ', ' ORDER BY ctid) FROM stub.cleared";
/// Three nodes take shards; each table has two for each of them.
const ALL: &str = "api_usage_log: id hash 6 none, tallyd_user_days: user_id hash 6 none, \
    tallyd_user_totals: user_id hash public.tallyd_user_days, tallyd_user_deltas_0: user_id hash public.tallyd_user_days, \
    tallyd_user_deltas_1: user_id hash public.tallyd_user_days, tallyd_user_list: user_id hash public.tallyd_user_days, \
    tallyd_user_list_due: user_id hash public.tallyd_user_days, tallyd_dropped_user_costs: user_id hash public.tallyd_user_days, \
    tallyd_dropped_totals: user_id hash public.tallyd_user_days";

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_is_missing_shows_its_sql_and_runs_it_once() {
    let dir = data_dir();
    let (cluster, client) = cluster(dir.path()).await;

    let missing = tallyd(&cluster, &["--citus", "--yes"]);
    let said = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(1), "{said}");
    assert!(said.contains("this database has no Citus") && said.contains("CREATE EXTENSION citus"), "{said}");
    let alone = tallyd(&cluster, &["--dry-run"]);
    assert_eq!(alone.status.code(), Some(2), "--dry-run without --citus is called wrongly");

    let shown = tallyd(&cluster, &["--citus", "--dry-run"]);
    let sql = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && sql.lines().count() == 2 * SPREAD.len(), "{sql}");
    stand_in(&client).await;
    assert_eq!(value(&client, SAID).await, "NULL", "showing it changes nothing");
    // The shown SQL runs as it is, with as many shards as were asked for.
    let shown = tallyd(&cluster, &["--citus", "--shards", "16", "--dry-run"]);
    let sql = String::from_utf8(shown.stdout).unwrap();
    client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
    assert_eq!(value(&client, SAID).await, ALL.replace("hash 6", "hash 16"));
    client.batch_execute("ROLLBACK").await.unwrap();

    let moved = tallyd(&cluster, &["--citus", "--yes", "--json"]);
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    let report: serde_json::Value = serde_json::from_slice(&moved.stdout).unwrap();
    assert_eq!(report["distributed"].as_array().unwrap().len(), 2 * SPREAD.len());
    assert_eq!(value(&client, SAID).await, ALL);
    let again = tallyd(&cluster, &["--citus", "--yes"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("0 tables were moved"), "{again:?}");
    assert_eq!(value(&client, SAID).await, ALL, "once");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leaves_the_rest_for_the_next_run() {
    let dir = data_dir();
    let (cluster, client) = cluster(dir.path()).await;
    stand_in(&client).await;
    client.batch_execute("INSERT INTO stub.refused VALUES ('tallyd_user_totals')").await.unwrap();
    let todo = plan(&client, None).await.unwrap();
    let mut told = Vec::new();
    let error = distribute(&client, &todo, |statement| told.push(statement.to_owned())).await.unwrap_err();
    assert!(
        matches!(&error, CitusError::Statement { statement, .. } if statement.contains("tallyd_user_totals")),
        "{error}"
    );
    assert!(error.to_string().contains("a node is away"), "{error}");
    assert_eq!(told.len(), 5);
    client.batch_execute("DELETE FROM stub.refused").await.unwrap();
    let rest = plan(&client, None).await.unwrap();
    assert_eq!(rest.statements, todo.statements[4..]);
    distribute(&client, &rest, |_| {}).await.unwrap();
    assert_eq!(value(&client, SAID).await, ALL);
    assert_eq!(value(&client, CLEARED).await, SPREAD.join(", "));
    assert!(plan(&client, None).await.unwrap().statements.is_empty());

    // A failure between the two statements of a table leaves rows on the coordinator. The next run truncates them.
    client.batch_execute("SELECT increment_daily_cost(provider => 'claude', user_id => 'u')").await.unwrap();
    let left = ["api_usage_log", "tallyd_user_deltas_0"]
        .map(|table| format!("SELECT truncate_local_data_after_distributing_table('public.{table}')"));
    assert_eq!(plan(&client, None).await.unwrap().statements, left);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_has_what_citus_demands() {
    let dir = data_dir();
    let (cluster, client) = cluster(dir.path()).await;
    for table in SPREAD {
        let count = async |sql: String| value(&client, &sql).await;
        let columns = count(format!(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = '{}'",
            column(table)
        ));
        assert_eq!(columns.await, "1", "{table}");
        let triggers =
            format!("SELECT count(*) FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal");
        assert_eq!(count(triggers).await, "0", "{table} has a trigger, which Citus does not take");
        let foreign = format!(
            "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND '{table}'::regclass IN (conrelid, confrelid)"
        );
        assert_eq!(count(foreign).await, "0", "{table} has a foreign key");
        let policies = format!(
            "SELECT count(*) FROM pg_policy WHERE polrelid = '{table}'::regclass AND pg_get_expr(polqual, polrelid) ~* 'select'"
        );
        assert_eq!(count(policies).await, "0", "a policy of {table} has a subselect, which cannot be pushed down");
    }
    // A unique index of somebody else is found before any table is moved.
    plan(&client, None).await.unwrap();
    client.batch_execute("CREATE UNIQUE INDEX mine ON tallyd_user_days (day, provider, updated_at)").await.unwrap();
    let error = plan(&client, None).await.unwrap_err();
    assert!(
        matches!(&error, CitusError::UniqueKey { table, index } if table == "tallyd_user_days" && index == "mine"),
        "{error}"
    );
    cluster.stop().await;
}

/// A user's table in `public` with the name of Citus's catalog does not count as Citus.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_made_by_the_name_of_citus_own_holds_nobody_back() {
    let dir = data_dir();
    let (cluster, mut client) = cluster(dir.path()).await;
    let made = "CREATE TABLE public.pg_dist_partition AS SELECT 'public.api_usage_log'::regclass AS logicalrelid";
    client.batch_execute(made).await.unwrap();
    // A batch is being loaded. On a distributed database `reconcile` would wait for it behind a fence.
    let loading = session(&cluster).await;
    loading.batch_execute("BEGIN; LOCK TABLE public.ingest_watermark IN ROW EXCLUSIVE MODE").await.unwrap();
    client.batch_execute("SET lock_timeout = '2s'").await.unwrap();
    assert!(tallyd_store::reconcile(&mut client).await.unwrap().equal);
}
