//! Dimensions: counted backwards a day at a time, with the proof at each step; bounded, forgotten, removed.

use tallyd_store::dimensions::{DayCounted, DimensionError, add, count_day, list, remove};
use tallyd_store::forget::{ForgetOptions, forget};
use tallyd_store::retention::drop_before;
use tallyd_store::{Connection, Database, rebuild_rollups, reconcile};

use crate::support::{TESTER, data_dir, migrated, value};

/// Values of a day that keep their names.
const MAX: usize = 2;

async fn proven(db: &Database) {
    let found = reconcile(&mut db.connect("reconcile").await.unwrap()).await.unwrap();
    assert!(found.equal, "{:?}", found.differences);
}

/// Calls with tags: on each of the days `count` of each value.
async fn calls(client: &Connection, days: &[&str], values: &[(&str, usize)]) {
    for day in days {
        for (team, count) in values {
            for call in 0..*count {
                let tags =
                    if team.is_empty() { "NULL".into() } else { format!("'{{\"team\": \"{team}\", \"run\": \"r\"}}'") };
                let sql = format!(
                    "SELECT increment_daily_cost(provider => 'claude', model => 'm{}', user_id => 'u', app => 'web', \
                     cost_usd => 0.{call}7, occurred_at => '{day} 1{call}:00Z', tags => {tags})",
                    call % 2
                );
                client.batch_execute(&sql).await.unwrap();
            }
        }
    }
}

const TEAMS: &str = "SELECT coalesce(string_agg(concat_ws(' ', day, value, calls), ', ' ORDER BY day, value COLLATE \"C\"), '') FROM \
    (SELECT day, value, sum(calls) AS calls FROM daily_dimension_costs WHERE dimension = 'team' GROUP BY 1, 2) AS d";

#[tokio::test(flavor = "multi_thread")]
async fn days_are_counted_backwards_and_what_was_begun_goes_on_elsewhere() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("one").await.unwrap();
    calls(&client, &["2026-01-05", "2026-01-07", "2026-03-01"], &[("search", 2), ("", 1)]).await;
    assert_eq!(count_day(&client, MAX).await.unwrap(), None, "app is whole");
    assert!(add(&client, "team", &TESTER).await.unwrap());
    assert!(!add(&client, "team", &TESTER).await.unwrap(), "it is there");
    proven(&db).await;
    let day = |text: &str| Some(text.parse().unwrap());
    let first = count_day(&client, MAX).await.unwrap().unwrap();
    assert_eq!(first, DayCounted { name: "team".into(), day: day("2026-03-01"), rows: 3, other_calls: 0 });
    proven(&db).await;
    assert_eq!(value(&client, TEAMS).await, "2026-03-01  1, 2026-03-01 search 2");

    // Calls of counted days count at once, those of other days once their day is counted.
    for time in ["2026-01-06 10:00Z", "2026-03-01 20:00Z", "2026-03-02 10:00Z"] {
        let call = format!("SELECT increment_daily_cost('claude', cost_usd => 1, occurred_at => '{time}')");
        client.batch_execute(&call).await.unwrap();
        proven(&db).await;
    }
    assert_eq!(value(&client, TEAMS).await, "2026-03-01  2, 2026-03-01 search 2, 2026-03-02  1");

    // A step that did not end has changed nothing, and another session goes on.
    let other = db.connect("other").await.unwrap();
    other.batch_execute("BEGIN; LOCK TABLE daily_api_costs IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let killed = db.connect("killed").await.unwrap();
    let pid = value(&killed, "SELECT pg_backend_pid()::text").await;
    let step = tokio::spawn(async move { count_day(&killed, MAX).await });
    let waits = format!("SELECT count(*)::text FROM pg_locks WHERE pid = {pid} AND NOT granted");
    while value(&client, &waits).await == "0" {
        tokio::task::yield_now().await;
    }
    client.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
    assert!(matches!(step.await.unwrap(), Err(DimensionError::Database(_))));
    other.batch_execute("COMMIT").await.unwrap();
    proven(&db).await;
    for expected in ["2026-01-07", "2026-01-06", "2026-01-05"] {
        assert_eq!(count_day(&other, MAX).await.unwrap().unwrap().day, day(expected));
        proven(&db).await;
    }
    let state = async || list(&*client).await.unwrap().into_iter().find(|one| one.name == "team").unwrap();
    assert!(!state().await.is_whole);
    assert_eq!(count_day(&other, MAX).await.unwrap().unwrap().day, None);
    assert_eq!(count_day(&other, MAX).await.unwrap(), None);
    assert!(state().await.is_whole && state().await.told_from().is_none());
    let counted = value(&client, TEAMS).await;
    assert!(counted.starts_with("2026-01-05  1, 2026-01-05 search 2, 2026-01-06  1, 2026-01-07  1, "), "{counted}");

    // All other changes of sums change these, too.
    rebuild_rollups(&mut db.connect("rebuild").await.unwrap(), "Asia/Kolkata", &TESTER).await.unwrap();
    proven(&db).await;
    drop_before(&client, "2026-02-01T00:00:00Z".parse().unwrap(), &TESTER, None, |_| ()).await.unwrap();
    proven(&db).await;
    assert!(remove(&client, "team", &TESTER).await.unwrap() > 0);
    assert_eq!(value(&client, TEAMS).await, "");
    proven(&db).await;
    // Its dropped days cannot be counted again, which is told.
    add(&client, "team", &TESTER).await.unwrap();
    while count_day(&client, MAX).await.unwrap().is_some() {}
    proven(&db).await;
    assert_eq!(state().await.told_from(), day("2026-01-08"));
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_day_with_too_many_values_the_most_used_keep_their_names() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("one").await.unwrap();
    let values = [("a", 1), ("b", 3), ("c", 2), ("", 2), ("d", 1)];
    calls(&client, &["2026-01-05"], &values).await;
    // A dimension that was there before has left its bit.
    client
        .batch_execute("UPDATE api_usage_log SET rollup_other = rollup_other | 8 WHERE tags ->> 'team' = 'b'")
        .await
        .unwrap();
    add(&client, "team", &TESTER).await.unwrap();
    let counted = count_day(&client, MAX).await.unwrap().unwrap();
    assert_eq!(counted.other_calls, 2);
    let expected = "2026-01-05  2, 2026-01-05 (other) 2, 2026-01-05 b 3, 2026-01-05 c 2";
    assert_eq!(value(&client, TEAMS).await, expected);
    let bits = "SELECT string_agg(DISTINCT tags ->> 'team', ' ') FROM api_usage_log WHERE rollup_other & 8 <> 0";
    assert_eq!(value(&client, bits).await, "a d", "the call log keeps what was sent");
    proven(&db).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_twelve_at_most_and_names_are_checked() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("one").await.unwrap();
    for number in 0..11 {
        assert!(add(&client, &format!("tag-{number}"), &TESTER).await.unwrap());
    }
    assert!(matches!(add(&client, "one-more", &TESTER).await, Err(DimensionError::Full)));
    remove(&client, "tag-5", &TESTER).await.unwrap();
    assert!(add(&client, "one-more", &TESTER).await.unwrap());
    assert_eq!(value(&client, "SELECT place::text FROM tallyd_dimensions WHERE name = 'one-more'").await, "8");
    assert!(matches!(remove(&client, "app", &TESTER).await, Err(DimensionError::Fixed)));
    assert!(matches!(remove(&client, "tag-5", &TESTER).await, Err(DimensionError::Missing(_))));
    for wrong in ["", "a b", "a'b", "ü", &"x".repeat(65)] {
        assert!(matches!(add(&client, wrong, &TESTER).await, Err(DimensionError::Name(_))), "{wrong}");
    }
    let noted = "SELECT count(*)::text FROM tallyd_audit_log WHERE action IN ('dimension.add', 'dimension.remove')";
    assert_eq!(value(&client, noted).await, "13");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_user_is_in_no_tag_and_costs_stay_with_their_team() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("one").await.unwrap();
    let call = "SELECT increment_daily_cost('claude', user_id => u, cost_usd => 1, occurred_at => at::timestamptz) \
        FROM (VALUES ('person', '2025-01-05 10:00Z'), ('person', '2026-01-05 10:00Z'), ('other', '2026-01-05 10:00Z')) AS c (u, at)";
    client.batch_execute(call).await.unwrap();
    let tag = "UPDATE api_usage_log SET tags = jsonb_build_object('team', 'search', 'customer', user_id, 'trace', user_id || '-1')";
    client.batch_execute(tag).await.unwrap();
    for name in ["team", "customer"] {
        add(&client, name, &TESTER).await.unwrap();
    }
    while count_day(&client, MAX).await.unwrap().is_some() {}
    drop_before(&client, "2025-12-01T00:00:00Z".parse().unwrap(), &TESTER, None, |_| ()).await.unwrap();
    proven(&db).await;
    let options = ForgetOptions { user_id: "person", batch_calls: 10, keep_mark: true, by: TESTER };
    forget(&client, &options, |_| ()).await.unwrap();
    proven(&db).await;
    let customers = "SELECT string_agg(concat_ws(' ', day, value, calls), ', ' ORDER BY day, value) FROM daily_dimension_costs \
        WHERE dimension = 'customer'";
    assert_eq!(value(&client, customers).await, "2025-01-05  1, 2026-01-05  1, 2026-01-05 other 1");
    assert_eq!(value(&client, TEAMS).await, "2025-01-05 search 1, 2026-01-05 search 2");
    let tags = "SELECT string_agg(tags::text, ' ' ORDER BY tags::text) FROM api_usage_log WHERE user_id = ''";
    assert_eq!(value(&client, tags).await, r#"{"team": "search"}"#);
    for table in ["api_usage_log", "daily_dimension_costs", "tallyd_dropped_dimension_costs"] {
        let left = format!("SELECT count(*)::text FROM {table} AS t WHERE strpos(t::text, 'person') > 0");
        assert_eq!(value(&client, &left).await, "0", "{table}");
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_calls_from_sql_are_stored_and_counted_as_those_of_records() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("one").await.unwrap();
    add(&client, "team", &TESTER).await.unwrap();
    while count_day(&client, MAX).await.unwrap().is_some() {}
    for (tags, stored) in [
        (r#"{"team": "search", "run": "r", "empty": "", "none": null}"#, r#" {"run": "r", "team": "search"}"#),
        (r#"{"app": "web", "team": "ads"}"#, r#"web {"team": "ads"}"#),
        (r#"{"app": "cron"}"#, "cron none"),
        ("{}", " none"),
        (r#"{"API_Key": "sk-live-1"}"#, r#" {"API_Key": "sha256:f8dc9db173ee"}"#),
        (r#"{"api_key": "sha256:f8dc9db173ee"}"#, r#" {"api_key": "sha256:f8dc9db173ee"}"#),
    ] {
        let call = format!("SELECT increment_daily_cost('claude', cost_usd => 1, tags => '{tags}')::text");
        let id = value(&client, &call).await;
        let row =
            format!("SELECT concat_ws(' ', app, coalesce(tags::text, 'none')) FROM api_usage_log WHERE id = '{id}'");
        assert_eq!(value(&client, &row).await, stored, "{tags}");
    }
    let counted = "SELECT string_agg(concat_ws(' ', dimension, value, calls), ', ' ORDER BY dimension, value COLLATE \"C\") FROM \
        (SELECT dimension, value, sum(calls) AS calls FROM daily_dimension_costs GROUP BY 1, 2) AS d";
    assert_eq!(value(&client, counted).await, "app  4, app cron 1, app web 1, team  4, team ads 1, team search 1");
    proven(&db).await;
    db.close().await;
}
