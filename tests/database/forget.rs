//! A forgotten user is in no table any more, while every sum stays and the rollups reconcile throughout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tallyd_store::forget::{ForgetError, ForgetOptions, Forgotten, forget, preview, sweep};
use tallyd_store::retention::drop_before;
use tallyd_store::{Connection, Database, reconcile};

use crate::support::{TESTER, data_dir, migrated, value};

/// A user id that occurs in no other text.
const PERSON: &str = "person-0f3a'\"";

fn options(user_id: &str) -> ForgetOptions<'_> {
    ForgetOptions { user_id, batch_calls: 3, keep_mark: true, by: TESTER }
}

/// Calls on some days of each month, of two providers: priced, unpriced and failed ones.
async fn calls(client: &Connection, user: &str, months: &[&str], each: usize) {
    for month in months {
        for call in 0..each {
            let cost = if call % 4 == 0 { "NULL".into() } else { format!("0.00000000{call}7") };
            let sql = format!(
                "SELECT increment_daily_cost(provider => '{}', model => 'm{}', user_id => {}, cost_usd => {cost}, \
                 input_tokens => {call}, status => {}, request_id => 'r', metadata => '{{\"who\": {}}}', \
                 occurred_at => '{month}-10Z'::timestamptz + '{} hours')",
                ["claude", "rentcast"][call % 2],
                call % 3,
                quoted(user),
                [200, 429][call % 2],
                serde_json::Value::from(user).to_string().replace('\'', "''"),
                call * 5,
            );
            while let Err(error) = client.batch_execute(&sql).await {
                // The partition was dropped after the lookup: the caller gets an error, and tries again.
                let state = error.code().map(|code| code.code().to_owned());
                assert!(matches!(state.as_deref(), Some("23514" | "40P01")), "{error:?}");
            }
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn proven(db: &Database) -> (i64, i64) {
    let found = reconcile(&mut db.connect("reconcile").await.unwrap()).await.unwrap();
    assert!(found.equal, "{:?}", found.differences);
    (found.log_rows, found.dropped_rows)
}

/// The tables with rows that contain the id in any encoding, and the number of rows.
async fn traces(client: &Connection, user: &str) -> String {
    let tables = "SELECT string_agg(t::text, ' ') FROM tallyd_tables() AS t";
    let mut found = String::new();
    let json = serde_json::Value::from(user).to_string();
    let bare = json.trim_matches('"');
    for table in value(client, tables).await.split(' ') {
        let hex: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        let json_hex: String = bare.bytes().map(|byte| format!("{byte:02x}")).collect();
        let forms = [user, bare, &hex, &json_hex, &json.replace('"', "\"\"")].map(quoted).join(", ");
        let sql = format!(
            "SELECT count(*) FROM {table} AS t WHERE EXISTS (SELECT FROM unnest(ARRAY[{forms}]) AS f WHERE strpos(t::text, f) > 0 \
             OR strpos(to_jsonb(t)::text, f) > 0)"
        );
        let count = value(client, &sql).await;
        if count != "0" {
            found += &format!("{table}: {count}; ");
        }
    }
    found
}

async fn letter(client: &Connection, user: &str, format: &str, payload: &[u8]) {
    let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    let sql = format!(
        "INSERT INTO dead_letters (kind, code, message, payload, payload_format) VALUES \
         ('refused', 'test', {}, '\\x{hex}', '{format}')",
        quoted(&format!("said of {user}"))
    );
    client.batch_execute(&sql).await.unwrap();
}

async fn letters(client: &Connection, user: &str) {
    let record =
        serde_json::json!({"provider": "nobody", "user_id": user, "metadata": {"who": user}, "input_tokens": 7});
    let text = record.to_string();
    letter(client, user, "json", text.as_bytes()).await;
    letter(client, user, "msgpack", &rmp_serde::to_vec_named(&record).unwrap()).await;
    // In the order of the protocol: id, time, provider, model, endpoint, user.
    let array = ((), 5, "nobody", "", "", user);
    letter(client, user, "msgpack", &rmp_serde::to_vec(&array).unwrap()).await;
    // Cut off after the id.
    letter(client, user, "json", &text.as_bytes()[..text.len() - 3]).await;
}

async fn watched(client: &Connection, user: &str) {
    let user = quoted(user);
    let sql = format!(
        "INSERT INTO api_budgets (scope, amount_usd) VALUES (jsonb_build_object('user', {user}, 'provider', 'p'), 5), ('{{\"user\": \"other\"}}', 5); \
         INSERT INTO api_alerts (kind, key, message, details) VALUES \
             ('spend', 'user/' || {user} || '/2025-01-01', {user}, jsonb_build_object('what', 'user', 'name', {user})), \
             ('budget', '1', {user}, jsonb_build_object('scope', jsonb_build_object('user', {user}))), \
             ('budget', '2', 'x', jsonb_build_object('scope', jsonb_build_object('user', 'other'))), \
             ('rule', '1', {user}, jsonb_build_object('filter', jsonb_build_object('user', {user}))), \
             ('report', '1', 'x', jsonb_build_object('movers', jsonb_build_array(jsonb_build_object('by', 'user', 'movers', \
                jsonb_build_array(jsonb_build_object('name', {user})))))); \
         INSERT INTO tallyd_alert_rules (name, metric, filter, in_hours, window_size) VALUES \
             ('r', 'cost', jsonb_build_object('user', {user}), false, 1), ('s', 'cost', '{{\"user\": \"other\"}}', false, 1); \
         INSERT INTO tallyd_audit_log (actor, action, object, old_value, new_value) VALUES \
             ('cli:a', 'budget.set', 'user ' || {user} || '/day', NULL, jsonb_build_object('scope', 'user', 'scope_value', {user})), \
             ('cli:a', 'budget.set', 'provider=p, user=' || {user} || '/day', NULL, jsonb_build_object('scope', jsonb_build_object('provider', 'p', 'user', {user}))), \
             ('cli:a', 'budget.set', 'user other/day', NULL, jsonb_build_object('scope', 'user', 'scope_value', 'other')), \
             ('cli:a', 'alert_rule.set', 'r', NULL, jsonb_build_object('scope', 'user', 'scope_value', {user})); \
         INSERT INTO tallyd_units (day, dimension, value, unit, quantity, revenue_usd) VALUES \
             ('2025-01-01', 'customer', {user}, 'order', 3, 1.5), ('2025-01-01', 'customer', '', 'order', 4, NULL), \
             ('2025-01-02', 'customer', {user}, 'order', 5, NULL), ('2025-01-02', 'customer', 'other', 'order', 6, 2); \
         INSERT INTO tallyd_deploys (app, version, at, deployed_by, actor) VALUES ('web', '1', now(), {user}, 'token:1 ci')"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_is_found_nowhere_any_more_and_every_sum_stays() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("forget").await.unwrap();
    for user in [PERSON, "other", ""] {
        calls(&client, user, &["2024-12", "2025-01", "2025-02"], 20).await;
    }
    drop_before(&client, "2025-02-01T00:00:00Z".parse().unwrap(), &TESTER, None, |_| {}).await.unwrap();
    letters(&client, PERSON).await;
    letters(&client, "other").await;
    watched(&client, PERSON).await;
    let by_day = "SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM daily_api_costs AS t";
    let all = "SELECT sum(calls) || ' ' || sum(cost_usd) || ' ' || min(first_call_at) || ' ' || max(last_call_at) FROM user_api_totals";
    let others = "SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM (SELECT day, provider, calls, cost_usd FROM daily_user_api_costs \
        WHERE user_id = 'other') AS t";
    let mut before = Vec::new();
    for sql in [by_day, all, others] {
        before.push(value(&client, sql).await);
    }
    assert_ne!(traces(&client, PERSON).await, "");

    let found = preview(&client, PERSON).await.unwrap();
    assert_eq!((found.calls, found.dropped_calls, found.days), (60, 40, 12));
    assert_eq!((found.dead_letters, found.budgets, found.is_marked), (4, 2, false));
    let done = forget(&client, &options(PERSON), |_| {}).await.unwrap();
    let expected = Forgotten {
        calls: 20,
        dropped_calls: 40,
        letters_corrected: 3,
        letters_dropped: 1,
        budgets: 2,
        alerts: 4,
        audit_entries: 3,
    };
    assert_eq!(done, expected);
    assert_eq!(traces(&client, PERSON).await, "");
    let units = "SELECT string_agg(concat_ws(' ', day, value, quantity, revenue_usd), ', ' ORDER BY day, value) FROM tallyd_units";
    assert_eq!(value(&client, units).await, "2025-01-01  7 1.5, 2025-01-02  5, 2025-01-02 other 6 2");
    assert_eq!(proven(&db).await, (60, 120));
    for (sql, before) in [by_day, all, others].iter().zip(before) {
        assert_eq!(value(&client, sql).await, before, "{sql}");
    }
    let nobody = "SELECT sum(calls) || ' ' || sum(unpriced_calls) FROM user_api_totals WHERE user_id = ''";
    assert_eq!(value(&client, nobody).await, "120 30");
    let kept = "SELECT count(*) || ' ' || count(*) FILTER (WHERE payload <> '') || ' ' || count(*) FILTER (WHERE settled_at IS NULL) FROM dead_letters";
    assert_eq!(value(&client, kept).await, "8 7 7", "the others' letters stay as they are");
    assert_eq!(value(&client, "SELECT count(*) FROM api_budgets").await, "1");
    let noted = "SELECT string_agg(action || ' ' || length(object), ', ' ORDER BY id) FROM tallyd_audit_log WHERE action = 'user.forget'";
    assert_eq!(value(&client, noted).await, "user.forget 16");

    // A second run finds nothing.
    assert_eq!(forget(&client, &options(PERSON), |_| {}).await.unwrap(), Forgotten::default());
    assert_eq!(proven(&db).await, (60, 120));
    assert!(preview(&client, PERSON).await.unwrap().is_marked);
    assert!(matches!(forget(&client, &options(""), |_| {}).await, Err(ForgetError::NoUser)));
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_holds_at_every_instant_while_calls_arrive_and_partitions_go() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("forget").await.unwrap();
    client
        .batch_execute("UPDATE tallyd_settings SET value = 'America/New_York' WHERE key = 'reporting_time_zone'")
        .await
        .unwrap();
    calls(&client, PERSON, &["2024-11", "2024-12", "2025-01", "2025-02"], 40).await;
    calls(&client, "", &["2024-12", "2025-01"], 10).await;
    let stop = Arc::new(AtomicBool::new(false));
    let proofs = Arc::new(AtomicU32::new(0));
    let proving = tokio::spawn({
        let (db, stop, proofs) = (db.clone(), Arc::clone(&stop), Arc::clone(&proofs));
        async move {
            while !stop.load(Ordering::Relaxed) {
                proven(&db).await;
                proofs.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let arriving = tokio::spawn({
        let (db, stop) = (db.clone(), Arc::clone(&stop));
        async move {
            let client = db.connect("arriving").await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                // Before, within and after the existing months.
                calls(&client, PERSON, &["2024-10", "2025-01", "2025-03"], 3).await;
                calls(&client, "other", &["2025-01"], 2).await;
            }
        }
    });
    let dropper = db.connect("dropper").await.unwrap();
    let mut forgotten = 0;
    for before in ["2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"] {
        let dropping = drop_before(&dropper, before.parse().unwrap(), &TESTER, None, |_| {});
        let options = options(PERSON);
        let (dropped, done) = tokio::join!(dropping, forget(&client, &options, |_| {}));
        dropped.unwrap();
        match done {
            Ok(done) => forgotten += done.calls + done.dropped_calls,
            Err(ForgetError::Arriving) => {}
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    arriving.await.unwrap();
    proving.await.unwrap();
    assert!(proofs.load(Ordering::Relaxed) > 2, "{proofs:?}");
    forgotten += forget(&client, &options(PERSON), |_| {}).await.unwrap().calls;
    assert!(forgotten > 0);
    assert_eq!(traces(&client, PERSON).await, "");
    proven(&db).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_later_is_made_anonymous_unless_the_mark_is_not_wanted() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("forget").await.unwrap();
    for user in [PERSON, "once"] {
        calls(&client, user, &["2025-01"], 5).await;
        let options = ForgetOptions { keep_mark: user == PERSON, ..options(user) };
        assert_eq!(forget(&client, &options, |_| {}).await.unwrap().calls, 5);
    }
    assert_eq!(sweep(&client).await.unwrap(), Forgotten::default());
    for user in [PERSON, "once", "other"] {
        calls(&client, user, &["2025-02"], 4).await;
        letters(&client, user).await;
    }
    client.batch_execute("UPDATE dead_letters SET message = ''").await.unwrap();
    let late = sweep(&client).await.unwrap();
    assert_eq!((late.calls, late.letters_corrected), (4, 3));
    let users = "SELECT string_agg(user_id || ':' || calls, ' ' ORDER BY user_id) FROM \
        (SELECT user_id, sum(calls) AS calls FROM user_api_totals GROUP BY 1) AS t";
    assert_eq!(value(&client, users).await, ":14 once:4 other:4");
    assert_eq!(sweep(&client).await.unwrap(), Forgotten::default());
    proven(&db).await;
    // A truncated letter cannot be found by the id's hash, but by the id.
    assert_eq!(traces(&client, PERSON).await, "dead_letters: 1; ");
    assert_eq!(forget(&client, &options(PERSON), |_| {}).await.unwrap().letters_dropped, 1);
    assert_eq!(traces(&client, PERSON).await, "");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_rollups_still_know_is_forgotten_too() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("forget").await.unwrap();
    calls(&client, PERSON, &["2024-12", "2025-01"], 10).await;
    client.batch_execute("DROP TABLE api_usage_log_2024_12").await.unwrap();
    let mut other = db.connect("reconcile").await.unwrap();
    assert!(!reconcile(&mut other).await.unwrap().equal, "by hand: nothing was kept");
    let done = forget(&client, &options(PERSON), |_| {}).await.unwrap();
    assert_eq!(done.calls, 10);
    assert_eq!(traces(&client, PERSON).await, "");
    for table in ["daily_user_api_costs", "user_api_totals", "daily_api_costs"] {
        assert_eq!(value(&client, &format!("SELECT sum(calls) FROM {table}")).await, "20", "{table}");
    }
    assert!(!reconcile(&mut other).await.unwrap().equal, "what was missing is still found missing");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_loads_may_forget_and_one_that_reads_may_not() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("forget").await.unwrap();
    calls(&client, PERSON, &["2025-01"], 6).await;
    client.batch_execute("SET ROLE tallyd_reader").await.unwrap();
    let error = forget(&client, &options(PERSON), |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("permission denied") && error.contains("tallyd_writer"), "{error}");
    client.batch_execute("RESET ROLE; SET ROLE tallyd_writer").await.unwrap();
    assert_eq!(forget(&client, &options(PERSON), |_| {}).await.unwrap().calls, 6);
    client.batch_execute("RESET ROLE").await.unwrap();
    assert_eq!(traces(&client, PERSON).await, "");
    assert_eq!(proven(&db).await, (6, 0));
    db.close().await;
}
