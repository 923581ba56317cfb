//! The list of users: pages by every order, while calls are loaded and merged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tallyd_config::Users;
use tallyd_store::queries::users::cursor::Cursor;
use tallyd_store::queries::users::list::List;
use tallyd_store::queries::users::{CountIs, UserQuestion, UserSort};
use tallyd_store::user_deltas::merge;
use tallyd_store::user_list::{is_due, refresh};
use tallyd_store::{Database, reconcile};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{data_dir, migrated, value};

/// Each order, and what it is in SQL.
const ORDERS: [(UserSort, &str); 6] = [
    (UserSort::Cost, "cost"),
    (UserSort::Calls, "calls"),
    (UserSort::ClaudeCalls, "claude"),
    (UserSort::RentcastCalls, "rentcast"),
    (UserSort::LastCall, "last_call"),
    (UserSort::Id, "user_id COLLATE \"C\""),
];
const WRITERS: u64 = 2;
const CALLS: u64 = 400;

/// A user's row as text.
fn expected(order: &str, direction: &str) -> String {
    format!(
        "SELECT user_id || ' ' || calls || ' ' || claude || ' ' || rentcast || ' ' || errors || ' ' || unpriced || ' ' || trim_scale(cost) \
             || ' ' || extract(epoch FROM first_call)::text || ' ' || extract(epoch FROM last_call)::text \
         FROM (SELECT user_id, count(*) AS calls, count(*) FILTER (WHERE provider = 'claude') AS claude, \
                 count(*) FILTER (WHERE provider = 'rentcast') AS rentcast, count(*) FILTER (WHERE status >= 400) AS errors, \
                 count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced, coalesce(sum(cost_usd), 0) AS cost, \
                 min(occurred_at) AS first_call, max(occurred_at) AS last_call \
             FROM api_usage_log WHERE user_id <> '' GROUP BY user_id) AS u \
         ORDER BY {order} {direction}, user_id COLLATE \"C\" {direction}"
    )
}

async fn lines(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap();
    let line = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap().to_owned()),
        _ => None,
    };
    messages.iter().filter_map(line).collect()
}

/// All users of a list, page by page, through the text of each cursor.
async fn pages(list: &List<'_>, mut question: UserQuestion) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let page = list.page(&question).await.unwrap();
        assert!(page.users.len() <= question.limit);
        let seconds = |at: Option<chrono::DateTime<chrono::Utc>>| {
            let us = at.unwrap().timestamp_micros();
            format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
        };
        lines.extend(page.users.iter().map(|user| {
            format!(
                "{} {} {} {} {} {} {} {} {}",
                user.id,
                user.total_calls,
                user.total_claude_calls,
                user.total_rentcast_calls,
                user.errors,
                user.unpriced_calls,
                user.cost_usd,
                seconds(user.first_call_at),
                seconds(user.last_call_at)
            )
        }));
        let Some(next) = page.next else { return lines };
        assert_eq!(page.users.len(), question.limit, "only the last page is shorter");
        question.after = Some(Cursor::read(&next.to_string(), question.sort).unwrap());
    }
}

/// Loads calls of 40 users, many of them with the same sums.
fn load(db: &Database, writer: u64) -> tokio::task::JoinHandle<()> {
    let db = db.clone();
    tokio::spawn(async move {
        let client = db.connect("writer").await.unwrap();
        for call in 0..CALLS {
            let random = (call * WRITERS + writer).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let provider = ["claude", "rentcast", "openai"][(random % 3) as usize];
            let user = match random / 3 % 41 {
                40 => String::new(),
                user => format!("u{}:%_", user * user),
            };
            let cost =
                if random.is_multiple_of(5) { "NULL".into() } else { format!("{}.000000000000000001", random % 3) };
            let sql = format!(
                "SELECT increment_daily_cost('{provider}', user_id => '{user}', cost_usd => {cost}, status => {}, \
                 occurred_at => '2026-11-01Z'::timestamptz + {} * interval '1 us')",
                if random.is_multiple_of(7) { 500 } else { 200 },
                random % 50
            );
            client.batch_execute(&sql).await.unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_in_every_order_are_the_sorted_sums_of_the_log_while_calls_are_loaded_and_merged() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS).map(|writer| load(&db, writer)).collect();
    let (other, stop) = (db.clone(), Arc::clone(&done));
    let merger = tokio::spawn(async move {
        let client = other.connect("merger").await.unwrap();
        let mut looks = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            merge(&client).await.unwrap();
            looks += 1;
            // Notes wait over several merges.
            if looks.is_multiple_of(4) {
                refresh(&client).await.unwrap();
            }
        }
    });
    let client = db.connect("reader").await.unwrap();
    let (mut compared, mut rounds) = (0, 0);
    loop {
        let is_last = writers.iter().all(tokio::task::JoinHandle::is_finished);
        // What one snapshot has of both.
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.unwrap();
        let list = List::open(&client, &Users::default()).await.unwrap();
        // Where deltas are not vacuumed in time, the list is older.
        if list.as_of().is_none() {
            for (sort, order) in ORDERS {
                for (descending, direction) in [(true, "DESC"), (false, "ASC")] {
                    let question = UserQuestion { sort, descending, limit: 3 + rounds % 9, ..UserQuestion::default() };
                    let expected = lines(&client, &expected(order, direction)).await;
                    assert_eq!(pages(&list, question).await, expected, "{sort:?} {direction}, round {rounds}");
                    assert_eq!(list.count(None).await.unwrap().users, expected.len() as i64);
                }
            }
            compared += 1;
        }
        client.batch_execute("COMMIT").await.unwrap();
        rounds += 1;
        if is_last {
            break;
        }
    }
    done.store(true, Ordering::Relaxed);
    merger.await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(compared > 0, "{rounds} rounds");
    while merge(&client).await.unwrap().is_some() {}
    refresh(&client).await.unwrap();
    assert!(!is_due(&client).await.unwrap());
    let found = reconcile(&mut db.connect("reconcile").await.unwrap()).await.unwrap();
    assert!(found.equal, "{:?}", found.differences);
    assert_eq!(value(&client, "SELECT count(*) FROM tallyd_user_list WHERE user_id = ''").await, "0");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_many_deltas_the_list_says_how_old_it_is_until_they_are_merged() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("reader").await.unwrap();
    let users = Users::default();
    let spend = async |user: &str| {
        let call = format!("SELECT increment_daily_cost('claude', user_id => '{user}', cost_usd => 5)");
        client.batch_execute(&call).await.unwrap();
    };
    let ids = async || {
        let list = List::open(&client, &users).await.unwrap();
        let question = UserQuestion { descending: true, limit: 2, ..UserQuestion::default() };
        let page = list.page(&question).await.unwrap();
        (list.as_of(), page.users.into_iter().map(|user| user.id).collect::<Vec<_>>())
    };
    spend("early").await;
    merge(&client).await.unwrap();
    refresh(&client).await.unwrap();
    let before = value(&client, "SELECT clock_timestamp()").await;
    spend("late").await;
    assert_eq!(ids().await, (None, vec!["late".to_owned(), "early".to_owned()]), "few deltas are added up");
    let many = "INSERT INTO tallyd_user_deltas_0 (day, user_id, provider, calls, cost_usd, first_call_at, last_call_at) \
        SELECT current_date, 'many' || n, 'openai', 1, 1, now(), now() FROM generate_series(1, 4000) AS n";
    client.batch_execute(many).await.unwrap();
    let (as_of, found) = ids().await;
    assert_eq!(found, ["early"]);
    let is_before = format!("SELECT '{}'::timestamptz <= '{before}'::timestamptz", as_of.unwrap().to_rfc3339());
    assert_eq!(value(&client, &is_before).await, "t", "the late call came after that");
    let one = List::open(&client, &users).await.unwrap().one("late").await.unwrap();
    assert_eq!(one.map(|user| user.total_calls.0), Some(1), "one user is always whole");
    while merge(&client).await.unwrap().is_some() {}
    let (as_of, found) = ids().await;
    assert!(as_of.is_some() && found == ["early"], "4,001 users are due");
    refresh(&client).await.unwrap();
    assert_eq!(ids().await.1, ["late", "early"]);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_are_estimated_and_a_search_finds_the_first_by_the_beginning_of_the_id() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("reader").await.unwrap();
    let many = "INSERT INTO tallyd_user_totals (user_id, provider, calls, cost_usd, first_call_at, last_call_at) \
        SELECT 'user-' || n, 'claude', n, n % 100, now(), now() FROM generate_series(1, 6000) AS n; \
        INSERT INTO tallyd_user_list_due SELECT user_id FROM tallyd_user_totals";
    client.batch_execute(many).await.unwrap();
    refresh(&client).await.unwrap();
    client.batch_execute("ANALYZE tallyd_user_list").await.unwrap();
    let list = List::open(&client, &Users::default()).await.unwrap();
    let count = async |search: Option<&str>| {
        let count = list.count(search).await.unwrap();
        (count.users, count.is)
    };
    assert_eq!(count(None).await, (6_000, CountIs::Estimate));
    assert_eq!(count(Some("user-59")).await, (111, CountIs::Exact));
    assert_eq!(count(Some("user-5")).await, (1_000, CountIs::AtLeast));
    assert_eq!(count(Some("ser-")).await, (0, CountIs::Exact), "the beginning");
    assert_eq!(count(Some("user%")).await, (0, CountIs::Exact));
    let question = |search: &str| UserQuestion {
        search: Some(search.into()),
        descending: true,
        limit: 50,
        ..UserQuestion::default()
    };
    let page = list.page(&question("user-59")).await.unwrap();
    assert_eq!(page.users[0].id, "user-5999", "in the order of costs");
    assert!(page.next.is_some());
    assert_eq!(list.page(&question("user-5999")).await.unwrap().users.len(), 1);
    db.close().await;
}
