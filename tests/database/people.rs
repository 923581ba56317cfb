//! Sessions by their definitions, and users with the cost of their calls.

use tallyd_config::Users;
use tallyd_model::pricing::Usd;
use tallyd_store::queries::users::cursor::Cursor;
use tallyd_store::queries::users::list::List;
use tallyd_store::queries::users::{CountIs, UserCount, UserPage, UserQuestion, UserSort};
use tallyd_store::session_samples::sample;
use tallyd_store::sessions::{SessionLimits, SessionsByUser, sessions};
use tokio_postgres::Client;

use crate::supabase::{ADMIN, Grants, Project, USER};
use crate::support::{data_dir, migrated, value};

/// One session each, and how it must count: as active, and as refreshed within a day.
const SESSIONS: [(&str, &str, bool, bool); 9] = [
    ("just begun", "now() - interval '1 hour', NULL, NULL", true, true),
    ("begun long ago and never refreshed", "now() - interval '40 days', NULL, NULL", true, false),
    (
        "refreshed an hour ago",
        "now() - interval '40 days', NULL, (now() - interval '1 hour') AT TIME ZONE 'UTC'",
        true,
        true,
    ),
    (
        "refreshed 23 hours ago",
        "now() - interval '2 days', NULL, (now() - interval '23 hours') AT TIME ZONE 'UTC'",
        true,
        true,
    ),
    (
        "refreshed 25 hours ago",
        "now() - interval '2 days', NULL, (now() - interval '25 hours') AT TIME ZONE 'UTC'",
        true,
        false,
    ),
    ("expired", "now() - interval '1 hour', now() - interval '1 second', NULL", false, false),
    ("about to expire", "now() - interval '1 hour', now() + interval '1 hour', NULL", true, true),
    ("of a banned user", "now() - interval '1 hour', NULL, NULL", false, false),
    ("of a deleted user", "now() - interval '1 hour', NULL, NULL", false, false),
];

async fn begin(client: &Client, kind: &str, session: &str) {
    let user = match kind {
        "of a banned user" => "banned_until = now() + interval '1 day'",
        "of a deleted user" => "deleted_at = now()",
        // A ban that has ended does not count.
        _ => "banned_until = now() - interval '1 day', deleted_at = NULL",
    };
    let sql = format!(
        "DELETE FROM auth.sessions; UPDATE auth.users SET {user} WHERE id = '{USER}'; \
         INSERT INTO auth.sessions (id, user_id, created_at, not_after, refreshed_at) \
         VALUES (gen_random_uuid(), '{USER}', {session})"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_counts_by_its_definition() {
    let project = Project::migrated(Grants::New).await;
    let (superuser, owner) = (project.database.connect("fixture").await.unwrap(), project.session("postgres").await);
    // A day has 24 hours in every time zone of the server.
    owner.batch_execute("SET timezone = 'Pacific/Auckland'").await.unwrap();
    for (kind, session, active, refreshed) in SESSIONS {
        begin(&superuser, kind, session).await;
        let found = sessions(&*owner, SessionLimits::default()).await.unwrap().unwrap();
        let counts = (found.active.count, found.refreshed_24h.count, found.active_users);
        assert_eq!(counts, (active.into(), refreshed.into(), active.into()), "{kind}");
    }
    // The project's own limits: a day without a refresh, a month in all.
    let limits = SessionLimits { max_idle_minutes: Some(24 * 60), max_age_minutes: Some(30 * 24 * 60) };
    for (kind, session, active, refreshed) in SESSIONS {
        let expected = active && refreshed && kind != "refreshed an hour ago";
        begin(&superuser, kind, session).await;
        let found = sessions(&*owner, limits).await.unwrap().unwrap();
        assert_eq!(found.active.count, i64::from(expected), "{kind}");
        assert!(found.active.definition.contains("1,440 minutes"), "{}", found.active.definition);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_counts_for_a_day_even_after_a_sign_out() {
    let project = Project::migrated(Grants::New).await;
    let (superuser, owner) = (project.database.connect("fixture").await.unwrap(), project.session("postgres").await);
    for (state, expected) in [
        ("last_sign_in_at = now() - interval '23 hours'", 1),
        ("last_sign_in_at = now() - interval '25 hours'", 0),
        ("last_sign_in_at = NULL", 0),
        ("last_sign_in_at = now(), banned_until = 'infinity'", 0),
        ("last_sign_in_at = now(), banned_until = NULL, deleted_at = now()", 0),
    ] {
        superuser.batch_execute(&format!("UPDATE auth.users SET {state} WHERE id = '{USER}'")).await.unwrap();
        let found = sessions(&*owner, SessionLimits::default()).await.unwrap().unwrap();
        assert_eq!((found.signed_in_24h.count, found.active.count), (expected, 0), "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_daemons_samples_an_hour() {
    let project = Project::migrated(Grants::New).await;
    let superuser = project.database.connect("fixture").await.unwrap();
    begin(&superuser, "just begun", "now(), NULL, NULL").await;
    let (one, other) = (project.session("postgres").await, project.session("postgres").await);
    // The second waits for the first to commit, and then finds its row.
    one.batch_execute("BEGIN").await.unwrap();
    assert!(sample(&one, SessionLimits::default()).await.unwrap());
    let committed = async { one.batch_execute("COMMIT").await.unwrap() };
    let (second, ()) = tokio::join!(sample(&other, SessionLimits::default()), committed);
    assert!(!second.unwrap());
    assert_eq!(value(&one, "SELECT sum(active) FROM tallyd_session_samples").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_may_look_there_is_no_number_rather_than_0() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("plain").await.unwrap();
    assert_eq!(sessions(&*client, SessionLimits::default()).await.unwrap(), None);
    let project = Project::migrated(Grants::New).await;
    let superuser = project.database.connect("fixture").await.unwrap();
    let owner = project.session("postgres").await;
    // Row level security would hide every row, and a count of 0 would be wrong.
    superuser.batch_execute("ALTER ROLE postgres NOBYPASSRLS").await.unwrap();
    assert_eq!(sessions(&*owner, SessionLimits::default()).await.unwrap(), None);
    superuser
        .batch_execute("ALTER ROLE postgres BYPASSRLS; REVOKE SELECT ON auth.sessions FROM postgres")
        .await
        .unwrap();
    assert_eq!(sessions(&*owner, SessionLimits::default()).await.unwrap(), None);
}

/// Calls of the admin, of a user that is in no table, and without a user.
async fn spend(client: &Client) {
    let sql = format!(
        "SELECT increment_daily_cost('claude', user_id => '{ADMIN}', cost_usd => 0.100000000000000001); \
         SELECT increment_daily_cost('rentcast', user_id => '{ADMIN}', cost_usd => 0.2); \
         SELECT increment_daily_cost('openai', user_id => '{ADMIN}'); \
         SELECT increment_daily_cost('rentcast', user_id => 'gone', cost_usd => 5); \
         SELECT increment_daily_cost('rentcast', cost_usd => 9)"
    );
    client.batch_execute(&sql).await.unwrap();
}

fn everybody() -> UserQuestion {
    UserQuestion { descending: true, limit: 100, ..UserQuestion::default() }
}

/// A page, the count that goes with it, and whether the table is joined.
async fn ask(client: &Client, config: &Users, question: &UserQuestion) -> (UserPage, UserCount, bool) {
    let list = List::open(client, config).await.unwrap();
    let page = list.page(question).await.unwrap();
    (page, list.count(question.search.as_deref()).await.unwrap(), list.is_joined())
}

fn ids(page: &UserPage) -> Vec<&str> {
    page.users.iter().map(|user| user.id.as_str()).collect()
}

const fn exactly(users: i64) -> UserCount {
    UserCount { users, is: CountIs::Exact }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_joined_with_what_their_calls_cost() {
    let project = Project::migrated(Grants::New).await;
    let owner = project.session("postgres").await;
    spend(&owner).await;
    let config = Users::default();
    let (page, count, is_joined) = ask(&owner, &config, &everybody()).await;
    assert_eq!((count, is_joined, page.next.clone()), (exactly(3), true, None));
    assert_eq!(ids(&page), ["gone", ADMIN, USER], "by cost; who has no calls comes last");
    let [gone, admin, user] = &page.users[..] else { panic!("{:?}", page.users) };
    assert_eq!((admin.total_calls.0, admin.total_claude_calls.0, admin.total_rentcast_calls.0), (3, 1, 1));
    assert_eq!((admin.cost_usd.to_string().as_str(), admin.unpriced_calls.0), ("0.300000000000000001", 1));
    assert_eq!(admin.shown.as_deref(), Some("admin@example.com"));
    assert_eq!((user.total_calls.0, user.cost_usd, user.last_call_at), (0, Usd::ZERO, None));
    assert_eq!((gone.shown.as_deref(), gone.total_rentcast_calls.0), (None, 1));

    let list = List::open(&owner, &config).await.unwrap();
    for (id, calls) in [("gone", Some(1)), (ADMIN, Some(3)), (USER, Some(0)), ("nobody", None), ("", None)] {
        let one = list.one(id).await.unwrap();
        assert_eq!(one.as_ref().map(|user| user.total_calls.0), calls, "{id}");
        assert_eq!(one.is_some_and(|user| user.shown.is_some()), id == ADMIN || id == USER, "{id}");
    }

    // Searched, by the beginning of an id and by a part of an address; sorted; paged.
    for (text, found) in [
        ("USER@", vec![USER]),
        ("example", vec![ADMIN, USER]),
        ("go", vec!["gone"]),
        ("one", vec![]),
        (ADMIN, vec![ADMIN]),
        ("%' OR true", vec![]),
    ] {
        for sort in [UserSort::Cost, UserSort::Id] {
            let question = UserQuestion { search: Some(text.into()), sort, ..everybody() };
            let (page, count, _) = ask(&owner, &config, &question).await;
            assert_eq!((ids(&page), count), (found.clone(), exactly(found.len() as i64)), "{text} {sort:?}");
        }
    }
    for sort in [
        UserSort::Cost,
        UserSort::Id,
        UserSort::Calls,
        UserSort::ClaudeCalls,
        UserSort::RentcastCalls,
        UserSort::LastCall,
    ] {
        let mut orders = Vec::new();
        for descending in [true, false] {
            let mut question = UserQuestion { sort, descending, limit: 1, ..everybody() };
            let mut order = Vec::new();
            loop {
                let (page, _, _) = ask(&owner, &config, &question).await;
                assert_eq!(page.users.len(), 1, "{sort:?}");
                order.extend(page.users.into_iter().map(|user| user.id));
                let Some(next) = page.next else { break };
                question.after = Some(Cursor::read(&next.to_string(), sort).unwrap());
            }
            orders.push(order);
        }
        assert_eq!((orders[0].len(), orders[0][2].as_str()), (3, USER), "{sort:?}: who has no calls comes last");
        orders[1].reverse();
        assert_eq!(orders[0], orders[1], "{sort:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_table_of_users_will_do_and_its_columns_are_shown() {
    let dir = data_dir();
    let db = migrated(dir.path()).await;
    let client = db.connect("plain").await.unwrap();
    spend(&client).await;
    let (_, count, is_joined) = ask(&client, &Users::default(), &everybody()).await;
    assert_eq!((count, is_joined), (exactly(2), false));
    let odd = "CREATE TABLE \"my \"\"users\" (\"o'id\" text, name text, \"analyses today\" int, is_admin bool, deleted_at timestamptz); \
        INSERT INTO \"my \"\"users\" VALUES ('gone', 'Ada', 3, true, NULL), ('left', 'Bob', 4, false, now())";
    client.batch_execute(odd).await.unwrap();
    let config = Users {
        table: "public.my \"users".into(),
        id_column: "o'id".into(),
        columns: ["name", "no such", "analyses today", "is_admin"].map(String::from).to_vec(),
        ..Users::default()
    };
    let (page, count, is_joined) = ask(&client, &config, &everybody()).await;
    assert_eq!((count, is_joined), (exactly(2), true), "a deleted account without a call is not listed");
    let [gone, admin] = &page.users[..] else { panic!("{:?}", page.users) };
    assert_eq!(gone.shown.as_deref(), Some("Ada"));
    assert_eq!(gone.profile.0, r#"{"name": "Ada", "is_admin": true, "analyses today": 3}"#);
    // A page that formats each number also formats those of a user without a profile.
    assert_eq!(admin.profile.0, r#"{"name": "", "is_admin": false, "analyses today": 0}"#);
    assert_eq!(
        value(&client, "SELECT count(*) FROM user_api_totals WHERE user_id = ''").await,
        "1",
        "calls without a user make no user"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn active_sessions_are_counted_by_the_users_tier() {
    let project = Project::migrated(Grants::New).await;
    let (superuser, owner) = (project.database.connect("fixture").await.unwrap(), project.session("postgres").await);
    let none = SessionsByUser::read(&owner, &Users::default()).await.unwrap();
    assert!(none.by_tier.is_empty(), "{none:?}");
    let sql = format!(
        "DELETE FROM auth.sessions; CREATE TABLE public.people (id uuid, tier text); GRANT SELECT ON public.people TO postgres; \
         INSERT INTO public.people VALUES ('{USER}', 'pro'), ('{ADMIN}', NULL); \
         INSERT INTO auth.sessions (id, user_id, created_at, not_after) VALUES \
            (gen_random_uuid(), '{USER}', now(), NULL), (gen_random_uuid(), '{USER}', now(), NULL), \
            (gen_random_uuid(), '{USER}', now(), now() - interval '1 hour'), (gen_random_uuid(), '{ADMIN}', now(), NULL)"
    );
    superuser.batch_execute(&sql).await.unwrap();
    let config = Users { table: "public.people".into(), ..Users::default() };
    let found = SessionsByUser::read(&owner, &config).await.unwrap();
    let by_tier = [("none".to_owned(), 1), ("pro".to_owned(), 2)].into();
    assert_eq!(found, SessionsByUser { active: 3, total: 4, by_tier });
    // The API's roles may not see the sessions.
    for role in ["anon", "authenticated"] {
        let sql = format!("SET ROLE {role}; SELECT * FROM public.tallyd_sessions_by_user(); RESET ROLE");
        let denied = superuser.batch_execute(&sql).await.unwrap_err();
        assert!(format!("{denied:?}").contains("permission denied"), "{role}");
        superuser.batch_execute("RESET ROLE").await.unwrap();
    }
}
