//! Each answer reads rows of its own rollup only. Only requests for single calls read the call log.
//!
//! PostgreSQL counts: `auto_explain` logs each statement's plan with the number of rows that its scans have read.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::Api;
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// The sessions that answer over HTTP.
const SESSIONS: &str = "@@@ tallyd control @@@";
/// Calls of each of [`DAYS`] days.
const CALLS_A_DAY: usize = 5_000;
const DAYS: usize = 62;
const USERS: u64 = 2_000;

/// 3 applications, 4 models of 2 providers, 5 endpoints, and the users.
fn fill() -> String {
    format!(
        "SELECT tallyd_ensure_partitions(now() - interval '{DAYS} days', now()); \
         INSERT INTO api_usage_log (occurred_at, id, provider, model, endpoint, user_id, app, request_id, input_tokens, cost_usd, cost_source) \
         SELECT now() - i * interval '1 day' / {CALLS_A_DAY}, \
             (lpad(to_hex((extract(epoch FROM now() - i * interval '1 day' / {CALLS_A_DAY}) * 1000)::int8), 12, '0') || '7000' || right(md5(i::text), 16))::uuid, 'p' || i % 2, 'm' || i % 4, '/e' || i % 5, 'u' || i * 7919 % {USERS}, \
             'app' || i % 3, 'r' || i, 100, 0.01, 'catalog' FROM generate_series(1::int8, {}) AS i",
        CALLS_A_DAY * DAYS
    )
}

/// Rows that scans have read, by table; partitions of the call log are one table.
fn rows_read(log: &str) -> BTreeMap<String, u64> {
    let mut read = BTreeMap::new();
    for entry in log.split(SESSIONS).skip(1) {
        let entry = entry.split("@@@ ").next().unwrap_or_default();
        let Some((_, plan)) = entry.split_once("plan:") else { continue };
        let mut plans = serde_json::Deserializer::from_str(plan).into_iter::<Value>();
        add(&plans.next().unwrap().unwrap()["Plan"], &mut read);
    }
    read
}

fn add(node: &Value, read: &mut BTreeMap<String, u64>) {
    if let Some(table) = node["Relation Name"].as_str() {
        let table = if table.starts_with("api_usage_log") { "api_usage_log" } else { table };
        let of = |name: &str| node[name].as_f64().unwrap_or_default();
        let rows = of("Actual Rows") + of("Rows Removed by Filter") + of("Rows Removed by Index Recheck");
        *read.entry(table.to_owned()).or_default() += (rows * of("Actual Loops")) as u64;
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        add(child, read);
    }
}

#[test]
fn no_answer_reads_more_rows_than_it_needs() {
    let mut postgres = Postgres::stopped()
        .with_setting("session_preload_libraries", "auto_explain")
        .with_setting("auto_explain.log_min_duration", "0")
        .with_setting("auto_explain.log_analyze", "on")
        .with_setting("auto_explain.log_timing", "off")
        .with_setting("auto_explain.log_format", "json")
        .with_setting("log_line_prefix", "@@@ %a @@@ ");
    postgres.up();
    let before = Daemon::on(&postgres.url());
    assert!(before.run(&["migrate"]).status.success());
    postgres.psql(&fill());
    assert!(before.run(&["rollups", "rebuild", "--time-zone", "UTC", "--yes"]).status.success());
    postgres.psql("VACUUM ANALYZE");
    let api = Api::on(postgres, &[]);
    let token = api.token("read");
    let rows = |sql: &str| -> u64 { api.postgres.psql(&format!("SELECT count(*) FROM {sql}")).parse().unwrap() };
    let month = rows("api_usage_log WHERE occurred_at > now() - interval '31 days'");
    let of_days = |table: &str, days: u32| rows(&format!("{table} WHERE day > current_date - {days}"));
    let hours = rows("hourly_api_costs WHERE hour >= current_date - 6");
    for (path, table, most) in [
        ("costs?days=30&group_by=model", "daily_api_costs", of_days("daily_api_costs", 30)),
        (
            "costs?days=60&bucket=total&group_by=app&sort=cost",
            "daily_dimension_costs",
            of_days("daily_dimension_costs", 60),
        ),
        (
            "costs?days=30&bucket=week&app=app1&group_by=model",
            "daily_dimension_costs",
            of_days("daily_dimension_costs", 30),
        ),
        ("costs?days=7&bucket=hour&group_by=provider", "hourly_api_costs", hours),
        // 34 users of the list with 30 days each.
        ("costs?days=30&bucket=total&group_by=user&sort=cost&limit=10", "tallyd_user_", 34 * 31 / 3 + 60),
        ("users/u7?days=30", "tallyd_user_", rows("daily_user_api_costs WHERE user_id = 'u7'")),
        // A page and one more, and the users that are counted; nothing of days and totals.
        ("users?limit=50&sort=cost", "tallyd_user_", USERS + 51),
        ("users?limit=50&sort=last_call&order=asc", "tallyd_user_", USERS + 51),
        ("users?limit=50&sort=calls&cursor=calls:called:155:u77", "tallyd_user_", USERS + 51),
        ("users?limit=50&sort=id&cursor=id:called::u77", "tallyd_user_", USERS + 51),
        ("users?limit=50&search=u7", "tallyd_user_", 3 * 111),
        // Single calls: BRIN finds ranges of pages, and several windows of time are searched.
        ("records?limit=100", "api_usage_log", month / 3),
        ("records?limit=100&from=FROM", "api_usage_log", month / 3),
        ("records?limit=100&from=FROM&provider=p1&model=m3", "api_usage_log", month / 3),
        ("records?id=ID", "api_usage_log", month / 3),
    ] {
        let from = api.postgres.psql("SELECT to_char(current_date - 30, 'YYYY-MM-DD')");
        let id = api.postgres.psql("SELECT id FROM api_usage_log WHERE request_id = 'r77777'");
        let path = format!("/api/v1/{}", path.replace("FROM", &from).replace("ID", &id));
        let start = api.postgres.whole_log().len();
        let answer = api.get(&path, &token).ok();
        // Plans are logged as statements end, before the answer is sent.
        let read = rows_read(&api.postgres.whole_log()[start..]);
        // A rollup of a few pages is read whole, which is up to three times the rows of a period here.
        let most = if table == "api_usage_log" || path.contains("/users?") { most } else { most * 3 };
        // Users' costs are in several tables whose names have the same beginning.
        let of_table: Vec<u64> =
            read.iter().filter(|(name, _)| name.starts_with(table)).map(|(_, rows)| *rows).collect();
        let total: u64 = of_table.iter().sum();
        assert!(!of_table.is_empty() && total <= most, "{path} read {read:?} for {most} of {table}");
        if table != "api_usage_log" {
            assert!(!read.contains_key("api_usage_log"), "{path} read the call log: {read:?}");
        } else {
            let calls = if path.contains("id=") { 1 } else { 100 };
            assert_eq!(answer["records"].as_array().unwrap().len(), calls, "{path}");
        }
    }
}
