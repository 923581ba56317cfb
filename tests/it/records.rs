//! Records arrive: as a line of JSON, over TCP with a token, and at the bound of the WAL.

use std::thread::sleep;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::Postgres;
use crate::support::until;
use tallyd_client::{Endpoint, HelloOptions, Record, Session, SessionError};

#[test]
fn a_line_of_json_is_answered_and_is_in_the_log_and_in_every_rollup() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let answers = daemon.lines(
        r#"{"provider":"claude","model":"claude-sonnet-4-5-20250929","input_tokens":1000,"output_tokens":101,"user_id":"u-1","occurred_at":"2026-01-31T23:59:59.999999Z"}"#,
    );
    // 1000 × 3 + 101 × 15 USD per million.
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((&answer["ok"], &answer["cost_usd"]), (&true.into(), &"0.004515".into()));
    postgres.until_calls(1);
    let log = "SELECT id, occurred_at AT TIME ZONE 'UTC', user_id, cost_usd, cost_source FROM api_usage_log";
    let id = answer["id"].as_str().unwrap();
    assert_eq!(postgres.psql(log), format!("{id}|2026-01-31 23:59:59.999999|u-1|0.004515|catalog"));
    let sums = "calls, errors, input_tokens, output_tokens, requests, cost_usd, unpriced_calls";
    let expected = "1|0|1000|101|1|0.004515|0";
    for (table, key) in [
        ("daily_api_costs", "day, provider, model, endpoint"),
        ("daily_user_api_costs", "day, user_id, provider"),
        ("user_api_totals", "user_id, provider"),
    ] {
        let keys = match table {
            "daily_api_costs" => "2026-01-31|claude|claude-sonnet-4-5-20250929|",
            "daily_user_api_costs" => "2026-01-31|u-1|claude",
            _ => "u-1|claude",
        };
        let found = postgres.psql(&format!("SELECT {key}, {sums} FROM {table}"));
        assert_eq!(found, format!("{keys}|{expected}"), "{table}");
    }
    let found = daemon.assert_reconciled();
    assert_eq!((&found["log_rows"], &found["log_cost_usd"]), (&1.into(), &"0.004515".into()));
}

#[test]
fn over_tcp_a_token_opens_the_door_and_nothing_else_does() {
    let postgres = Postgres::stopped();
    // All of 127/8 is this machine; an address of this process's own has its ports free.
    let pid = std::process::id();
    let address = format!("127.{}.{}.{}:7421", 1 + (pid >> 16) % 250, (pid >> 8) & 0xff, 1 + (pid & 0xff) % 250);
    let _daemon = Daemon::on(&postgres.url())
        .with("TALLYD_LISTEN_TCP", &address)
        .with("TALLYD_LISTEN_TCP_TOKENS", "the-old-token-of-remote,the-new-token-of-remote")
        .start();
    let hello = HelloOptions::new("remote");
    let connect = |token: &str| Session::connect(&Endpoint::tcp(&address, token), hello.clone());
    for token in ["wrong", "", "the-old-token-of-remote ", "the-old-token-of-remote,the-new-token-of-remote"] {
        let refused = connect(token);
        assert!(
            matches!(&refused, Err(SessionError::Refused { code, .. }) if code == "unauthorized"),
            "{token:?}: {refused:?}"
        );
    }
    for (seq, token) in [(1, "the-old-token-of-remote"), (2, "the-new-token-of-remote")] {
        let mut session = connect(token).unwrap();
        session.send(seq, &[Record::rentcast("/avm")]).unwrap();
        assert_eq!(session.recv_ack().unwrap().seq, seq);
    }
}

#[test]
fn at_its_bound_the_log_holds_clients_back_and_resumes_by_itself() {
    let mut postgres = Postgres::stopped();
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_WAL_MAX_BYTES", "262144")
        .with("TALLYD_WAL_SEGMENT_BYTES", "65536")
        .start();
    let load = Load::start(&daemon.socket(), 2);
    let is_full = |status: &serde_json::Value| {
        let wal = &status["health"]["wal"];
        wal["status"] == "failing" && wal["message"].as_str().unwrap().contains("wal.max_bytes")
    };
    let status = daemon.until_status("the log is full", is_full);
    assert!(status["wal"]["bytes"].as_u64().unwrap() < 2 * 262_144, "{status:#}");
    // The records that were already on their way to the WAL are still taken.
    let mut later = status;
    until("it takes no more beyond its bound", || {
        sleep(Duration::from_millis(200));
        let before = std::mem::replace(&mut later, daemon.status().unwrap());
        let [before, now] = [&before, &later].map(|status| status["wal"]["unflushed_records"].as_u64().unwrap());
        if before == now { Ok(()) } else { Err(format!("{before} records, then {now}")) }
    });
    let acked = load.acked().records();
    let later = daemon.status().unwrap();
    assert!(later["wal"]["bytes"].as_u64().unwrap() < 2 * 262_144, "{later:#}");
    assert!(acked <= later["wal"]["unflushed_records"].as_u64().unwrap(), "{acked} acknowledged, {later:#}");
    // A kill at the bound loses nothing either.
    daemon.kill();
    daemon.up();
    daemon.until_status("the log is full still", is_full);
    postgres.up();
    daemon.until_status("there is room again", |status| status["health"]["wal"]["status"] == "ok");
    load.until_acked(1_000);
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}
