//! The initial schema equals that of the former migration files, and databases of these files are taken over.
//!
//! `migrations_before/` has the former files, unchanged.

use std::process::Command;
use std::time::{Duration, Instant};

use refinery::Migration;
use tallyd_store::embedded::{DATABASE, USER};
use tallyd_store::{Database, MigrateError, migrate, reconcile};
use tokio_postgres::{Client, NoTls};

use crate::supabase::{Grants, Project};
use crate::support::{data_dir, database, migrate_options, value};

const FORMER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/database/migrations_before");
const PRESENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
/// The last present file that stands for former ones.
const LAST: i32 = 12;

/// A folder's files in order.
fn files(folder: &str) -> Vec<Migration> {
    let mut files: Vec<Migration> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "sql"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            Migration::unapplied(name, &std::fs::read_to_string(&path).unwrap()).unwrap()
        })
        .collect();
    files.sort();
    files
}

/// Migrates as a daemon with these files does at its start.
async fn migrate_with(client: &Client, files: impl Iterator<Item = Migration>) {
    let history = "CREATE TABLE public.tallyd_schema_history \
        (version int4 PRIMARY KEY, name text NOT NULL, applied_on text NOT NULL, checksum text NOT NULL)";
    client.batch_execute(history).await.unwrap();
    for file in files {
        client.batch_execute(file.sql().unwrap()).await.unwrap_or_else(|error| panic!("{file}: {error:?}"));
        let note = "INSERT INTO tallyd_schema_history VALUES ($1, $2, '2026-11-29T12:00:00Z', $3)";
        client.execute(note, &[&file.version(), &file.name(), &file.checksum().to_string()]).await.unwrap();
    }
    let start =
        "SELECT tallyd_ensure_partitions(now(), now() + interval '2 months', 'month'); SELECT tallyd_protect_all()";
    client.batch_execute(start).await.unwrap();
}

/// A session with another database of the cluster.
async fn enter(db: &Database, name: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    let host = db.embedded().unwrap().host();
    let (client, driver) = config.host_path(host).user(USER).dbname(name).connect(NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

/// The output of `pg_dump` without parts that may differ: the rows of the history and of the delta ring, the database's
/// identity and the order of grants. PostgreSQL keeps an object's grants in the order in which they were made.
fn dump(db: &Database, name: &str, more: &[&str]) -> String {
    let cluster = db.embedded().unwrap();
    let output = Command::new(cluster.programs().unwrap().join("pg_dump"))
        .args(more)
        .args(["-U", USER, "--exclude-table-data=public.tallyd_schema_history", "-d", name])
        .args(["--exclude-table-data=public.tallyd_delta_ring", "-h"])
        .arg(cluster.host())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let kept =
        |line: &&str| !["\\restrict ", "\\unrestrict ", "database_id\t"].iter().any(|start| line.starts_with(start));
    let mut lines: Vec<&str> = text.lines().filter(kept).collect();
    for grants in lines.chunk_by_mut(|a, b| a.starts_with("GRANT ") && b.starts_with("GRANT ")) {
        grants.sort_unstable();
    }
    lines.join("\n")
}

/// Fails with the first line that differs.
fn assert_same(former: &str, present: &str) {
    for (number, (was, is)) in former.lines().zip(present.lines()).enumerate() {
        assert_eq!(was, is, "line {number} of pg_dump");
    }
    assert_eq!(former.lines().count(), present.lines().count());
}

/// The history as text. With the times if `times` is "applied_on".
async fn history(client: &Client, times: &str) -> String {
    let sql = format!(
        "SELECT string_agg(concat_ws(' ', version, name, checksum, {times}), ', ' ORDER BY version) FROM tallyd_schema_history"
    );
    value(client, &sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_former_files_is_what_the_initial_schema_makes_and_is_taken_over() {
    let dir = data_dir();
    let db = database(dir.path()).await;
    let mut present = db.connect("present").await.unwrap();
    present.batch_execute("CREATE DATABASE former").await.unwrap();
    let report = migrate(&mut present, &migrate_options()).await.unwrap();
    assert!(!report.history_rewritten && report.applied.len() > 12, "{report:?}");
    let later = report.applied[12..].to_vec();
    let mut client = enter(&db, "former").await;
    migrate_with(&client, files(FORMER).into_iter()).await;
    present.batch_execute("CREATE DATABASE initial").await.unwrap();
    let initial = files(PRESENT).into_iter().filter(|file| file.version() <= LAST);
    migrate_with(&enter(&db, "initial").await, initial).await;
    assert_same(&dump(&db, "former", &[]), &dump(&db, "initial", &[]));

    let data = "SELECT increment_daily_cost('claude', 'claude-sonnet-4', user_id => 'u', cost_usd => 0.5), \
        increment_daily_cost('rentcast', endpoint => '/avm/value', occurred_at => '2026-01-10 12:00Z'); \
        INSERT INTO dead_letters (kind, code, payload, payload_format) VALUES ('refused', 'too_long', 'x', 'json'); \
        INSERT INTO api_budgets (scope, scope_value, amount_usd) VALUES ('provider', 'claude', 10); \
        INSERT INTO api_prices (provider, effective_from, rates, origin) VALUES ('rentcast', '2026-01-01', '{}', 'manual'); \
        INSERT INTO tallyd_audit_log (actor, action) VALUES ('cli:somebody', 'budget.set')";
    client.batch_execute(data).await.unwrap();

    // A history that stops earlier, or that has another file, is refused.
    client.batch_execute("CREATE TEMPORARY TABLE saved AS TABLE tallyd_schema_history").await.unwrap();
    client.batch_execute("DELETE FROM tallyd_schema_history WHERE version > 12").await.unwrap();
    let error = migrate(&mut client, &migrate_options()).await.unwrap_err();
    assert!(matches!(&error, MigrateError::Unfinished { last, .. } if last == "V12__budgets_and_alerts"), "{error}");
    assert!(
        error.to_string().contains("hint: run `tallyd migrate` of the last build that has V38__bounds_in_sql"),
        "{error}"
    );
    let other = "TRUNCATE tallyd_schema_history; INSERT INTO tallyd_schema_history TABLE saved; \
        UPDATE tallyd_schema_history SET checksum = '1' WHERE version = 5";
    client.batch_execute(other).await.unwrap();
    let error = migrate(&mut client, &migrate_options()).await.unwrap_err();
    assert!(matches!(&error, MigrateError::Diverged { name } if name == "V5__increment_daily_cost"), "{error}");
    // A history of a newer build is refused, too.
    let newer = "TRUNCATE tallyd_schema_history; INSERT INTO tallyd_schema_history TABLE saved; \
        INSERT INTO tallyd_schema_history VALUES (99, 'x', '', '1')";
    client.batch_execute(newer).await.unwrap();
    let error = migrate(&mut client, &migrate_options()).await.unwrap_err();
    assert!(matches!(&error, MigrateError::Newer { name } if name == "V99__x"), "{error}");
    assert_eq!(value(&client, "SELECT count(*) FROM tallyd_schema_history").await, "29");
    client.batch_execute("DELETE FROM tallyd_schema_history WHERE version = 99; DROP TABLE saved").await.unwrap();

    let report = migrate(&mut client, &migrate_options()).await.unwrap();
    assert!(report.history_rewritten && report.applied == later && report.protected.is_empty(), "{report:?}");
    // The partition of the old call.
    present.batch_execute("SELECT tallyd_ensure_partition('2026-01-10 12:00Z', 'month')").await.unwrap();
    assert_same(&dump(&db, "former", &["-s"]), &dump(&db, DATABASE, &["-s"]));
    assert_eq!(history(&client, "''").await, history(&present, "''").await);

    let rewritten = history(&client, "applied_on").await;
    let report = migrate(&mut client, &migrate_options()).await.unwrap();
    assert!(!report.history_rewritten && report.applied.is_empty(), "{report:?}");
    assert_eq!(history(&client, "applied_on").await, rewritten);
    let call = "SELECT increment_daily_cost('claude', user_id => 'u', cost_usd => 0.25)";
    client.batch_execute(call).await.unwrap();
    let outcome = reconcile(&mut client).await.unwrap();
    assert!(outcome.equal && outcome.log_rows == 3, "{outcome:?}");
    db.close().await;
}

/// The replaced application may have a function of the same name and other parameters.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_the_same_name_is_left_alone() {
    let dir = data_dir();
    let db = database(dir.path()).await;
    let mut client = db.connect("theirs").await.unwrap();
    let theirs = "CREATE FUNCTION public.increment_daily_cost(kind text, amount numeric) RETURNS text LANGUAGE sql AS $$ SELECT 'theirs' $$";
    client.batch_execute(theirs).await.unwrap();
    migrate(&mut client, &migrate_options()).await.unwrap();
    assert_eq!(value(&client, "SELECT increment_daily_cost(kind => 'x', amount => 1)").await, "theirs");
    client
        .batch_execute("SELECT increment_daily_cost(provider => 'claude', app => 'web', cost_usd => 0.5)")
        .await
        .unwrap();
    assert_eq!(
        value(&client, "SELECT value || ' ' || calls FROM daily_dimension_costs WHERE dimension = 'app'").await,
        "web 1"
    );
    db.close().await;
}

/// Calls that were dropped before sums by application and by hour existed are missing in both. The result names the day
/// after the last of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_before_is_told() {
    let dir = data_dir();
    let db = database(dir.path()).await;
    let mut client = db.connect("before").await.unwrap();
    migrate_with(&client, files(PRESENT).into_iter().filter(|file| file.version() <= LAST)).await;
    let calls = "SELECT increment_daily_cost('claude', app => 'web', cost_usd => 0.5, occurred_at => '2025-01-31 23:30Z'), \
        increment_daily_cost('claude', app => 'cron', cost_usd => 1, occurred_at => '2025-02-01 01:30Z'); \
        INSERT INTO tallyd_dropped_costs SELECT * FROM daily_api_costs WHERE day = '2025-01-31'; \
        INSERT INTO tallyd_dropped_user_costs SELECT * FROM daily_user_api_costs WHERE day = '2025-01-31'; \
        INSERT INTO tallyd_dropped_totals (user_id, provider, calls, requests, cost_usd, first_call_at, last_call_at) \
            SELECT user_id, provider, 1, 1, 0.5, first_call_at, first_call_at FROM user_api_totals; \
        DROP TABLE api_usage_log_2025_01";
    client.batch_execute(calls).await.unwrap();
    migrate(&mut client, &migrate_options()).await.unwrap();
    let outcome = reconcile(&mut client).await.unwrap();
    assert!(outcome.equal && outcome.log_rows == 1, "{outcome:?}");
    let sums = "SELECT concat_ws(' ', (SELECT day || ' ' || value FROM daily_dimension_costs), (SELECT whole_from FROM tallyd_dimensions), \
        (SELECT hour AT TIME ZONE 'UTC' FROM hourly_api_costs), value) FROM tallyd_settings WHERE key = 'sums_by_app_and_hour_from'";
    assert_eq!(value(&client, sums).await, "2025-02-01 cron 2025-02-01 2025-02-01 01:00:00 2025-02-01");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_initial_schema_closes_a_project_as_the_former_files_did() {
    let project = Project::empty(Grants::Legacy).await;
    let other = enter(&project.database, "postgres").await;
    // A database can be copied once no session uses it.
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{DATABASE}'");
    let deadline = Instant::now() + Duration::from_secs(30);
    while value(&other, &sessions).await != "0" {
        assert!(Instant::now() < deadline, "a session stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    other.batch_execute(&format!("CREATE DATABASE former TEMPLATE {DATABASE}")).await.unwrap();
    project.migrate().await;
    let mut client = enter(&project.database, "former").await;
    client.batch_execute("SET ROLE postgres").await.unwrap();
    migrate_with(&client, files(FORMER).into_iter()).await;
    migrate(&mut client, &migrate_options()).await.unwrap();
    assert_same(&dump(&project.database, "former", &[]), &dump(&project.database, DATABASE, &[]));
    project.database.clone().close().await;
}
