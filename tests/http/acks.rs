//! Answers that wait for PostgreSQL's COMMIT.

use serde_json::{Value, json};
use tallyd_client::{AckMode, Endpoint, HelloOptions, Record, Session, SessionError};

use crate::client::{Answer, Api};
use crate::support::postgres::Stop;
use crate::support::{PATIENCE, until};

const PATH: &str = "/api/v1/records";
const CALLS: &str = "SELECT count(*) FROM api_usage_log";

fn post(api: &Api, token: &str, key: &str, body: &str) -> Answer {
    let headers = [("authorization", token), ("idempotency-key", key), ("content-type", "application/json")];
    api.send("POST", PATH, &headers, body.as_bytes())
}

/// The answer once the records are committed: a daemon that has just started may take longer than its setting allows.
fn committed(api: &Api, token: &str, key: &str, body: &str) -> Value {
    until("the request is answered", || match post(api, token, key, body) {
        answer if answer.status == 200 => Ok(answer.json()),
        answer => Err(answer.text()),
    })
}

/// The same for lines.
fn lines_committed(api: &Api, lines: &str) {
    until("the lines are answered", || match api.daemon.lines(lines) {
        answers if answers.iter().all(|answer| answer["ok"] == true) => Ok(()),
        answers => Err(format!("{answers:?}")),
    });
}

fn waiting(api: &Api) -> f64 {
    api.metric("tallyd_records_awaiting_commit ")
}

#[test]
fn what_is_answered_is_in_postgresql_and_outlives_the_data_folder_and_counts_once() {
    let mut api = Api::with(&[("TALLYD_WAL_ACK", "committed"), ("TALLYD_WAL_COMMIT_WAIT_MS", "500")]);
    let token = api.token("ingest");
    let two = r#"[{"provider":"rentcast","endpoint":"/a"},{"provider":"rentcast","endpoint":"/b"}]"#;
    assert_eq!(committed(&api, &token, "k-1", two)["accepted"], 2);
    assert_eq!(api.postgres.psql(CALLS), "2", "the answer came after the COMMIT");
    let stated = json!({"id": "44444444-4444-4444-8444-444444444444", "provider": "rentcast"}).to_string();
    let response =
        json!({"provider": "openai", "model": "gpt-4o", "request_id": "chatcmpl-B9MBs8CjcvOU2jLn"}).to_string();
    let lines = format!("{stated}\n{response}\n");
    lines_committed(&api, &lines);
    assert_eq!(api.postgres.psql(CALLS), "4");

    // Without PostgreSQL the records are in the WAL, and the sender is told that this is not enough.
    api.postgres.down(Stop::Fast);
    let one = r#"{"provider":"rentcast","endpoint":"/c"}"#;
    let refused = post(&api, &token, "k-2", one);
    assert_eq!((refused.status, refused.code()), (503, "uncommitted".to_owned()));
    let unanswered = api.daemon.lines("{\"provider\":\"rentcast\"}\n");
    assert_eq!(unanswered[0]["error"]["code"], "uncommitted", "{unanswered:?}");
    until("two records wait", || if waiting(&api) == 2.0 { Ok(()) } else { Err(waiting(&api).to_string()) });
    api.postgres.up();
    assert_eq!(committed(&api, &token, "k-2", one)["duplicates"], 1);
    until("none waits", || if waiting(&api) == 0.0 { Ok(()) } else { Err(waiting(&api).to_string()) });

    // The new WAL knows no key and no identity. The call log does, although the arrival is another.
    api.daemon.kill();
    std::fs::remove_dir_all(api.daemon.data()).unwrap();
    api.daemon.up();
    assert_eq!(committed(&api, &token, "k-1", two)["accepted"], 2);
    lines_committed(&api, &lines);
    assert_eq!(committed(&api, &token, "k-3", one)["accepted"], 1, "another request");
    assert_eq!(api.postgres.psql(CALLS), "7", "two with a key, two with an identity, two of the outage, one new");
    assert!(api.metric("tallyd_records_duplicate_total ") >= 4.0);
    api.daemon.assert_reconciled();
}

#[test]
fn a_client_may_ask_for_the_stricter_acknowledgement() {
    let mut api = Api::start();
    let open = |ack| {
        let options =
            HelloOptions { ack, secret: "s".repeat(32), read_timeout: Some(PATIENCE), ..HelloOptions::new("p") };
        Session::connect(&Endpoint::unix(api.daemon.socket()), options).unwrap()
    };
    let records = [Record::rentcast("/a"), Record { user_id: "\0".into(), ..Record::rentcast("/b") }];
    let mut session = open(AckMode::Committed);
    session.send(1, &records).unwrap();
    let ack = session.recv_ack().unwrap();
    assert_eq!((ack.seq, ack.rejected.len()), (2, 1));
    // A refused record is settled once its dead letter is committed.
    assert_eq!(api.postgres.psql("SELECT count(*) FROM api_usage_log, dead_letters"), "1");
    assert_eq!(open(AckMode::Committed).last_seq(), 2, "all of it is committed");

    api.postgres.down(Stop::Fast);
    let mut durable = open(AckMode::Durable);
    durable.send(3, &records[..1]).unwrap();
    assert_eq!(durable.recv_ack().unwrap().seq, 3, "the other acknowledgement does not need PostgreSQL");
    assert_eq!(open(AckMode::Durable).last_seq(), 3);
    let mut waiting = open(AckMode::Committed);
    assert_eq!(waiting.last_seq(), 0, "a client would forget what is not committed");
    // A resend is skipped, and its acknowledgement waits for the first record's COMMIT.
    waiting.send(3, &records[..1]).unwrap();
    waiting.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let early = waiting.recv_ack();
    assert!(matches!(early, Err(SessionError::Io(_))), "{early:?}");
    api.postgres.up();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(waiting.recv_ack().unwrap().seq, 3);
    assert_eq!(api.postgres.psql(CALLS), "2");
}
