//! Tables of an older shape are taken over: the result of each oddity, and a second run that adds nothing.

use tallyd_model::pricing::{Catalog, PricingOptions};
use tallyd_store::adopt::{AdoptError, AdoptOptions, Adopted, Inspection, Sources, adopt, inspect, move_aside};
use tallyd_store::retention::drop_before;
use tallyd_store::{Connection, Database, MigrateError, migrate, rebuild_rollups, reconcile};

use crate::support::{TESTER, data_dir, database, migrate_options, migrated, value};

fn adopt_options(log: Option<&str>, daily: Option<&str>) -> AdoptOptions {
    AdoptOptions {
        log: log.map(str::to_owned),
        daily: daily.map(str::to_owned),
        source_time_zone: "UTC".into(),
        reporting_time_zone: "UTC".into(),
        strip_query: true,
        batch_calls: 3,
        granularity: "month",
        ..AdoptOptions::default()
    }
}

async fn look(client: &Connection, options: &AdoptOptions) -> Result<Inspection, AdoptError> {
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    let sources = Sources::find(client, options).await?;
    inspect(client, &sources, options, &catalog).await
}

async fn take(client: &Connection, options: &AdoptOptions) -> Adopted {
    look(client, options).await.unwrap();
    let sources = Sources::find(client, options).await.unwrap();
    adopt(client, &sources, options, &TESTER, |_| {}).await.unwrap()
}

async fn proven(db: &Database) -> (i64, i64) {
    let found = reconcile(&mut db.connect("reconcile").await.unwrap()).await.unwrap();
    assert!(found.equal, "{:?}", found.differences);
    (found.log_rows, found.dropped_rows)
}

/// A log with numbers for ids, binary floats for costs, and times without a zone.
const OTHER: &str = "CREATE SCHEMA billing; \
    CREATE TABLE billing.calls (id bigint, who text, api text, url text, made_at timestamp, price float8, tokens_in int, \
        tokens_out int, note text); \
    INSERT INTO billing.calls VALUES \
        (1, 'u1', 'Anthropic', NULL, '2025-01-31 23:30:00', 0.1, 10, 20, 'x'), \
        (2, NULL, 'rentcast', '/avm?address=a', '2025-02-01 00:00:00.000001', 0.30000000000000004, NULL, NULL, NULL), \
        (3, '', ' rentcast ', '/avm', '2025-02-01 09:00:00', NULL, 0, 0, NULL), \
        (3, '', 'rentcast', '/avm', '2025-02-01 09:00:00', 1e-9, 0, 0, 'the same id at the same time')";

fn other() -> AdoptOptions {
    let mut options = adopt_options(Some("billing.calls"), None);
    let map = [("user_id", "who"), ("occurred_at", "made_at"), ("cost_usd", "price")];
    options.columns = map.map(|(field, column)| (field.to_owned(), column.to_owned())).into();
    options.source_time_zone = "America/New_York".into();
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_found_or_named_and_values_stay_what_they_are() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("adopt").await.unwrap();
    client.batch_execute(OTHER).await.unwrap();
    let found = look(&client, &other()).await.unwrap().log.unwrap();
    assert_eq!((found.rows, found.calls, found.without_cost, found.taken), (4, 4, 1, 0));
    assert_eq!(found.unread, ["note"]);
    assert_eq!(found.columns["endpoint"], "url");
    let done = take(&client, &other()).await;
    assert_eq!((done.calls, &*done.cost_usd), (4, "0.40000000100000004"));
    let rows = "SELECT string_agg(concat_ws('|', provider, endpoint, user_id, cost_usd, cost_source, input_tokens, \
        occurred_at AT TIME ZONE 'UTC'), E'\n' ORDER BY occurred_at, cost_usd) FROM api_usage_log";
    let expected = "claude|||0.1|client|10|2025-02-01 04:30:00\n".replace("|||", "||u1|")
        + "rentcast|/avm||0.30000000000000004|client|0|2025-02-01 05:00:00.000001\n\
           rentcast|/avm||0.000000001|client|0|2025-02-01 14:00:00\n\
           rentcast|/avm||unpriced|0|2025-02-01 14:00:00";
    assert_eq!(value(&client, rows).await, expected);
    assert_eq!(value(&client, "SELECT count(*) FROM api_usage_log WHERE substr(id::text, 15, 1) = '8'").await, "4");
    assert_eq!(take(&client, &other()).await.calls, 0, "a second run adds nothing");
    // Rows that have arrived since are taken.
    client.batch_execute("INSERT INTO billing.calls VALUES (4, 'u1', 'claude', '', '2025-01-05', 2)").await.unwrap();
    assert_eq!(look(&client, &other()).await.unwrap().log.unwrap().taken, 4);
    assert_eq!(take(&client, &other()).await.calls, 1);
    assert_eq!(proven(&db).await, (5, 0));
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_no_record_could_be_stay_and_are_told() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("adopt").await.unwrap();
    let old = "CREATE SCHEMA old; CREATE TABLE old.log (id int, user_id uuid, api_type text, model text, input_tokens int, \
            cost_usd numeric, timestamp timestamptz, date date); \
        INSERT INTO old.log VALUES \
            (1, NULL, 'claude', NULL, 1, 1, '2025-01-01T10:00Z', '2025-01-01'), \
            (2, NULL, 'claude', 'm', 1, 1, NULL, '2025-01-02'), \
            (3, NULL, 'claude', 'm', 1, 1, '2025-01-03T23:00Z', '2025-01-04'), \
            (NULL, NULL, 'claude', 'm', 1, 1, '2025-01-01Z', NULL), \
            (5, NULL, 'claude', 'm', 1, 1, NULL, NULL), \
            (6, NULL, NULL, 'm', 1, 1, '2025-01-01Z', NULL), \
            (7, NULL, 'claude', 'm', -1, 1, '2025-01-01Z', NULL), \
            (8, NULL, 'claude', 'm', 1, 'NaN', '2025-01-01Z', NULL), \
            (9, NULL, 'claude', 'm', 1, 1, 'infinity', NULL), \
            (10, NULL, 'claude', 'm', 1, 1, '2999-01-01Z', NULL), \
            (11, NULL, 'claude', repeat('m', 513), 1, 1, '2025-01-01Z', NULL), \
            (12, NULL, 'claude', 'm', 1, 1, '1999-01-01Z', NULL)";
    client.batch_execute(old).await.unwrap();
    let options = adopt_options(Some("old.log"), None);
    let found = look(&client, &options).await.unwrap();
    assert_eq!(found.left_rows(), 9);
    let log = found.log.unwrap();
    assert_eq!((log.rows, log.calls, log.other_date, log.without_model), (12, 3, 1, 1));
    let reasons: Vec<_> = log.problems.iter().map(|problem| (&*problem.reason, &*problem.example)).collect();
    for expected in [
        ("it has no id", ""),
        ("it has no time", "5"),
        ("it names no provider", "6"),
        ("a count is negative", "7"),
        ("its cost is no number, or beyond 10^9", "8"),
        ("its time is before 2015 or infinite", "12"),
        ("its time is in the future", "10"),
        ("a text is longer than 512 bytes", "11"),
    ] {
        assert!(reasons.contains(&expected), "{expected:?} in {reasons:?}");
    }
    assert_eq!(take(&client, &options).await.calls, 3);
    // Where there was no time, it is noon of the date.
    let times =
        "SELECT string_agg((occurred_at AT TIME ZONE 'UTC')::text, ', ' ORDER BY occurred_at) FROM api_usage_log";
    assert_eq!(value(&client, times).await, "2025-01-01 10:00:00, 2025-01-02 12:00:00, 2025-01-03 23:00:00");
    assert_eq!(proven(&db).await, (3, 0));
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_of_another_zone_are_recognised() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("adopt").await.unwrap();
    let old = "CREATE SCHEMA old; CREATE TABLE old.log (id int, api_type text, cost_usd numeric, timestamp timestamptz, date date); \
        INSERT INTO old.log SELECT n, 'claude', 1, t, (t AT TIME ZONE 'America/Chicago')::date \
        FROM generate_series(1, 48) AS n, LATERAL (SELECT '2025-06-01Z'::timestamptz + n * interval '1 hour') AS x(t)";
    client.batch_execute(old).await.unwrap();
    let found = look(&client, &adopt_options(Some("old.log"), None)).await.unwrap().log.unwrap();
    assert_eq!((found.other_date, found.date_zone.as_deref()), (10, Some("America/Chicago")));
    db.close().await;
}

/// Sums by provider in columns of their own. The old log has the second day, and part of the third.
const WIDE: &str = "CREATE SCHEMA old; \
    CREATE TABLE old.log (id int, api_type text, cost_usd numeric, timestamp timestamptz, date date); \
    INSERT INTO old.log VALUES (1, 'claude', 0.5, '2025-01-02T10:00Z', '2025-01-02'), (2, 'claude', 0.25, '2025-01-03T10:00Z', '2025-01-03'); \
    CREATE TABLE old.daily (date date PRIMARY KEY, claude_calls int, claude_cost numeric, rentcast_calls int, rentcast_cost numeric, \
        total_calls int, total_cost numeric); \
    INSERT INTO old.daily VALUES ('2025-01-01', 5, 1.5, 2, 0.4, 7, 1.9), ('2025-01-02', 1, 0.5, 0, 0, 1, 0.5), \
        ('2025-01-03', 2, 0.5, 1, 0.2, 3, 0.7), ('2025-01-04', NULL, 1, 0, 0, 0, 1)";

#[tokio::test(flavor = "multi_thread")]
async fn days_without_a_log_are_kept_as_sums_and_survive_a_rebuild() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let mut client = db.connect("adopt").await.unwrap();
    client.batch_execute(WIDE).await.unwrap();
    let options = adopt_options(Some("old.log"), Some("old.daily"));
    let daily = look(&client, &options).await.unwrap().daily.unwrap();
    assert_eq!((daily.equal, daily.differing.len()), (1, 1));
    let differing = &daily.differing[0];
    assert_eq!((differing.log_calls, differing.daily_calls, &*differing.log_cost_usd), (1, Some(2), "0.25"));
    // Both providers of the first day, RentCast on the third, and Claude's call of the third that the old log lacks.
    assert_eq!((daily.missing.days, daily.missing.calls, &*daily.missing.cost_usd), (4, 9, "2.35"));
    assert_eq!(daily.problems[0].reason, "they have no number of calls");
    let done = take(&client, &options).await;
    assert_eq!((done.calls, done.days, done.days_calls, &*done.days_cost_usd), (2, 4, 9, "2.35"));
    assert_eq!(proven(&db).await, (2, 9));
    assert_eq!(value(&client, "SELECT sum(calls) || ' ' || sum(cost_usd) FROM daily_api_costs").await, "11 3.10");
    let again = take(&client, &options).await;
    assert_eq!((again.calls, again.days), (0, 0));
    rebuild_rollups(&mut client, "UTC", &TESTER).await.unwrap();
    assert_eq!(proven(&db).await, (2, 9));
    assert_eq!(value(&client, "SELECT sum(calls) || ' ' || sum(cost_usd) FROM daily_user_api_costs").await, "11 3.10");

    // A day that was taken as a sum cannot be taken as calls later, nor can days of the old log be taken as sums.
    let late = "INSERT INTO old.log VALUES (9, 'claude', 1, '2025-01-01Z', '2025-01-01')";
    client.batch_execute(late).await.unwrap();
    let refused = look(&client, &options).await.unwrap_err();
    assert!(matches!(refused, AdoptError::Regained { days: 1, .. }), "{refused}");
    let refused = look(&client, &adopt_options(None, Some("old.daily"))).await.unwrap_err();
    assert!(matches!(refused, AdoptError::LogNeeded(_)), "{refused}");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_were_dropped_since_are_not_taken_again() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("adopt").await.unwrap();
    client.batch_execute(OTHER).await.unwrap();
    assert_eq!(take(&client, &other()).await.calls, 4);
    let before = "2025-03-01T00:00:00Z".parse().unwrap();
    let dropped = drop_before(&db.connect("retention").await.unwrap(), before, &TESTER, None, |_| {}).await.unwrap();
    assert!(!dropped.is_empty(), "{dropped:?}");
    assert_eq!(proven(&db).await, (0, 4));
    // The table is recognised after it was renamed and moved to another schema.
    client
        .batch_execute("ALTER TABLE billing.calls SET SCHEMA public; ALTER TABLE calls RENAME TO renamed")
        .await
        .unwrap();
    let renamed = AdoptOptions { log: Some("public.renamed".into()), ..other() };
    assert_eq!(look(&client, &renamed).await.unwrap().log.unwrap().dropped_since, 4);
    assert_eq!(take(&client, &renamed).await.calls, 0);
    assert_eq!(proven(&db).await, (0, 4));
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_tables_in_the_way_are_named_and_moved_whole() {
    let dir = data_dir();
    let db = database(dir.path()).await;
    let mut client = db.connect("adopt").await.unwrap();
    let old = "CREATE TABLE api_usage_log (id serial PRIMARY KEY, api_type text, cost_usd numeric, timestamp timestamptz); \
        CREATE VIEW spent AS SELECT sum(cost_usd) FROM api_usage_log; \
        INSERT INTO api_usage_log (api_type, cost_usd, timestamp) VALUES ('claude', 1, '2025-01-01Z'); \
        CREATE FUNCTION increment_daily_cost(cost numeric) RETURNS void LANGUAGE sql AS 'SELECT'; \
        CREATE FUNCTION increment_daily_cost(cost numeric, day date DEFAULT now()) RETURNS void LANGUAGE sql AS 'SELECT'; \
        CREATE TABLE dead_letters (id int)";
    client.batch_execute(old).await.unwrap();
    let occupied = |error: MigrateError| match error {
        MigrateError::Occupied { tables } => tables.join(" "),
        other => panic!("{other}"),
    };
    let refused = occupied(migrate(&mut client, &migrate_options()).await.unwrap_err());
    assert_eq!(refused, "public.api_usage_log public.dead_letters");
    let moved = move_aside(&mut client).await.unwrap();
    assert_eq!(moved.len(), 3, "{moved:?}");
    // A table of the application that is not a call log is not moved.
    let refused = occupied(migrate(&mut client, &migrate_options()).await.unwrap_err());
    assert_eq!(refused, "public.dead_letters");
    client.batch_execute("ALTER TABLE dead_letters RENAME TO letters").await.unwrap();
    migrate(&mut client, &migrate_options()).await.unwrap();
    assert_eq!(move_aside(&mut client).await.unwrap(), Vec::<String>::new());
    assert_eq!(take(&client, &adopt_options(None, None)).await.calls, 1);
    assert_eq!(value(&client, "SELECT sum FROM spent").await, "1", "what depends on the old table does still");
    assert_eq!(value(&client, "SELECT count(*) FROM pg_proc WHERE proname = 'increment_daily_cost' AND pronamespace = 'public'::regnamespace").await, "1");
    assert_eq!(proven(&db).await, (1, 0));
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_an_error_that_says_what_to_do() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("adopt").await.unwrap();
    let said = async |log: &str, map: &[(&str, &str)]| {
        let mut options = adopt_options(Some(log), None);
        options.columns = map.iter().map(|(field, column)| ((*field).to_owned(), (*column).to_owned())).collect();
        look(&client, &options).await.unwrap_err().to_string()
    };
    client
        .batch_execute(
            "CREATE TABLE odd (id int, api_type text, cost_usd text, timestamp timestamptz); CREATE ROLE limited; \
             ALTER TABLE odd ENABLE ROW LEVEL SECURITY; GRANT SELECT ON odd TO limited",
        )
        .await
        .unwrap();
    assert!(
        said("public.nowhere", &[]).await.contains("--from-log")
            || said("public.nowhere", &[]).await.contains("SCHEMA.TABLE")
    );
    assert!(said("public.api_usage_log", &[]).await.contains("tallyd's own"));
    assert!(said("public.odd", &[]).await.contains("has the type text"));
    assert!(said("public.odd", &[("occurred_at", "when")]).await.contains("--map occurred_at=COLUMN"));
    assert!(said("public.odd", &[("price", "cost_usd")]).await.contains("--map price=cost_usd"));
    let nothing = look(&client, &adopt_options(None, None)).await.unwrap_err();
    assert!(matches!(nothing, AdoptError::NothingFound), "{nothing}");
    client.batch_execute("SET ROLE limited").await.unwrap();
    assert!(said("public.odd", &[]).await.contains("row level security hides rows"));
    db.close().await;
}

/// The older system's table of days: columns by provider, and JSON that splits them.
const SPLIT: &str = r#"CREATE SCHEMA old; CREATE TABLE old.days (date date, total_cost numeric(10,4), claude_cost numeric(10,4),
        rentcast_cost numeric(10,4), total_calls int, claude_calls int, rentcast_calls int, by_model jsonb, by_rentcast_endpoint json);
    INSERT INTO old.days VALUES
        ('2025-03-01', 0.6216, 0.0216, 0.6, 5, 2, 3,
            '{"claude-sonnet-4": {"calls": 1, "cost": 0.021600000000000001, "inputTokens": 2000, "outputTokens": 1040},
              "claude-haiku-4-5": {"calls": 1, "cost": 4e-6, "inputTokens": 4, "outputTokens": 0}}',
            '{"/avm/value": {"calls": 2, "cost": 0.4}, "/properties": {"calls": 1, "cost": 0.2}}'),
        ('2025-03-02', 3, 3, 0, 9, 9, 0, '{"claude-opus-4": {"calls": 4, "cost": 1.5}, "broken": {"calls": "x", "cost": 1}}', NULL),
        ('2025-03-03', 1, 1, 0, 1, 1, 0, '{"claude-opus-4": {"calls": 7, "cost": 9}}', '[]'),
        ('2025-03-04', 2, 2, 0, 10, 10, 0, '{}', NULL),
        ('2025-03-05', 0.3333, 0.3333, 0, 1, 1, 0, NULL, NULL);
    CREATE TABLE old.log (id int, user_id text, api_type text, model text, cost_usd numeric, timestamp timestamptz);
    INSERT INTO old.log SELECT n, 'u', 'claude', 'claude-opus-4', 0.25, '2025-03-04T10:00Z' FROM generate_series(1, 6) AS n;
    INSERT INTO old.log VALUES (7, 'u', 'claude', 'claude-opus-4', 0.333333, '2025-03-05T10:00Z')"#;

#[tokio::test(flavor = "multi_thread")]
async fn json_by_model_and_endpoint_becomes_keys_of_their_own_and_what_it_leaves_stays() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("adopt").await.unwrap();
    client.batch_execute(SPLIT).await.unwrap();
    let options = adopt_options(Some("old.log"), Some("old.days"));
    let daily = look(&client, &options).await.unwrap().daily.unwrap();
    assert_eq!((daily.equal, daily.rounded, &*daily.rounded_usd), (0, 1, "0.000033"), "{daily:?}");
    assert_eq!(daily.differing.len(), 1);
    assert_eq!(
        (daily.missing.beside_log, daily.missing.beside_log_calls, &*daily.missing.beside_log_cost_usd),
        (1, 4, "0.5000")
    );
    let done = take(&client, &options).await;
    assert_eq!((done.calls, done.days_calls), (7, 19));
    let rows = "SELECT string_agg(concat_ws(' ', to_char(day, 'DD'), model || endpoint, calls, trim_scale(cost_usd), input_tokens, output_tokens), \
        E'\n' ORDER BY day, provider, model, endpoint) FROM daily_api_costs";
    let expected = "01 claude-haiku-4-5 1 0.000004 4 0\n01 claude-sonnet-4 1 0.021600000000000001 2000 1040\n\
        01 /avm/value 2 0.4 0 0\n01 /properties 1 0.2 0 0\n\
        02  5 1.5 0 0\n02 claude-opus-4 4 1.5 0 0\n\
        03  1 1 0 0\n\
        04  4 0.5 0 0\n04 claude-opus-4 6 1.5 0 0\n\
        05 claude-opus-4 1 0.333333 0 0";
    assert_eq!(value(&client, rows).await, expected);
    // The sums beyond the old log have no user. A second run adds nothing.
    assert_eq!(value(&client, "SELECT sum(calls) FROM user_api_totals WHERE user_id = ''").await, "19");
    let again = take(&client, &options).await;
    assert_eq!((again.calls, again.days), (0, 0));
    assert_eq!(look(&client, &options).await.unwrap().daily.unwrap().missing.taken, 8);
    // More calls of a day whose remainder was taken would count twice.
    client
        .batch_execute("INSERT INTO old.log VALUES (8, 'u', 'claude', 'claude-opus-4', 0.25, '2025-03-04T11:00Z')")
        .await
        .unwrap();
    assert!(matches!(look(&client, &options).await, Err(AdoptError::Regained { days: 1, .. })));
    assert_eq!(proven(&db).await, (7, 19));
    db.close().await;
}
