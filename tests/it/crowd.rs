//! Many daemons on one database, and the number of sessions that each takes.

use tallyd_client::{Record, Session};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::until;

/// The sessions that deploy/README.md names for small plans: lanes, prices, budgets, alert rules, presence, deltas and their merge,
/// requests, upkeep and its lock.
const SESSIONS_MAX: u32 = 2 + 1 + 1 + 1 + 1 + 2 + 4 + 1 + 1;
const DAEMONS: usize = 16;
const FRAMES: u64 = 20;
const FRAME_RECORDS: u64 = 50;

#[test]
fn sixteen_daemons_load_the_same_hot_keys_without_a_deadlock_and_to_the_cent() {
    let mut postgres = Postgres::stopped().with_setting("max_connections", "200");
    postgres.up();
    let daemons: Vec<Daemon> = (0..DAEMONS).map(|_| Daemon::on(&postgres.url()).start()).collect();
    let mut sessions: Vec<Session> = daemons.iter().map(|daemon| daemon.session("hot")).collect();
    // Three keys of costs and five users, in an order that differs between the daemons.
    let record = |number: u64| Record {
        occurred_at: Some(1_772_323_200_000_000),
        cost_usd: Some("0.0123".into()),
        ..Record::claude(["a", "b", "c"][(number % 3) as usize], 10, 1).user(format!("user-{}", number % 5))
    };
    for frame in 0..FRAMES {
        for (at, session) in sessions.iter_mut().enumerate() {
            let records: Vec<_> = (0..FRAME_RECORDS).map(|number| record(number * 7 + at as u64)).collect();
            session.send(frame * FRAME_RECORDS + 1, &records).unwrap();
        }
        for session in &mut sessions {
            assert_eq!(session.recv_ack().unwrap().seq, (frame + 1) * FRAME_RECORDS);
        }
    }
    let calls = DAEMONS as u64 * FRAMES * FRAME_RECORDS;
    postgres.until_calls(calls as usize);
    // 0.0123 USD per call.
    let total = format!("{}|{}.{:04}", calls, calls * 123 / 10_000, calls * 123 % 10_000);
    for table in ["daily_api_costs", "daily_user_api_costs", "user_api_totals"] {
        let found =
            postgres.psql(&format!("SELECT sum(calls), trim_scale(sum(cost_usd))::numeric(20, 4) FROM {table}"));
        assert_eq!(found, total, "{table}");
    }
    // Sessions report their statistics once they are idle or end.
    drop(daemons);
    postgres.until("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tallyd%'", "0");
    assert_eq!(postgres.psql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"), "0");
}

#[test]
fn a_daemon_takes_no_more_sessions_than_its_documents_say() {
    let postgres = Postgres::start();
    let names = "SELECT string_agg(application_name, ',' ORDER BY application_name) FROM pg_stat_activity \
        WHERE application_name LIKE 'tallyd%' AND application_name !~ 'upkeep|control|merge'";
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#);
    postgres.until_calls(1);
    postgres.until(
        names,
        "tallyd budgets,tallyd deltas,tallyd flusher,tallyd flusher,tallyd presence,tallyd prices,tallyd rules",
    );
    // As many requests as can run at once.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..5).for_each(|_| drop(daemon.run(&["status", "--json"]))));
        }
        let served: u32 = until("a question is asked", || {
            let asked = "SELECT count(*) FILTER (WHERE application_name = 'tallyd control'), count(*) \
                FROM pg_stat_activity WHERE application_name LIKE 'tallyd%'";
            let found = postgres.psql(asked);
            match found.split_once('|').unwrap() {
                ("0", _) => Err("nobody asks".into()),
                (_, all) => Ok(all.parse().unwrap()),
            }
        });
        assert!(served <= SESSIONS_MAX, "{served} of {SESSIONS_MAX}");
    });
    let document = include_str!("../../deploy/README.md");
    assert!(document.contains(&format!("at most {SESSIONS_MAX} sessions")), "deploy/README.md says another number");
}
