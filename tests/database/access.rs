//! Access: each role tries to read and write each table, and each partition by its own name.

use tallyd_store::upkeep::{UpkeepOptions, upkeep};
use tallyd_store::{Access, CopyAccess, Granularity, migrate};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::supabase::{ADMIN, Grants, Project, USER, claims, set_claims};
use crate::support::{data_dir, migrate_options, migrated, value};

/// Every table in `public` except the application's own.
const TABLES: &str = "SELECT c.oid::regclass::text, c.relispartition FROM pg_class c \
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'user_profiles' ORDER BY 1";

async fn tables(client: &Client) -> Vec<(String, bool)> {
    client.query(TABLES, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Adds a row to each table that a call fills, and to others where a simple INSERT does.
async fn fill(client: &Client) {
    let fill = "SELECT increment_daily_cost('rentcast', endpoint => '/avm', user_id => 'u', cost_usd => 0.2); \
        SELECT increment_daily_cost('rentcast', user_id => 'u', occurred_at => '2025-03-04 05:06Z'); \
        INSERT INTO dead_letters (kind, code, payload, payload_format) VALUES ('refused', 'x', '', 'json'); \
        INSERT INTO api_budgets (amount_usd) VALUES (5); \
        INSERT INTO ingest_watermark VALUES (gen_random_uuid(), 0, 7)";
    client.batch_execute(fill).await.unwrap();
}

/// A statement's number of rows, or the SQLSTATE of its refusal.
async fn attempt(client: &Client, sql: &str) -> Result<u64, String> {
    client.execute(sql, &[]).await.map_err(|error| error.code().map_or("?".into(), |code| code.code().to_owned()))
}

fn denied() -> Result<u64, String> {
    Err(SqlState::INSUFFICIENT_PRIVILEGE.code().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_partition_is_closed_to_the_public() {
    for grants in [Grants::Legacy, Grants::New] {
        let project = Project::migrated(grants).await;
        let owner = project.session("postgres").await;
        fill(&owner).await;
        // A partition that somebody made by hand, and that upkeep has not seen yet.
        let by_hand =
            "CREATE TABLE by_hand PARTITION OF api_usage_log FOR VALUES FROM ('2019-01-01Z') TO ('2019-02-01Z')";
        owner.batch_execute(by_hand).await.unwrap();
        project.migrate().await;
        // And one that upkeep has not seen since it was made.
        owner.batch_execute("SELECT tallyd_ensure_partition('2024-05-06Z', 'day')").await.unwrap();

        let tables = tables(&owner).await;
        assert!(tables.iter().filter(|(_, is_partition)| *is_partition).count() >= 5, "{tables:?}");
        let (anon, user) = (project.request("anon", "").await, project.request("authenticated", &claims(USER)).await);
        let admin = project.request("authenticated", &claims(ADMIN)).await;
        let service = project.session("service_role").await;
        for (table, is_partition) in &tables {
            let context = format!("{grants:?} {table}");
            let read = format!("SELECT * FROM {table}");
            let rows = attempt(&owner, &read).await.unwrap();
            // Anon and a user see no row, neither of the parent nor of the partition.
            assert_eq!(attempt(&anon, &read).await, denied(), "{context}");
            let seen = if *is_partition { denied() } else { Ok(0) };
            assert_eq!(attempt(&user, &read).await, seen, "{context}");
            // An admin reads every table except partitions.
            let seen = if *is_partition { denied() } else { Ok(rows) };
            assert_eq!(attempt(&admin, &read).await, seen, "{context}");
            assert_eq!(attempt(&service, &read).await, Ok(rows), "{context}");
            for client in [&anon, &user, &admin] {
                for write in [
                    format!("INSERT INTO {table} DEFAULT VALUES"),
                    format!("DELETE FROM {table}"),
                    format!("TRUNCATE {table}"),
                    format!("COPY {table} FROM STDIN"),
                ] {
                    assert_eq!(attempt(client, &write).await, denied(), "{context}: {write}");
                }
            }
            let enabled = format!("SELECT relrowsecurity FROM pg_class WHERE oid = '{table}'::regclass");
            assert_eq!(value(&owner, &enabled).await, "t", "{context}");
        }
        assert!(attempt(&owner, "SELECT * FROM by_hand").await.is_ok());
    }
}

/// The views run with the rights of their owner, which policies do not apply to.
#[tokio::test(flavor = "multi_thread")]
async fn the_views_show_rows_to_those_who_see_the_tables_and_to_nobody_else() {
    const VIEWS: [&str; 7] = [
        "daily_user_api_costs",
        "user_api_totals",
        "tallyd_user_day_parts",
        "tallyd_user_total_parts",
        "tallyd_view_calls",
        "tallyd_view_user_costs",
        "tallyd_view_user_totals",
    ];
    for grants in [Grants::Legacy, Grants::New] {
        let project = Project::migrated(grants).await;
        let owner = project.session("postgres").await;
        fill(&owner).await;
        let superuser = project.database.connect("superuser").await.unwrap();
        let views = VIEWS.join(", ");
        let roles = format!(
            "CREATE ROLE grafana NOLOGIN; CREATE ROLE panel NOLOGIN IN ROLE tallyd_reader; \
             GRANT SELECT ON {views} TO grafana; GRANT SELECT ON {views} TO panel"
        );
        superuser.batch_execute(&roles).await.unwrap();
        project.migrate().await;
        let (anon, user) = (project.request("anon", "").await, project.request("authenticated", &claims(USER)).await);
        let admin = project.request("authenticated", &claims(ADMIN)).await;
        let (service, grafana) = (project.session("service_role").await, project.session("grafana").await);
        let panel = project.session("panel").await;
        for view in VIEWS {
            let context = format!("{grants:?} {view}");
            let rows = attempt(&owner, &format!("SELECT * FROM {view}")).await;
            assert!(rows.as_ref().is_ok_and(|rows| *rows > 0), "{context}");
            for sql in [format!("SELECT * FROM {view}"), format!("SELECT * FROM {view} WHERE user_id = 'u'")] {
                assert_eq!(attempt(&anon, &sql).await, denied(), "{context}");
                for nobody in [&user, &grafana] {
                    assert_eq!(attempt(nobody, &sql).await, Ok(0), "{context}");
                }
                for reader in [&admin, &service, &panel] {
                    assert_eq!(attempt(reader, &sql).await, rows, "{context}");
                }
            }
            // The view filters rows before it calls the reader's function.
            let leak = "CREATE OR REPLACE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \
                $$ BEGIN RAISE EXCEPTION 'seen: %', $1; END $$";
            superuser.batch_execute("GRANT TEMPORARY ON DATABASE tallyd TO authenticated").await.ok();
            user.batch_execute(leak).await.unwrap();
            let leaking = format!("SELECT * FROM {view} WHERE pg_temp.leak(user_id) AND pg_temp.leak(provider)");
            assert_eq!(attempt(&user, &leaking).await, Ok(0), "{context}");
            for write in [format!("DELETE FROM {view}"), format!("UPDATE {view} SET calls = 0")] {
                // A view of one table is that table to its owner, who may write it.
                let owner = (view != "tallyd_view_calls").then_some(&owner);
                for client in [&anon, &user, &admin].into_iter().chain(owner) {
                    assert!(attempt(client, &write).await.is_err(), "{context}: {write}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_function_but_the_policies_own_is_open() {
    for grants in [Grants::Legacy, Grants::New] {
        let project = Project::migrated(grants).await;
        let owner = project.session("postgres").await;
        let open = "SELECT coalesce(string_agg(DISTINCT p.proname, ' '), '') FROM pg_proc p, \
            unnest(ARRAY['anon', 'authenticated']) AS r \
            WHERE p.pronamespace = 'public'::regnamespace AND has_function_privilege(r, p.oid, 'EXECUTE')";
        assert_eq!(value(&owner, open).await, "tallyd_is_admin", "{grants:?}");
        let sequences = "SELECT count(*) FROM pg_class c, unnest(ARRAY['anon', 'authenticated']) AS r \
            WHERE c.relkind = 'S' AND c.relnamespace = 'public'::regnamespace AND has_sequence_privilege(r, c.oid, 'USAGE, SELECT, UPDATE')";
        assert_eq!(value(&owner, sequences).await, "0", "{grants:?}");
        let call = "SELECT increment_daily_cost('rentcast', cost_usd => 0.2)";
        let (anon, service) = (project.session("anon").await, project.session("service_role").await);
        assert_eq!(attempt(&anon, call).await, denied());
        assert_eq!(attempt(&service, call).await, Ok(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_is_who_the_server_side_says_is_one() {
    let project = Project::migrated(Grants::New).await;
    let client = project.session("authenticated").await;
    let forged = format!(r#"{{"sub":"{USER}","role":"admin","user_metadata":{{"role":"admin","is_admin":true}}}}"#);
    let table = [
        (String::new(), "f"),
        ("{}".into(), "f"),
        (claims(ADMIN), "t"),
        (claims(USER), "f"),
        (forged, "f"),
        (format!(r#"{{"sub":"{USER}","app_metadata":{{"role":"admin"}}}}"#), "t"),
        (r#"{"sub":"u-42","app_metadata":{"role":"user"}}"#.into(), "f"),
        (r#"{"app_metadata":"admin"}"#.into(), "f"),
    ];
    for (claims, expected) in &table {
        set_claims(&client, claims).await;
        assert_eq!(value(&client, "SELECT tallyd_is_admin()").await, *expected, "{claims}");
    }
    // A caller's search path has no effect on the functions.
    let trap = "CREATE TEMP TABLE user_profiles (id uuid, is_admin boolean); \
        INSERT INTO user_profiles SELECT gen_random_uuid(), true; SET search_path = pg_temp, public";
    let own = project.request("authenticated", &claims(USER)).await;
    own.batch_execute(trap).await.unwrap();
    assert_eq!(value(&own, "SELECT public.tallyd_is_admin()").await, "f");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_postgresql_has_no_admins_and_no_errors() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("plain").await.unwrap();
    set_claims(&client, &claims(ADMIN)).await;
    assert_eq!(value(&client, "SELECT tallyd_is_admin()").await, "f");
    for columns in ["id text", "id text, is_admin text", "is_admin boolean"] {
        client.batch_execute(&format!("CREATE TABLE user_profiles ({columns})")).await.unwrap();
        assert_eq!(value(&client, "SELECT tallyd_is_admin()").await, "f", "{columns}");
        client.batch_execute("DROP TABLE user_profiles").await.unwrap();
    }
    for (key, subject) in [("user_id text", "u"), ("id int", "7"), ("id bigint, user_id uuid", ADMIN)] {
        let name = key.rsplit(", ").next().unwrap().split(' ').next().unwrap();
        let make = format!(
            "CREATE TABLE user_profiles ({key}, is_admin boolean); \
             INSERT INTO user_profiles ({name}, is_admin) VALUES ('{subject}', true)"
        );
        client.batch_execute(&make).await.unwrap();
        set_claims(&client, &claims(subject)).await;
        assert_eq!(value(&client, "SELECT tallyd_is_admin()").await, "t", "{key}");
        set_claims(&client, &claims("8")).await;
        assert_eq!(value(&client, "SELECT tallyd_is_admin()").await, "f", "{key}");
        client.batch_execute("DROP TABLE user_profiles").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_opened_is_closed_again() {
    let project = Project::migrated(Grants::Legacy).await;
    let owner = project.session("postgres").await;
    fill(&owner).await;
    let nothing = project.migrate().await;
    assert_eq!(nothing.protected, Vec::<String>::new(), "what is closed is left alone");
    let open = "CREATE TABLE by_hand PARTITION OF api_usage_log FOR VALUES FROM ('2019-01-01Z') TO ('2019-02-01Z'); \
        GRANT SELECT (cost_usd) ON user_api_totals TO anon; GRANT EXECUTE ON FUNCTION increment_daily_cost TO anon; \
        GRANT ALL ON SEQUENCE api_budgets_id_seq TO anon; ALTER TABLE dead_letters DISABLE ROW LEVEL SECURITY";
    owner.batch_execute(open).await.unwrap();
    let anon = project.session("anon").await;
    assert_eq!(attempt(&anon, "SELECT * FROM by_hand").await, Ok(0), "it was open");
    let options = UpkeepOptions {
        granularity: Granularity::Month,
        partitions_ahead: 2,
        user_index: tallyd_config::UserIndex::Never,
    };
    upkeep(&project.database, &owner, options).await.unwrap();
    for sql in [
        "SELECT * FROM by_hand",
        "SELECT cost_usd FROM user_api_totals",
        "SELECT nextval('api_budgets_id_seq')",
        "SELECT increment_daily_cost('x')",
    ] {
        assert_eq!(attempt(&anon, sql).await, denied(), "{sql}");
    }
    let enabled = "SELECT relrowsecurity FROM pg_class WHERE oid = 'dead_letters'::regclass";
    assert_eq!(value(&owner, enabled).await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_reads_and_the_writer_loads() {
    let project = Project::migrated(Grants::Legacy).await;
    let owner = project.session("postgres").await;
    // Before PostgreSQL 16 Supabase's `postgres` may not grant BYPASSRLS: then a superuser creates the role.
    let superuser = project.database.connect("superuser").await.unwrap();
    if value(&superuser, "SELECT count(*) FROM pg_roles WHERE rolname = 'tallyd_writer'").await == "0" {
        superuser.batch_execute("CREATE ROLE tallyd_writer NOLOGIN BYPASSRLS").await.unwrap();
    }
    project.migrate().await;
    fill(&owner).await;
    let (reader, mut writer) = (project.session("tallyd_reader").await, project.session("tallyd_writer").await);
    for (table, _) in tables(&owner).await {
        let read = format!("SELECT * FROM {table}");
        assert_eq!(attempt(&reader, &read).await, attempt(&owner, &read).await, "{table}");
        assert_eq!(attempt(&writer, &read).await, attempt(&owner, &read).await, "{table}");
        assert_eq!(attempt(&reader, &format!("DELETE FROM {table}")).await, denied(), "{table}");
    }
    assert_eq!(Access::read(&*writer).await.unwrap().copy, CopyAccess::Bypass);
    // It may not create tables, and the daemon can still start with it.
    let report = migrate(&mut writer, &migrate_options()).await.unwrap();
    assert_eq!((report.applied.len(), report.access.missing_roles.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_copy_will_work_is_known_before_it_fails() {
    let project = Project::migrated(Grants::New).await;
    let owner = project.session("postgres").await;
    assert_eq!(Access::read(&*owner).await.unwrap().copy, CopyAccess::Owner);
    let superuser = project.database.connect("superuser").await.unwrap();
    superuser
        .batch_execute(
            "CREATE ROLE plain NOLOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO plain; \
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO plain",
        )
        .await
        .unwrap();
    let plain = project.session("plain").await;
    let access = Access::read(&*plain).await.unwrap();
    let CopyAccess::Refused { under_policies, no_privilege } = &access.copy else { panic!("{access:?}") };
    assert!(under_policies.contains(&"api_usage_log".into()) && no_privilege.is_empty(), "{access:?}");
    let advice = access.advice().join("\n");
    assert!(advice.contains("plain") && advice.contains("BYPASSRLS"), "{advice}");
    // PostgreSQL agrees, for the call log as for a partition.
    let partition = value(&owner, "SELECT relid FROM pg_partition_tree('api_usage_log') WHERE isleaf LIMIT 1").await;
    for table in ["api_usage_log", &partition] {
        assert_eq!(attempt(&plain, &format!("COPY {table} FROM STDIN")).await, Err("0A000".into()), "{table}");
    }
    // An owner who has enabled the policies for itself.
    superuser.batch_execute("ALTER ROLE postgres NOBYPASSRLS").await.unwrap();
    assert_eq!(Access::read(&*owner).await.unwrap().copy, CopyAccess::Owner);
    owner.batch_execute("ALTER TABLE api_usage_log FORCE ROW LEVEL SECURITY").await.unwrap();
    assert!(matches!(Access::read(&*owner).await.unwrap().copy, CopyAccess::Refused { .. }));
}
