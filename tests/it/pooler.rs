//! A pooler stands between the daemon and PostgreSQL, in either mode.

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::pooler::{PoolMode, Pooler};
use crate::support::postgres::Postgres;
use crate::support::until;

/// The pooler's sessions with the server: fewer than a daemon's own, so that transaction mode shares them.
const SESSIONS: u32 = 3;
/// Counts the server's sessions, except the one that runs this.
const SERVED: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// The daemon's usual work, with kills of the pooler and of the daemon in between.
fn survives(mode: PoolMode, sessions: u32) {
    let postgres = Postgres::start();
    let mut pooler = Pooler::start(&postgres, mode, sessions);
    let mut daemon = Daemon::on(&pooler.url()).with("TALLYD_HTTP_POOL_SIZE", "4").start();
    let load = Load::start(&daemon.socket(), 2);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    for _ in 0..3 {
        pooler.kill();
        load.until_acked(500);
        let before = load.acked().records();
        pooler.up();
        postgres.until(&format!("SELECT count(*) >= {before} FROM api_usage_log"), "t");
        daemon.kill();
        daemon.up();
        load.until_acked(500);
    }
    let served: u32 = postgres.psql(SERVED).parse().unwrap();
    assert!(served <= sessions, "{served} sessions do not come through the pooler");
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
    daemon.until_status("all is well", |status| status["health"]["status"] == "ok");
    for command in [
        &["migrate"][..],
        &["partitions", "list"],
        &["prices", "list"],
        &["budgets", "list"],
        &["forecast"],
        &["users", "forget", "user-3", "--yes"],
        &["rollups", "rebuild", "--time-zone", "UTC", "--dry-run"],
        &["reconcile"],
        &["psql", "-c", "SELECT 1"],
    ] {
        let output = daemon.run(command);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn through_a_pooler_in_session_mode_everything_works_and_survives_its_death() {
    survives(PoolMode::Session, 20);
}

#[test]
fn through_a_pooler_in_transaction_mode_everything_works_and_survives_its_death() {
    survives(PoolMode::Transaction, SESSIONS);
}

#[test]
fn sixteen_sessions_share_two_in_transaction_mode() {
    let postgres = Postgres::start();
    let pooler = Pooler::start(&postgres, PoolMode::Transaction, 2);
    let start = |_| Daemon::on(&pooler.url()).start();
    // Four processes prepare statements of the same names without a conflict.
    let daemons: Vec<Daemon> = (0..4).map(start).collect();
    let line = "{\"provider\":\"rentcast\",\"endpoint\":\"/avm\",\"user_id\":\"u\"}\n";
    for _ in 0..10 {
        for daemon in &daemons {
            assert_eq!(daemon.lines(&line.repeat(5)).len(), 5);
        }
    }
    postgres.until_calls(200);
    for daemon in &daemons {
        assert!(!daemon.log().contains("prepared statement"), "{}", daemon.log());
    }
    daemons[0].assert_reconciled();
}

#[test]
fn an_index_is_built_in_transaction_mode_and_leaves_no_lock_behind() {
    let postgres = Postgres::start();
    let pooler = Pooler::start(&postgres, PoolMode::Transaction, SESSIONS);
    let mut daemon = Daemon::on(&pooler.url()).start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm","occurred_at":"2020-02-03T04:05:06Z"}"#);
    postgres.until_calls(1);
    // Upkeep is due at a start.
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    let built =
        "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('api_usage_log_2020_02_user') AND indisvalid";
    postgres.until(built, "1");
    postgres.until(
        "SELECT count(*) FROM (SELECT FROM tallyd_locks WHERE name = 'upkeep' FOR UPDATE SKIP LOCKED) AS free",
        "1",
    );
}

#[test]
fn a_price_is_applied_in_transaction_mode_which_carries_no_notification() {
    let postgres = Postgres::start();
    let pooler = Pooler::start(&postgres, PoolMode::Transaction, SESSIONS);
    let daemon = Daemon::on(&pooler.url()).with("TALLYD_PRICING_REFRESH_MS", "50").start();
    postgres.until("SELECT to_regclass('api_prices') IS NOT NULL", "t");
    postgres.psql(
        "INSERT INTO api_prices (provider, model, effective_from, rates, origin) VALUES ('claude', 'of-tomorrow', \
         '2015-01-01', '{\"per_million_tokens\": {\"input\": \"0.7\"}}', 'manual')",
    );
    until("the price is applied", || {
        let call = r#"{"provider":"claude","model":"of-tomorrow","input_tokens":1000000}"#;
        let found = daemon.lines(call)[0]["cost_usd"].clone();
        if found == "0.7" { Ok(()) } else { Err(found.to_string()) }
    });
}

#[test]
fn a_parameter_that_a_pooler_refuses_is_explained_and_loading_begins_once_it_takes_it() {
    let postgres = Postgres::start();
    let mut pooler = Pooler::start(&postgres, PoolMode::Transaction, SESSIONS);
    let url = format!("{} options='-c statement_timeout=60000'", pooler.url());
    let mut daemon = Daemon::on(&url).start();
    daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#);
    let failing = |status: &Value| status["health"]["status"] == "failing";
    let status = daemon.until_status("it says so", failing);
    let message = status["health"]["flusher"]["message"].as_str().unwrap();
    assert!(message.contains("options") && message.contains("ignore_startup_parameters"), "{message}");
    pooler.kill();
    pooler.configure(&postgres, PoolMode::Transaction, SESSIONS, "ignore_startup_parameters = options");
    pooler.up();
    postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    postgres.until_calls(1);
    daemon.until_status("all is well again", |status| status["health"]["status"] == "ok");
}
