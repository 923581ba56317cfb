//! An endless stream of refused records: they are answered and counted, and their storage and memory are bounded.

use std::io::{Read, Write};

use tallyd_client::Record;

use crate::client::Api;
use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, Stop};
use crate::support::until;

const COUNTED: &str = "SELECT coalesce(sum(refused), 0), coalesce(sum(kept), 0) FROM tallyd_refusals";
const KEPT: &str = "SELECT count(*), coalesce(sum(octet_length(payload)), 0) < 1000000 FROM dead_letters";

#[test]
fn a_flood_of_refusals_is_answered_and_counted_and_little_of_it_is_kept() {
    let api =
        Api::with(&[("TALLYD_DEAD_LETTERS_ROWS_PER_DAY", "100"), ("TALLYD_DEAD_LETTERS_TOTAL_ROWS_PER_DAY", "250")]);
    let ingest = api.token("ingest");
    let mut honest = api.daemon.session("honest");
    // Two bytes per record, which gzip compresses to almost nothing.
    for _ in 0..20 {
        let answer = api.send(
            "POST",
            "/api/v1/records",
            &[("authorization", ingest.as_str()), ("content-type", "application/x-ndjson")],
            "7\n".repeat(10_000).as_bytes(),
        );
        assert_eq!((answer.status, answer.json()["refused"].as_u64()), (422, Some(10_000)));
    }
    honest
        .send(1, &(1..=100).map(|tokens| Record::claude("claude-sonnet-4-5", tokens, 1)).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(honest.recv_ack().unwrap().seq, 100);
    api.postgres.until(COUNTED, "200000|100");
    assert_eq!(api.postgres.psql(KEPT), "100|t");
    // One sender's many names: a fresh name has a bound of its own, and all names together have one.
    for name in 0..4 {
        let mut session = api.daemon.session(&format!("name-{name}"));
        let wrong = Record { cost_usd: Some("-1".into()), ..Record::rentcast("/x") };
        session.send(1, &vec![wrong; 100]).unwrap();
        assert_eq!(session.recv_ack().unwrap().rejected.len(), 100, "each is answered, kept or not");
    }
    api.postgres.until(COUNTED, "200400|250");
    assert_eq!(api.postgres.psql(KEPT), "250|t");
    let used = api.metric("tallyd_dead_letters_day_used_ratio");
    assert!((used - 1.0).abs() < 1e-9, "the gauge tells of the bound: {used}");
    assert_eq!(api.metric("tallyd_dead_letters_counted_total") as u64, 200_150);
    // The sender chooses the fields' names, too: the number of groups stays bounded.
    let fields: String = (0..5_000).map(|n| format!("{{\"provider\":\"x\",\"field_{n}\":1}}\n")).collect();
    assert_eq!(api.daemon.lines(&fields).len(), 5_000);
    api.postgres.until(COUNTED, "205400|250");
    assert_eq!(api.postgres.psql("SELECT count(*) < 300 FROM tallyd_refusals"), "t");
    assert_eq!(api.postgres.psql("SELECT count(*) FROM api_usage_log"), "100", "the honest records are there");
    api.daemon.assert_reconciled();
}

#[test]
fn past_the_bound_a_refused_record_takes_no_room_in_the_wal_and_is_counted_once() {
    const RECORDS: u64 = 3_000;
    let mut postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_DEAD_LETTERS_ROWS_PER_DAY", "20").start();
    daemon.until_status("everything is at work", |status| status["health"]["status"] == "ok");
    postgres.down(Stop::Fast);
    let wrong = Record {
        cost_usd: Some("-1".into()),
        metadata: Some(format!("{{\"text\":\"{}\"}}", "x".repeat(16_000)).into()),
        ..Record::rentcast("/x")
    };
    let mut session = daemon.session("p");
    for first_seq in (1..=RECORDS).step_by(20) {
        session.send(first_seq, &vec![wrong.clone(); 20]).unwrap();
        assert_eq!(session.recv_ack().unwrap().rejected.len(), 20);
    }
    let bytes = metric(&daemon, "tallyd_wal_bytes ");
    assert!(bytes < 1_000_000, "{bytes} bytes of the WAL for {RECORDS} refused records of 16 KB");
    // After a kill and a start the records are sent again: each is counted once.
    daemon.kill();
    daemon.up();
    let mut session = daemon.session("p");
    session.send(1, &vec![wrong; 20]).unwrap();
    session.recv_ack().unwrap();
    postgres.up();
    postgres.until(COUNTED, &format!("{RECORDS}|20"));
    assert_eq!(postgres.psql(KEPT), "20|t");
    // The kept records are complete: with another cost they are loaded, once.
    let retried = daemon.run(&["dead-letters", "retry", "--since", "1h", "--set", "cost_usd=1", "--json"]);
    assert!(retried.status.success(), "{retried:?}");
    assert_eq!(postgres.psql("SELECT count(*), sum(cost_usd) FROM api_usage_log"), "20|20");
    assert_eq!(postgres.psql(COUNTED), format!("{RECORDS}|20"), "a retry is no refusal less");
    daemon.assert_reconciled();
}

fn metric(daemon: &Daemon, name: &str) -> u64 {
    let text = daemon.metrics();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {text}")) as u64
}

#[test]
fn lines_that_are_refused_as_fast_as_they_can_be_sent_do_not_fill_the_wal() {
    const LINES: usize = 300_000;
    let mut postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_DEAD_LETTERS_ROWS_PER_DAY", "20").start();
    daemon.until_status("everything is at work", |status| status["health"]["status"] == "ok");
    postgres.down(Stop::Fast);
    let mut stream = daemon.connect();
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut piece, mut lines) = (vec![0; 65_536], 0);
        while let Ok(read @ 1..) = reader.read(&mut piece) {
            lines += piece[..read].iter().filter(|byte| **byte == b'\n').count();
        }
        lines
    });
    stream.write_all("{\"c\":1}\n".repeat(LINES).as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), LINES, "each has an answer");
    let bytes = metric(&daemon, "tallyd_wal_bytes ");
    assert!(bytes < 2_000_000, "{bytes} bytes of the WAL for {LINES} refused lines");
    postgres.up();
    postgres.until(COUNTED, &format!("{LINES}|20"));
}

#[test]
fn old_letters_go_and_it_is_told_how_many_nobody_had_decided_about() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_DEAD_LETTERS_KEEP_DAYS", "30").start();
    daemon.lines("{\"c\":1}\n{\"d\":1}\n");
    postgres.until("SELECT count(*) FROM dead_letters", "2");
    postgres.psql(
        "UPDATE dead_letters SET created_at = now() - interval '31 days' WHERE id = (SELECT min(id) FROM dead_letters)",
    );
    postgres.psql("INSERT INTO tallyd_refusals (day, kind, producer, code, field, refused, kept, kept_bytes, first_seen, last_seen) \
        VALUES (current_date - 31, 'refused', 'old', 'nul', '', 5, 5, 5, now(), now())");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    postgres.until("SELECT count(*) FROM dead_letters", "1");
    postgres.until("SELECT count(*) FROM tallyd_refusals WHERE producer = 'old'", "0");
    let audited = "SELECT object, new_value ->> 'open' FROM tallyd_audit_log WHERE action = 'dead_letter.expire'";
    until("the expiry is audited", || match postgres.psql(audited) {
        found if found == "1 letter|1" => Ok(()),
        found => Err(found),
    });
}
