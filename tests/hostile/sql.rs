//! SQL roles that want the owner's rights, and rows that overflow.

use std::io::Write;
use std::process::{Command, Stdio};

use tallyd_client::Record;

use crate::client::Api;
use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, bin};

/// tallyd's functions: everything in `public`, where the tests have no other functions.
const OURS: &str = "SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace";
/// Functions whose names are looked up in pg_temp before pg_catalog.
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
/// Statements that fire triggers and policies.
const STATEMENTS: &str = "
    INSERT INTO public.api_prices (provider, effective_from, rates, origin) VALUES ('x', now(), '{}', 'manual');
    UPDATE public.api_prices SET withdrawn_at = now() WHERE provider = 'x';
    DELETE FROM public.api_prices WHERE provider = 'x';
    INSERT INTO public.tallyd_audit_log (actor, action, object) VALUES ('x', 'x', 'user u/day');
    UPDATE public.tallyd_audit_log SET object = 'user (forgotten)/day' WHERE actor = 'x';
    DELETE FROM public.tallyd_audit_log;
    DELETE FROM public.api_price_changes;
";

/// Temporary objects with the names that functions use. They warn with the current role when they are run.
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
    // A role that may not read a table creates an empty one of that name.
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

/// psql's stderr for statements of a role. After an error it continues with the next statement.
fn tried(postgres: &Postgres, role: &str, sql: &str) -> String {
    let mut command = Command::new(bin("psql"));
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

/// Every role can take advisory locks, so tallyd takes none. Only writers of the tables can lock the rows it uses.
fn no_role_holds_locks_that_loading_waits_for(postgres: &Postgres) {
    let advisory = format!("SELECT count(*) FROM pg_proc p WHERE p.oid IN ({OURS}) AND p.prosrc LIKE '%advisory%'");
    assert_eq!(postgres.psql(&advisory), "0");
    let holds =
        ["SELECT FROM public.tallyd_locks FOR KEY SHARE;", "SELECT FROM public.tallyd_locks FOR UPDATE SKIP LOCKED;"]
            .into_iter()
            .map(str::to_owned)
            .chain(
                ["tallyd_locks", "tallyd_schema_history", "api_usage_log", "daily_api_costs"]
                    .into_iter()
                    .map(|table| format!("BEGIN; LOCK TABLE public.{table} IN ROW SHARE MODE; COMMIT;")),
            );
    for hold in holds {
        for role in ["tallyd_reader", "anon", "authenticated", "stranger"] {
            let said = tried(postgres, role, &format!("\\set VERBOSITY sqlstate\n{hold}"));
            assert!(said.contains("ERROR:  42501"), "{role} can hold up others: {hold}\n{said}");
        }
        assert_eq!(tried(postgres, "tallyd_writer", &hold), "", "the daemon's role needs it: {hold}");
    }
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
    // Triggers refuse, and traps whose names are taken are not created.
    let is_kept = |line: &str| {
        line.contains(" 23001: ") || line.split(' ').next_back().is_some_and(|code| code.starts_with("42"))
    };
    for role in ROLES {
        for claims in ["", r#"{"sub":"7","app_metadata":{"role":"user"}}"#] {
            let said = tried(&postgres, role, &attack(claims));
            assert!(!said.contains("TRAPPED"), "{role} got in:\n{said}");
            // A failure alone does not prove safety: each call must succeed, or be forbidden to the role.
            let other =
                said.lines().find(|line| line.contains("ERROR") && !line.contains(" 42501: ") && !is_kept(line));
            assert_eq!(other, None, "{role}:\n{said}");
        }
    }
    no_role_holds_locks_that_loading_waits_for(&postgres);
    // The traps work: a function with an empty path, as these once had it, runs them, and the check of pg_proc sees it.
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
    // A role with SELECT on tables needs the policies' function; the next upkeep grants it.
    postgres.psql("CREATE ROLE grafana LOGIN; GRANT SELECT ON daily_api_costs TO grafana");
    migrate(&daemon);
    assert_eq!(open_to("grafana"), "tallyd_is_admin");
    assert_eq!(tried(&postgres, "grafana", "SELECT * FROM daily_api_costs"), "");
    // Only the owner may put a trigger, or a foreign key to it, on a table: both run when the owner writes.
    let others = "SELECT count(*) FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid IN (SELECT t FROM tallyd_tables() t) \
        AND x.grantee <> c.relowner AND x.privilege_type IN ('TRIGGER', 'REFERENCES')";
    assert_eq!(postgres.psql(others), "0");
}

#[test]
fn a_table_of_admins_that_a_stranger_has_made_runs_nothing_and_makes_nobody_admin() {
    let (postgres, _daemon) = migrated();
    // As in a database that was created by PostgreSQL 14 or before.
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
fn the_audit_log_is_only_ever_added_to_also_by_the_owner() {
    let (postgres, _daemon) = migrated();
    postgres.psql(
        r#"INSERT INTO tallyd_audit_log (actor, action, object, old_value, new_value) VALUES
           ('token:1', 'budget.set', 'user=u-1/day', NULL, '{"scope": {"user": "u-1"}, "amount_usd": "5"}')"#,
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
        "object = 'user=u-2/day'",
        "object = 'user=(forgotten)/week'",
        "new_value = NULL",
        r#"new_value = new_value || '{"amount_usd": "6"}'"#,
        r#"new_value = new_value || '{"scope": {"user": "(forgotten)"}, "amount_usd": "6"}'"#,
        r#"new_value = new_value || '{"scope": {"user": "u-2"}}'"#,
        r#"old_value = '{"scope": {"user": "(forgotten)"}}'"#,
    ] {
        refused(&format!("UPDATE tallyd_audit_log SET {change}"));
    }
    assert_eq!(postgres.psql("SELECT * FROM tallyd_audit_log"), before);
    // The one permitted change: forgetting a user takes the id out of the notes about that user's budgets.
    postgres.psql(
        r#"UPDATE tallyd_audit_log SET object = 'user=(forgotten)/day', new_value = new_value || '{"scope": {"user": "(forgotten)"}}'"#,
    );
    assert_eq!(postgres.psql("SELECT count(*) FROM tallyd_audit_log WHERE object = 'user=(forgotten)/day'"), "1");
}

/// 2^63 - 1: the maximum of a rollup's column.
const FULL: i128 = i64::MAX as i128;
/// More calls than will ever exist.
const MANY_CALLS: i128 = 1_000_000_000_000_000;
/// The maximum of tokens in a record.
const MOST: u64 = 1_000_000_000;

/// Adds rollup rows of today that are full but for `room` input tokens, as if retention had dropped their calls.
fn plant(postgres: &Postgres, room: i128) {
    let costs =
        "(day, provider, model, endpoint, calls, input_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests)";
    let users = costs.replace("model, endpoint", "user_id");
    let left = FULL - room;
    postgres.psql(&format!(
        "INSERT INTO daily_api_costs {costs} VALUES (current_date, 'claude', 'm', '', 9, {left}, 1, 1, 1), \
             (current_date, 'claude', 'm2', '', {MANY_CALLS}, {FULL}, {FULL}, {FULL}, {FULL}); \
         INSERT INTO tallyd_user_days {users} VALUES (current_date, 'claude', 'u', 9, {left}, 1, 1, 1), \
             (current_date, 'claude', 'u2', {MANY_CALLS}, {FULL}, {FULL}, {FULL}, {FULL}); \
         INSERT INTO tallyd_user_totals (provider, user_id, calls, input_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, \
             first_call_at, last_call_at) SELECT provider, user_id, calls, input_tokens, cache_write_5m_tokens, \
             cache_write_1h_tokens, requests, current_date, current_date FROM tallyd_user_days; \
         INSERT INTO tallyd_user_list_due (user_id) SELECT user_id FROM tallyd_user_totals; \
         INSERT INTO tallyd_dropped_costs SELECT * FROM daily_api_costs; \
         INSERT INTO tallyd_dropped_user_costs SELECT * FROM tallyd_user_days; \
         INSERT INTO tallyd_dropped_totals SELECT * FROM tallyd_user_totals"
    ));
}

#[test]
fn a_rollup_row_that_is_full_stops_nobody_else_and_every_answer_is_exact() {
    let mut api = Api::start();
    plant(&api.postgres, 2 * i128::from(MOST) + 500);
    let mut session = api.daemon.session("p");
    // Two of the hostile records fit, three do not. Honest ones are between them, one with the full row's user.
    let record = |seq: u64| match seq % 40 {
        7 => Record { user_id: "u".into(), input_tokens: MOST, ..Record::claude("m", 0, 0) },
        _ => Record { user_id: "honest".into(), ..Record::claude("claude-sonnet-4-5", 1, 1) },
    };
    for first_seq in [1, 101] {
        session.send(first_seq, &(first_seq..first_seq + 100).map(record).collect::<Vec<_>>()).unwrap();
    }
    for seq in [100, 200] {
        assert_eq!(session.recv_ack().unwrap().seq, seq);
    }
    api.postgres.until_calls(197);
    let letters = "SELECT kind, code, producer, convert_from(payload, 'UTF8')::json ->> 'user_id', count(*) FROM dead_letters GROUP BY 1, 2, 3, 4";
    api.postgres.until(letters, "poison|22003|p|u|3");
    let said = api.postgres.psql("SELECT DISTINCT message FROM dead_letters");
    assert!(said.contains("would overflow"), "{said}");
    api.daemon.until_status("nothing holds", |status| status["health"]["flusher"]["status"] == "ok");
    // A small call of the full row's user still fits, and a retry leaves the dead letters as they are.
    session.send(201, &[Record { user_id: "u".into(), ..Record::claude("m", 500, 0) }]).unwrap();
    session.recv_ack().unwrap();
    api.postgres.until_calls(198);
    let row = "SELECT input_tokens FROM daily_api_costs WHERE model = 'm'";
    assert_eq!(api.postgres.psql(row), FULL.to_string());
    let retried = api.daemon.run(&["dead-letters", "retry", "--kind", "poison"]);
    let retried = format!("{}{}", String::from_utf8_lossy(&retried.stdout), String::from_utf8_lossy(&retried.stderr));
    assert!(retried.contains("would overflow"), "{retried}");
    assert_eq!(api.postgres.psql(letters), "poison|22003|p|u|3");
    // SQL callers get the same error, and no row is written.
    let call =
        api.postgres.try_psql("SELECT increment_daily_cost('claude', model => 'm', user_id => 'u', input_tokens => 1)");
    assert!(call.unwrap_err().contains("out of range"));
    api.postgres.until_calls(198);
    answers_are_exact(&api);
    api.daemon.assert_reconciled();
}

/// Requests every answer that adds up the full rows.
fn answers_are_exact(api: &Api) {
    let admin = api.token("admin");
    let input = 2 * FULL + 195;
    let text = |path: &str| {
        let answer = api.get(path, &admin);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    };
    for path in ["/api/v1/overview", "/api/v1/costs?days=1", "/api/v1/costs?days=1&bucket=total"] {
        let text = text(path);
        assert!(text.contains(&format!("\"input_tokens\":{input},")), "{path}: {input}: {text}");
    }
    let csv = text("/api/v1/costs?days=1&format=csv");
    assert!(csv.contains(&input.to_string()), "{csv}");
    let written = format!("\"cacheWriteTokens\":{}", 2 * FULL);
    for path in ["/api/admin/costs", "/api/admin/cost-history?days=1"] {
        let text = text(path);
        assert!(text.contains(&written), "{path}: {text}");
    }
    let calls = (MANY_CALLS + 9 + 198).to_string();
    for path in ["/api/admin/metrics", "/api/admin/costs"] {
        assert!(text(path).contains(&calls), "{path}");
    }
    for path in [
        "/api/v1/users",
        "/api/v1/users/u2",
        "/api/user/all",
        "/api/admin/user-stats",
        "/api/v1/unpriced",
        "/api/v1/forecast",
    ] {
        text(path);
    }
    let output = api.daemon.run(&["top", "--json", "--once"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_count_beyond_its_bound_is_refused_and_the_bound_is_a_setting() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let line = |field: &str, count: u64| format!(r#"{{"provider":"x","{field}":{count}}}"#);
    for field in [
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "requests",
    ] {
        assert_eq!(daemon.lines(&line(field, MOST))[0]["ok"], true, "{field}");
        let refused = &daemon.lines(&line(field, MOST + 1))[0];
        assert!(refused["ok"] != true && refused.to_string().contains("expected 0 to 1000000000"), "{refused}");
    }
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.set("TALLYD_LIMITS_TOKENS", "7");
    daemon.up();
    assert_eq!(daemon.lines(&line("requests", 7))[0]["ok"], true);
    assert_eq!(daemon.lines(&line("requests", 8))[0]["error"]["code"], "range");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.set("TALLYD_LIMITS_TOKENS", "1000000000001");
    let said = daemon.run(&["config", "check"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("limits.tokens"), "{said:?}");
}

#[test]
fn old_days_make_few_partitions_and_a_batch_that_needs_many_is_divided() {
    let mut postgres = Postgres::start();
    let mut daemon =
        Daemon::on(&postgres.url()).with("TALLYD_LOG_TABLE_PARTITION", "day").with("TALLYD_FLUSHER_LANES", "1").start();
    postgres.until("SELECT count(*) > 0 FROM tallyd_partitions()", "t");
    postgres.down(crate::support::postgres::Stop::Fast);
    // All of it waits in the WAL, the honest records after the hostile ones, and would be one batch.
    const DAY_US: i64 = 86_400_000_000;
    const DAYS: i64 = 800;
    let mut hostile = daemon.session("hostile");
    let old = |seq: u64| Record {
        occurred_at: Some(1_420_070_400_000_000 + (seq as i64 - 1) * 4 * DAY_US),
        ..Record::rentcast("/old")
    };
    for first_seq in (1..DAYS as u64).step_by(100) {
        hostile.send(first_seq, &(first_seq..first_seq + 100).map(old).collect::<Vec<_>>()).unwrap();
        hostile.recv_ack().unwrap();
    }
    let mut honest = daemon.session("honest");
    honest.send(1, &(0..50).map(|_| Record::rentcast("/now")).collect::<Vec<_>>()).unwrap();
    honest.recv_ack().unwrap();
    postgres.up();
    postgres.until_calls(850);
    let partitions: u32 = postgres.psql("SELECT count(*) FROM tallyd_partitions()").parse().unwrap();
    assert!(partitions < 160, "{partitions} partitions for {DAYS} days of the years since 2015");
    let transactions: u32 = postgres.psql("SELECT count(DISTINCT xmin::text) FROM api_usage_log").parse().unwrap();
    assert!(transactions >= 4, "{transactions} batches");
    daemon.assert_reconciled();
    assert_eq!(daemon.terminate().code(), Some(0));
}
