//! The users who cost most in a range: the same as by the sums of all users, from a few of them.

use chrono::{DateTime, Days, NaiveDate};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_model::pricing::{Catalog, PricingOptions};
use tallyd_store::forget::{ForgetOptions, forget};
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, SortBy};
use tallyd_store::reprice::{RepriceOptions, reprice};
use tallyd_store::retention::drop_before;
use tallyd_store::user_deltas::merge;
use tallyd_store::user_list::{is_due, refresh, roll};
use tallyd_store::{Connection, Database, rebuild_rollups, reconcile};
use tokio_postgres::SimpleQueryMessage;

use crate::support::{TESTER, data_dir, migrated, value};

/// More than a first step takes.
const USERS: u64 = 400;
const ROUNDS: u64 = 40;

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Calls of the last 70 days. Some users cost the same, some get money back.
async fn load(client: &Connection, random: &mut Random, calls: u64) {
    let calls: Vec<String> = (0..calls)
        .map(|_| {
            let user = random.below(USERS);
            let user = if user == 0 { String::new() } else { format!("U{}", user * user) };
            let days = random.one(&[70, 40, 30, 29, 1]);
            let cost = match random.below(60) {
                0 => "-7".to_owned(),
                1..=9 => "NULL".to_owned(),
                10..=40 => format!("{}", random.below(4)),
                _ => format!("{}.000000000000000001", random.below(9) * random.below(9)),
            };
            format!(
                "SELECT increment_daily_cost('{}', 'claude-sonnet-4-5', user_id => '{user}', cost_usd => {cost}, input_tokens => {}, \
                 occurred_at => now() - {} * interval '1 day');",
                random.one(&["claude", "openai"]),
                random.below(9_000),
                random.below(days + 1),
            )
        })
        .collect();
    client.batch_execute(&calls.concat()).await.unwrap();
}

/// A question, with the tables that answer it.
fn question(random: &mut Random, today: NaiveDate) -> CostQuery {
    let days = random.one(&[30, 30, 30, 7, 1, 31, 60, 365]);
    let by_provider = random.below(3) == 0;
    CostQuery {
        from: today - Days::new(days - 1),
        to: today + Days::new(random.below(2)),
        zone: "UTC".into(),
        bucket: random.one(&[Bucket::Total, Bucket::Total, Bucket::Month]),
        group_by: if by_provider { vec![Dimension::User, Dimension::Provider] } else { vec![Dimension::User] },
        filters: if random.below(4) == 0 { vec![(Dimension::Provider, "openai".into())] } else { Vec::new() },
        dimensions: Vec::new(),
        sort: random.one(&[SortBy::Cost, SortBy::Cost, SortBy::Calls]),
        descending: true,
        limit: (1 + random.below(12)).cast_signed(),
        offset: random.below(5).cast_signed(),
    }
}

/// The same by the sums of all users.
async fn expected(client: &Connection, question: &CostQuery) -> Vec<String> {
    let by_provider = question.group_by.len() == 2;
    let sql = format!(
        "SELECT concat_ws(' ', b, user_id, {provider}, calls, trim_scale(cost)) FROM ( \
             SELECT {bucket} AS b, user_id, {provider} AS provider, sum(calls) AS calls, round(sum(cost_usd), 18) AS cost \
             FROM daily_user_api_costs WHERE day BETWEEN '{}' AND '{}' {filter} GROUP BY 1, 2, 3) AS s \
         ORDER BY {} DESC, b, user_id COLLATE \"C\", provider LIMIT {} OFFSET {}",
        question.from,
        question.to,
        if question.sort == SortBy::Calls { "calls" } else { "cost" },
        question.limit,
        question.offset,
        provider = if by_provider { "provider" } else { "NULL::text" },
        bucket = if question.bucket == Bucket::Month { "date_trunc('month', day)::date" } else { "NULL::date" },
        filter = if question.filters.is_empty() { "" } else { "AND provider = 'openai'" },
    );
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap().to_owned()),
        _ => None,
    };
    client.simple_query(&sql).await.unwrap().into_iter().filter_map(row).collect()
}

async fn assert_same(client: &Connection, question: &CostQuery, when: &str) {
    let found = question.ask(client).await.unwrap();
    assert_eq!(found.as_of, None, "{when}");
    let line = |row: tallyd_store::queries::grouped::GroupRow| {
        let names: Vec<String> = [row.bucket, row.user, row.provider].into_iter().flatten().collect();
        format!("{} {} {}", names.join(" "), row.sums.calls, row.sums.cost_usd)
    };
    let found: Vec<String> = found.rows.into_iter().map(line).collect();
    assert_eq!(found, expected(client, question).await, "{when}: {question:?}");
}

async fn merged(client: &Connection) {
    while merge(client).await.unwrap().is_some() {}
}

/// One of the acts that change the users' days or the bounds.
async fn act(db: &Database, random: &mut Random, client: &Connection) -> &'static str {
    match random.below(12) {
        0..=2 => {
            load(client, random, 60).await;
            "load"
        }
        3..=4 => {
            merged(client).await;
            "merge"
        }
        5..=7 => {
            merged(client).await;
            refresh(client).await.unwrap();
            "refresh"
        }
        8 => {
            // Bounds as they were computed some days ago, and a midnight since.
            let ago = "UPDATE tallyd_delta_ring SET lately_from = least(lately_from, current_date - 29) - 6; \
                INSERT INTO tallyd_user_list_due SELECT user_id FROM tallyd_user_list";
            client.batch_execute(ago).await.unwrap();
            refresh(client).await.unwrap();
            roll(client, false).await.unwrap();
            "roll"
        }
        9 => {
            let user = random.below(USERS) + 1;
            let options =
                ForgetOptions { user_id: &format!("U{}", user * user), batch_calls: 5, keep_mark: false, by: TESTER };
            forget(client, &options, |_| {}).await.unwrap();
            "forget"
        }
        10 => {
            let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
            let to_us = SystemClock.now_us();
            let from_us = to_us - random.below(60).cast_signed() * 86_400_000_000;
            let options = RepriceOptions {
                from_us,
                to_us,
                provider: "claude".into(),
                model: String::new(),
                include_client: true,
                batch_rows: 5_000,
            };
            reprice(client, &catalog, &options, &TESTER, |_| true).await.unwrap();
            "reprice"
        }
        _ => {
            let before = DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap() - Days::new(45);
            drop_before(client, before, &TESTER, None, |_| {}).await.unwrap();
            let zone = random.one(&["UTC", "Asia/Tokyo", "America/Los_Angeles"]);
            rebuild_rollups(&mut db.connect("rebuild").await.unwrap(), zone, &TESTER).await.unwrap();
            "retention and rebuild"
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dearest_users_of_a_range_are_those_of_the_sums_of_all() {
    let given = std::env::var("TALLYD_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| SystemClock.now_us().unsigned_abs());
    println!("TALLYD_TEST_SEED={seed} repeats this");
    let mut random = Random(seed);
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("reader").await.unwrap();
    load(&client, &mut random, 900).await;
    merged(&client).await;
    refresh(&client).await.unwrap();
    let mut done = Vec::new();
    for _ in 0..ROUNDS {
        done.push(act(&db, &mut random, &client).await);
        let today = value(&client, "SELECT tallyd_day(now())").await.parse().unwrap();
        for _ in 0..6 {
            let question = question(&mut random, today);
            assert_same(&client, &question, &format!("seed {seed}, after {done:?}")).await;
        }
    }
    merged(&client).await;
    refresh(&client).await.unwrap();
    let bounds = "SELECT count(*) FROM tallyd_user_list AS l, tallyd_delta_ring AS r WHERE NOT l.has_refunds AND l.lately_usd < \
        (SELECT round(coalesce(sum(d.cost_usd), 0), 18) FROM tallyd_user_days AS d WHERE d.user_id = l.user_id AND d.day >= r.lately_from)";
    assert_eq!(value(&client, bounds).await, "0");
    let found = reconcile(&mut db.connect("reconcile").await.unwrap()).await.unwrap();
    assert!(found.equal, "{:?}", found.differences);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_dearest_users_reads_some_users_days_and_not_those_of_all() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("reader").await.unwrap();
    // 20,000 users; a user's cost in the last weeks and in the year have different orders.
    let fill = "INSERT INTO tallyd_user_days (day, user_id, provider, calls, cost_usd) \
            SELECT current_date - d * 20, 'u' || u, 'claude', 1 + u % 7, CASE WHEN d < 2 THEN sqrt(u)::numeric ELSE 150 - sqrt(u)::numeric END \
            FROM generate_series(1, 20000) AS u, generate_series(0, 4) AS d; \
        INSERT INTO tallyd_user_totals (user_id, provider, calls, cost_usd, first_call_at, last_call_at) \
            SELECT user_id, provider, sum(calls), sum(cost_usd), min(day), max(day) FROM tallyd_user_days GROUP BY 1, 2; \
        INSERT INTO tallyd_user_list_due (user_id) SELECT user_id FROM tallyd_user_totals";
    client.batch_execute(fill).await.unwrap();
    assert!(is_due(&client).await.unwrap());
    refresh(&client).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let today: NaiveDate = value(&client, "SELECT current_date").await.parse().unwrap();
    let question = |days: u64| CostQuery {
        from: today - Days::new(days - 1),
        to: today,
        zone: "UTC".into(),
        bucket: Bucket::Total,
        group_by: vec![Dimension::User],
        filters: Vec::new(),
        dimensions: Vec::new(),
        sort: SortBy::Cost,
        descending: true,
        limit: 50,
        offset: 0,
    };
    let read = async |days: u64| {
        let read = async || -> u64 {
            let sql = "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname = 'tallyd_user_days'";
            value(&client, sql).await.parse().unwrap()
        };
        client.batch_execute("BEGIN").await.unwrap();
        let before = read().await;
        let rows = question(days).ask(&client).await.unwrap().rows;
        let after = read().await;
        client.batch_execute("COMMIT").await.unwrap();
        (rows.first().and_then(|row| row.user.clone()), after - before)
    };
    // 82 users, with two days each.
    let (first, rows) = read(30).await;
    assert!(first.as_deref() == Some("u20000") && rows <= 200, "{first:?} {rows}");
    let (first, rows) = read(365).await;
    assert!(first.as_deref() == Some("u1") && rows <= 500, "{first:?} {rows}");
    // The bounds of too many users are above the page: two steps, and then all users.
    let (first, rows) = read(20).await;
    assert!(first.as_deref() == Some("u20000") && (20_000..=121_000).contains(&rows), "{first:?} {rows}");
    // Behind many deltas the answer is as old as the list.
    let many = "INSERT INTO tallyd_user_deltas_0 (day, user_id, provider, calls, cost_usd, first_call_at, last_call_at) \
        SELECT current_date, 'late' || n, 'claude', 1, 1000 + n, now(), now() FROM generate_series(1, 2000) AS n";
    client.batch_execute(many).await.unwrap();
    let first = async || {
        let found = question(30).ask(&client).await.unwrap();
        (found.as_of.is_some(), found.rows.first().and_then(|row| row.user.clone()).unwrap())
    };
    assert_eq!(first().await, (true, "u20000".to_owned()));
    merged(&client).await;
    assert_eq!(first().await, (true, "u20000".to_owned()), "2,000 users are due");
    refresh(&client).await.unwrap();
    assert_eq!(first().await, (false, "late2000".to_owned()));
    db.close().await;
}
