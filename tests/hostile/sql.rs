//! SQL roles that want the owner's rights, and rows that overflow.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// tallyd's functions: everything in `public`, as the tests have nothing else there.
const OURS: &str = "SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace";
/// Those whose names are looked for in pg_temp before pg_catalog.
const OPEN_PATHS: &str = "SELECT coalesce(string_agg(p.oid::regprocedure::text, ' ' ORDER BY p.proname), '') FROM pg_proc p \
    WHERE p.pronamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c(setting) \
        WHERE c.setting ~ '^search_path=pg_catalog,.*\\ypg_temp$')";
/// A call of each of tallyd's functions that is not a trigger's, with arguments that it works with.
const CALLS: &str = "SELECT format('SELECT * FROM public.%I(%s);', p.proname, (SELECT coalesce(string_agg( \
        CASE t.typname WHEN 'api_usage_log' THEN '(SELECT l FROM public.api_usage_log AS l LIMIT 1)' ELSE format('%L::pg_catalog.%I', \
            CASE t.typname WHEN 'text' THEN CASE p.proname WHEN 'increment_daily_cost' THEN 'x' ELSE 'month' END \
                WHEN 'timestamptz' THEN 'now' WHEN 'interval' THEN '1 day' WHEN 'jsonb' THEN '{}' \
                WHEN 'uuid' THEN gen_random_uuid()::text WHEN 'regclass' THEN 'public.tallyd_settings' ELSE '1' END, t.typname) END, \
        ', ' ORDER BY a.at), '') FROM unnest(p.proargtypes) WITH ORDINALITY AS a(type, at) JOIN pg_type t ON t.oid = a.type)) \
    FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prorettype <> 'trigger'::regtype ORDER BY 1";
/// What fires triggers and policies.
const STATEMENTS: &str = "
    INSERT INTO public.api_prices (provider, effective_from, rates, origin) VALUES ('x', now(), '{}', 'manual');
    UPDATE public.api_prices SET withdrawn_at = now() WHERE provider = 'x';
    DELETE FROM public.api_prices WHERE provider = 'x';
    INSERT INTO public.tallyd_audit_log (actor, action, object) VALUES ('x', 'x', 'user u/day');
    UPDATE public.tallyd_audit_log SET object = 'user (forgotten)/day' WHERE actor = 'x';
    DELETE FROM public.tallyd_audit_log;
    DELETE FROM public.api_price_changes;
";

/// Temporary objects with the names that functions use. Whatever they run says with whose rights.
fn traps(postgres: &Postgres) -> String {
    let mut traps = String::from(
        "CREATE FUNCTION pg_temp.evil() RETURNS pg_catalog.bool LANGUAGE plpgsql AS $$ BEGIN \
            IF current_user <> session_user THEN RAISE WARNING 'TRAPPED as %', current_user; END IF; RETURN true; END $$;\n\
         CREATE FUNCTION pg_temp.lower(pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS \
            $$ BEGIN PERFORM pg_temp.evil(); RETURN $1; END $$;\n\
         CREATE FUNCTION pg_temp.same(pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE sql AS \
            'SELECT pg_temp.evil()';\n\
         CREATE OPERATOR pg_temp.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = pg_temp.same);\n",
    );
    let relations = postgres.psql(
        "SELECT format('%I.%I', c.relnamespace::regnamespace, c.relname) FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v') \
         AND (c.relnamespace = 'public'::regnamespace AND NOT c.relispartition OR c.relnamespace = 'pg_catalog'::regnamespace \
              AND c.relname IN ('pg_class', 'pg_roles', 'pg_proc', 'pg_policy', 'pg_attribute', 'pg_inherits', 'pg_depend', \
                                'pg_namespace', 'pg_database')) ORDER BY 1",
    );
    assert!(relations.lines().count() > 25, "{relations}");
    for relation in relations.lines() {
        let name = relation.split_once('.').unwrap().1;
        traps += &format!("CREATE TEMP VIEW {name} AS SELECT t.*, pg_temp.evil() AS is_evil FROM {relation} AS t;\n");
    }
    // A role without the right to read a table makes an empty one of that name.
    for relation in relations.lines() {
        let name = relation.split_once('.').unwrap().1;
        traps += &format!("CREATE TEMP TABLE IF NOT EXISTS {name} (is_evil pg_catalog.bool CHECK (pg_temp.evil()));\n");
    }
    for name in "jsonb text int2 int4 int8 numeric timestamptz timestamp date uuid bool interval regclass regprocedure oid name \
        bytea float8 regtype regrole"
        .split_whitespace()
    {
        traps += &format!("CREATE DOMAIN pg_temp.{name} AS pg_catalog.{name} CHECK (pg_temp.evil());\n");
    }
    traps
}

/// What psql says on stderr to statements of a role; one that fails does not keep the next from being tried.
fn tried(postgres: &Postgres, role: &str, sql: &str) -> String {
    let mut command = Command::new("psql");
    command.args(["-XAtq", "-U", role, "-d", "postgres", "-f", "-", "-h"]).arg(postgres.sockets());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("psql is installed");
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned()
}

const ROLES: [&str; 6] = ["tallyd_reader", "tallyd_writer", "anon", "authenticated", "service_role", "stranger"];

fn migrated() -> (Postgres, Daemon) {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE anon LOGIN; CREATE ROLE authenticated LOGIN; CREATE ROLE service_role LOGIN BYPASSRLS; \
         CREATE ROLE stranger LOGIN; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role",
    );
    let daemon = Daemon::on(&postgres.url());
    migrate(&daemon);
    postgres.psql("ALTER ROLE tallyd_reader LOGIN; ALTER ROLE tallyd_writer LOGIN");
    (postgres, daemon)
}

fn migrate(daemon: &Daemon) {
    let output = daemon.run(&["migrate"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn no_login_gets_the_owners_rights_through_its_temporary_objects() {
    let (postgres, _daemon) = migrated();
    assert_eq!(postgres.psql(OPEN_PATHS), "", "functions whose search_path is not pg_catalog first and pg_temp last");
    let traps = traps(&postgres);
    let calls = postgres.psql(CALLS);
    assert!(calls.lines().count() >= 14 && calls.contains("increment_daily_cost("), "{calls}");
    let tables = postgres.psql("SELECT format('SELECT count(*) FROM %s;', t) FROM tallyd_tables() AS t");
    let attack = |claims: &str| {
        format!(
            "\\set VERBOSITY sqlstate\n{traps}\\set VERBOSITY verbose\nSET request.jwt.claims = '{claims}';\n{calls}\n{tables}\n\
             {STATEMENTS}"
        )
    };
    // Triggers refuse, and traps whose names are taken are not made.
    let is_kept = |line: &str| {
        line.contains(" 23001: ") || line.split(' ').next_back().is_some_and(|code| code.starts_with("42"))
    };
    for role in ROLES {
        for claims in ["", r#"{"sub":"7","app_metadata":{"role":"user"}}"#] {
            let said = tried(&postgres, role, &attack(claims));
            assert!(!said.contains("TRAPPED"), "{role} got in:\n{said}");
            // Nothing is safe only because it fails: a call does its work, or the role may not make it.
            let other =
                said.lines().find(|line| line.contains("ERROR") && !line.contains(" 42501: ") && !is_kept(line));
            assert_eq!(other, None, "{role}:\n{said}");
        }
    }
    // The traps work: a function with an empty path, as these once had it, falls into them, and is found in pg_proc.
    postgres.psql(
        "CREATE FUNCTION tallyd_bait() RETURNS bool LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS \
         $$ DECLARE claims jsonb := '{}'; BEGIN RETURN claims IS NULL; END $$",
    );
    let said = tried(&postgres, "stranger", &format!("{traps}SELECT public.tallyd_bait();"));
    assert!(said.contains("TRAPPED as postgres"), "{said}");
    assert_eq!(postgres.psql(OPEN_PATHS), "tallyd_bait()");
}

#[test]
fn functions_are_open_to_those_who_need_them() {
    let (postgres, daemon) = migrated();
    let open_to = |role: &str| {
        postgres.psql(&format!(
            "SELECT coalesce(string_agg(p.proname, ' ' ORDER BY p.proname), '') FROM pg_proc p WHERE p.oid IN ({OURS}) \
             AND has_function_privilege('{role}', p.oid, 'EXECUTE')"
        ))
    };
    assert_eq!(open_to("stranger"), "");
    assert_eq!(open_to("anon"), "");
    assert_eq!(open_to("authenticated"), "tallyd_is_admin");
    assert_eq!(open_to("tallyd_reader"), "tallyd_is_admin");
    assert_eq!(open_to("service_role"), "increment_daily_cost tallyd_is_admin tallyd_session_counts");
    // A role that somebody lets read the tables needs the policies' function; the next upkeep grants it.
    postgres.psql("CREATE ROLE grafana LOGIN; GRANT SELECT ON daily_api_costs TO grafana");
    migrate(&daemon);
    assert_eq!(open_to("grafana"), "tallyd_is_admin");
    assert_eq!(tried(&postgres, "grafana", "SELECT * FROM daily_api_costs"), "");
    // Nobody but the owner may put a trigger, or a foreign key to it, on a table: both run when the owner writes.
    let others = "SELECT count(*) FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid IN (SELECT t FROM tallyd_tables() t) \
        AND x.grantee <> c.relowner AND x.privilege_type IN ('TRIGGER', 'REFERENCES')";
    assert_eq!(postgres.psql(others), "0");
}

#[test]
fn a_table_of_admins_that_a_stranger_has_made_runs_nothing_and_makes_nobody_admin() {
    let (postgres, _daemon) = migrated();
    // As in a database that was made by PostgreSQL 14 or before.
    postgres.psql("GRANT CREATE ON SCHEMA public TO stranger");
    let evil = "CREATE FUNCTION public.evil() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
            IF current_user <> session_user THEN RAISE WARNING 'TRAPPED as %', current_user; END IF; RETURN true; END $$;\n\
         CREATE FUNCTION public.fold(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT public.evil()';\n\
         CREATE DOMAIN public.key AS text CHECK (public.evil());\n\
         CREATE TYPE public.mood AS ENUM ('7');";
    assert_eq!(tried(&postgres, "stranger", evil), "");
    for table in [
        "CREATE VIEW public.user_profiles AS SELECT '7'::text AS id, public.evil() AS is_admin",
        "CREATE TABLE public.user_profiles (id public.key, is_admin bool)",
        "CREATE TABLE public.user_profiles (id public.mood, is_admin bool)",
        "CREATE TABLE public.user_profiles (id text, is_admin bool); \
         CREATE INDEX ON public.user_profiles (public.fold(1)) WHERE public.fold(2)",
        "CREATE TABLE public.user_profiles (id text, is_admin bool); \
         CREATE POLICY evil ON public.user_profiles USING (public.evil()); \
         ALTER TABLE public.user_profiles ENABLE ROW LEVEL SECURITY",
    ] {
        let fill = "INSERT INTO public.user_profiles VALUES ('7', true); GRANT ALL ON public.user_profiles TO PUBLIC";
        tried(&postgres, "stranger", &format!("{table};\n{fill};"));
        assert_eq!(postgres.psql("SELECT to_regclass('public.user_profiles')"), "user_profiles", "{table}");
        let ask = "SET request.jwt.claim.sub = '7'; SELECT 1 / (NOT public.tallyd_is_admin())::int; \
            SELECT count(*) FROM public.daily_api_costs;";
        assert_eq!(tried(&postgres, "authenticated", ask), "", "{table}");
        postgres.psql(if table.starts_with("CREATE VIEW") {
            "DROP VIEW user_profiles"
        } else {
            "DROP TABLE user_profiles"
        });
    }
}

#[test]
fn an_existing_database_is_closed_and_a_projects_own_rule_of_who_is_admin_stays() {
    let (postgres, daemon) = migrated();
    // What V26 and later files change, as it was before them.
    let before = "SET client_min_messages = warning; DROP FUNCTION tallyd_keep_audit() CASCADE; \
        DROP TRIGGER tallyd_audit_log_append_only ON tallyd_audit_log; DROP FUNCTION tallyd_trusts(regclass) CASCADE; \
        DO $$ DECLARE fn regprocedure; BEGIN \
            FOR fn IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace LOOP \
                EXECUTE format('ALTER FUNCTION %s SET search_path = ''''', fn); \
            END LOOP; END $$; \
        CREATE SCHEMA app; CREATE FUNCTION app.is_root() RETURNS bool LANGUAGE sql AS 'SELECT true'; \
        CREATE OR REPLACE FUNCTION tallyd_is_admin() RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER \
            SET search_path = app, \"$user\" AS 'SELECT is_root()'; \
        DELETE FROM tallyd_schema_history WHERE version >= 26";
    postgres.psql(before);
    assert_ne!(postgres.psql(OPEN_PATHS), "");
    migrate(&daemon);
    assert_eq!(postgres.psql(OPEN_PATHS), "");
    let own = "SELECT prosrc || ' ' || array_to_string(proconfig, ' ') FROM pg_proc WHERE proname = 'tallyd_is_admin'";
    assert_eq!(postgres.psql(own), r#"SELECT is_root() search_path=pg_catalog, app, "$user", pg_temp"#);
    assert_eq!(postgres.psql("SELECT tallyd_is_admin()"), "t");
}

#[test]
fn the_audit_log_is_only_ever_added_to_also_by_the_owner() {
    let (postgres, _daemon) = migrated();
    postgres.psql(
        r#"INSERT INTO tallyd_audit_log (actor, action, object, old_value, new_value) VALUES
           ('token:1', 'budget.set', 'user u-1/day', NULL, '{"scope": "user", "scope_value": "u-1", "amount_usd": "5"}')"#,
    );
    let before = postgres.psql("SELECT * FROM tallyd_audit_log");
    let refused = |sql: &str| {
        for prefix in ["", "SET session_replication_role = replica; "] {
            let said = postgres.try_psql(&format!("{prefix}{sql}")).expect_err(sql);
            assert!(said.contains("only ever added"), "{sql}: {said}");
        }
    };
    refused("DELETE FROM tallyd_audit_log");
    refused("TRUNCATE tallyd_audit_log");
    for change in [
        "actor = 'token:2'",
        "at = now()",
        "action = 'token.create'",
        "address = '::1'",
        "object = 'user u-2/day'",
        "object = 'user (forgotten)/week'",
        "new_value = NULL",
        r#"new_value = new_value || '{"amount_usd": "6"}'"#,
        r#"new_value = new_value || '{"scope_value": "(forgotten)", "amount_usd": "6"}'"#,
        r#"old_value = '{"scope_value": "(forgotten)"}'"#,
    ] {
        refused(&format!("UPDATE tallyd_audit_log SET {change}"));
    }
    assert_eq!(postgres.psql("SELECT * FROM tallyd_audit_log"), before);
    // A user who is forgotten leaves the notes about that user's budgets, and nothing else.
    postgres.psql(
        r#"UPDATE tallyd_audit_log SET object = 'user (forgotten)/day', new_value = new_value || '{"scope_value": "(forgotten)"}'"#,
    );
    assert_eq!(postgres.psql("SELECT count(*) FROM tallyd_audit_log WHERE object = 'user (forgotten)/day'"), "1");
}
