//! Other producers' names, sequence numbers that skip ahead, evictions.
//!
//! In each test honest clients work beside the attacker. At the end the call log must have each of their records once.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::Value;
use tallyd_client::{Endpoint, FlushOutcome, HelloOptions, Record, Recorder, Session, SessionError, Stats};
use tallyd_protocol::{ClientMessage, Hello, ServerMessage, frame, limits};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{PATIENCE, hello, until};

/// The record with this number of this app.
fn call(app: &str, number: u64) -> Record {
    Record { app: app.to_owned().into(), ..Record::claude("claude-sonnet-4-5", number, 0) }
}

fn calls(app: &str, numbers: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    numbers.map(|number| call(app, number)).collect()
}

/// Waits until the app's records are in the call log, each once.
fn until_stored_once(postgres: &Postgres, app: &str, records: u64) {
    let sql = format!("SELECT count(*), count(DISTINCT input_tokens) FROM api_usage_log WHERE app = '{app}'");
    postgres.until(&sql, &format!("{records}|{records}"));
}

/// A session of this name with a secret of its own.
fn stranger(daemon: &Daemon, name: &str) -> Result<Session, SessionError> {
    let options = HelloOptions { read_timeout: Some(PATIENCE), ..HelloOptions::new(name) };
    Session::connect(&Endpoint::unix(daemon.socket()), options)
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(code: &str, result: Result<T, SessionError>) -> String {
    match result {
        Err(SessionError::Refused { code: found, message }) if found == code => message,
        other => panic!("{code} was expected: {other:?}"),
    }
}

#[track_caller]
fn send(session: &mut Session, first_seq: u64, records: &[Record]) {
    session.send(first_seq, records).unwrap();
    let ack = session.recv_ack().unwrap();
    assert_eq!(ack.seq, first_seq + records.len() as u64 - 1);
}

/// Sends records that must not be accepted. Returns the refusal.
fn try_send(session: &mut Session, first_seq: u64, records: &[Record]) -> Result<(), SessionError> {
    session.send(first_seq, records)?;
    session.recv_ack().map(drop)
}

fn metric(daemon: &Daemon, name: &str) -> f64 {
    let metrics = daemon.metrics();
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn another_client_of_a_name_moves_nobodys_numbers_and_both_are_told() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let mut honest = daemon.session("api-1");
    send(&mut honest, 1, &calls("honest", 1..=10));
    let mut neighbour = stranger(&daemon, "api-1").unwrap();
    assert_eq!(neighbour.last_seq(), 0, "it is told nothing of the other's records");
    let warning = neighbour.welcome().warning.clone().expect("the second one is told in its welcome");
    assert_eq!(warning.code, "name_in_use");
    send(&mut neighbour, limits::SEQ_JUMP, &calls("neighbour", 1..=1));
    // The first session continues, and its next acknowledgement has a warning, once.
    honest.send(11, &calls("honest", 11..=20)).unwrap();
    assert_eq!(honest.recv_ack().unwrap().warning.map(|warning| warning.code), Some("name_in_use".into()));
    honest.send(21, &calls("honest", 21..=21)).unwrap();
    assert_eq!(honest.recv_ack().unwrap().warning, None);
    assert_eq!(metric(&daemon, "tallyd_producer_names_shared_total"), 1.0);
    assert_eq!(daemon.log().matches("two processes use one producer name").count(), 1);
    // Resent records are recognised if their acknowledgement got lost, also after a kill.
    daemon.kill();
    daemon.up();
    let mut honest = daemon.session("api-1");
    assert_eq!(honest.last_seq(), 21);
    send(&mut honest, 12, &calls("honest", 12..=25));
    // A successor without the secret has its own numbers: none of its records counts as the other's.
    drop(honest);
    let mut successor = stranger(&daemon, "api-1").unwrap();
    assert_eq!(successor.last_seq(), 0);
    send(&mut successor, 1, &calls("successor", 1..=15));
    until_stored_once(&postgres, "honest", 25);
    until_stored_once(&postgres, "successor", 15);
    until_stored_once(&postgres, "neighbour", 1);
    daemon.assert_reconciled();
}

#[test]
fn two_recorders_of_one_name_lose_nothing_and_are_told() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let recorder = || Recorder::builder(Endpoint::unix(daemon.socket())).producer("worker").build();
    let both = [recorder(), recorder()];
    for number in 1..=400 {
        for (recorder, app) in both.iter().zip(["one", "two"]) {
            assert!(recorder.record(call(app, number)));
        }
        if number % 40 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for recorder in &both {
        assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
        // The first of the two gets the warning with an acknowledgement.
        let stats = until("it is told", || {
            assert!(recorder.record(Record { app: "more".into(), ..Record::rentcast("/avm") }));
            let stats = recorder.stats();
            if stats.last_warning.is_some() { Ok(stats) } else { Err("not yet".into()) }
        });
        let Stats { dropped, rejected, fenced, reconnects, .. } = stats;
        assert_eq!((dropped, rejected, fenced, reconnects), (0, 0, 0, 0));
        assert!(stats.last_warning.unwrap().starts_with("name_in_use: "));
    }
    until_stored_once(&postgres, "one", 400);
    until_stored_once(&postgres, "two", 400);
    assert!(metric(&daemon, "tallyd_producer_names_shared_total") >= 1.0);
}

#[test]
fn numbers_that_leap_reserved_names_and_old_versions_are_refused_with_a_reason() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let mut honest = daemon.session("honest");
    // Beyond the bound, and at every edge that an addition could cross.
    for first_seq in [limits::SEQ_JUMP + 2, limits::SEQ_MAX, limits::SEQ_MAX + 1, 1 << 62, u64::MAX - 1] {
        let message = assert_refused(
            "sequence",
            try_send(&mut stranger(&daemon, "leaps").unwrap(), first_seq, &calls("leaps", 1..=1)),
        );
        assert!(message.contains(&first_seq.to_string()), "{message}");
        assert_refused("sequence", try_send(&mut stranger(&daemon, "leaps").unwrap(), first_seq, &[]));
    }
    assert_refused("malformed", try_send(&mut stranger(&daemon, "leaps").unwrap(), u64::MAX, &calls("leaps", 1..=2)));
    assert_refused("malformed", try_send(&mut stranger(&daemon, "leaps").unwrap(), 0, &calls("leaps", 1..=1)));
    // In the largest steps to the highest number, and no further.
    let mut leaps = stranger(&daemon, "leaps").unwrap();
    let mut last = 0;
    while last < limits::SEQ_MAX {
        last = (last + limits::SEQ_JUMP).min(limits::SEQ_MAX);
        leaps.send(last, &[Record { app: "leaps".into(), ..Record::rentcast("/avm") }]).unwrap();
        assert_eq!(leaps.recv_ack().unwrap().seq, last);
        if last == limits::SEQ_JUMP {
            // The remaining steps carry no record, to save time.
            while last + limits::SEQ_JUMP < limits::SEQ_MAX {
                last += limits::SEQ_JUMP;
                send(&mut leaps, last + 1, &[]);
            }
        }
    }
    assert_refused("sequence", try_send(&mut leaps, limits::SEQ_MAX + 1, &calls("leaps", 1..=1)));
    // Names that are tallyd's own.
    for name in ["request:", "request:0123456789abcdef", "import:", "import:0123456789abcdef0123456789abcdef"] {
        let message = assert_refused("reserved_name", stranger(&daemon, name));
        assert!(message.contains("another"), "{message}");
    }
    // A hello of protocol 1, as its clients wrote it.
    let old = Hello { protocol: 1, client: "tallyd-py/0.1.0".into(), ..hello("old") };
    for secret in [String::new(), old.secret.clone()] {
        let ServerMessage::Error(error) = say(&daemon, Hello { secret, ..old.clone() }) else {
            panic!("it is welcome")
        };
        assert_eq!(error.code, "protocol_version");
        assert!(error.message.contains("upgrade the client (\"tallyd-py/0.1.0\")"), "{}", error.message);
    }
    let ServerMessage::Error(error) = say(&daemon, Hello { protocol: 3, ..old }) else { panic!("it is welcome") };
    assert!(error.message.contains("upgrade the daemon"), "{}", error.message);
    // The other clients are not disturbed, numbered or not.
    send(&mut honest, 1, &calls("honest", 1..=3));
    let answers = daemon.lines(r#"{"provider":"rentcast","app":"line"}"#);
    assert_eq!(answers[0]["ok"], true, "{answers:?}");
    until_stored_once(&postgres, "honest", 3);
    daemon.assert_reconciled();
}

fn say(daemon: &Daemon, hello: Hello) -> ServerMessage {
    let mut stream = daemon.connect();
    let mut out = Vec::new();
    ClientMessage::Hello(hello).write_frame(&mut out);
    stream.write_all(&out).unwrap();
    let mut prefix = [0; frame::PREFIX_BYTES];
    stream.read_exact(&mut prefix).unwrap();
    let mut body = vec![0; frame::body_bytes(prefix, 8 << 20).unwrap()];
    stream.read_exact(&mut body).unwrap();
    ServerMessage::read(&body).unwrap()
}

/// A name of the form reserved for imports, for an invented file.
fn made_up_import(number: u64) -> (String, String) {
    let secret = format!("{number:064x}");
    (tallyd_wal::identity::import_name(&secret), secret)
}

#[test]
fn greetings_and_floods_of_names_evict_nobody_who_may_send_again() {
    const MAX: u64 = 64;
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_WAL_MAX_PRODUCERS", &MAX.to_string()).start();
    // An honest client that is away for a moment, one that is connected and quiet, and a finished import.
    send(&mut daemon.session("away"), 1, &calls("away", 1..=30));
    let mut quiet = daemon.session("quiet");
    send(&mut quiet, 1, &calls("quiet", 1..=30));
    let path = daemon.data().with_file_name("calls.csv");
    let rows: String = (1..=30).map(|row| format!("2026-05-01T00:00:00Z,{row},imported\n")).collect();
    std::fs::write(&path, format!("occurred_at,input_tokens,app\n{rows}")).unwrap();
    let import = |daemon: &Daemon| -> Value {
        let arguments =
            ["import", path.to_str().unwrap(), "--set", "provider=claude,model=claude-sonnet-4-5", "--json"];
        let output = daemon.run(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let imported = import(&daemon);
    assert_eq!(imported["recorded"], 30);
    // An import's name, which a dead letter or the daemon log shows, does not suffice to send in its name.
    assert_refused("reserved_name", stranger(&daemon, imported["producer"].as_str().unwrap()));
    // Greetings with ordinary names and with invented imports: many times the size of the table.
    for number in 0..20 * MAX {
        let (producer, secret) = match number % 2 {
            0 => made_up_import(number),
            _ => (format!("n{number}"), format!("{number:032}")),
        };
        let ServerMessage::Welcome(welcome) = say(&daemon, Hello { producer, secret, ..hello("") }) else {
            panic!("a greeting is refused")
        };
        assert_eq!(welcome.last_seq, 0);
    }
    // Names with a record each: accepted while there is room. The others are refused with an error.
    let mut refused = 0;
    for number in 0..3 * MAX {
        let (name, secret) = match number % 3 {
            0 => made_up_import(number),
            _ => (format!("p{number}"), format!("{number:032}")),
        };
        let options = HelloOptions { secret, ..HelloOptions::new(name) };
        let mut session = Session::connect(&Endpoint::unix(daemon.socket()), options).unwrap();
        match try_send(&mut session, 1, &calls("flood", number + 1..=number + 1)) {
            Ok(()) => {}
            error => {
                let message = assert_refused("too_many_producers", error);
                assert!(message.contains("wal.max_producers"), "{message}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 3 * MAX - (MAX - 3), "as many are stored as have a place");
    until_stored_once(&postgres, "flood", MAX - 3);
    assert!(metric(&daemon, "tallyd_protocol_errors_total{code=\"too_many_producers\"}") >= refused as f64);
    let status = daemon.status().expect("the daemon answers");
    assert_eq!(status["health"]["ingest"]["status"], "degraded", "{status}");
    // The earlier producers are not affected: their resent records are recognised, before a restart and after it.
    for _ in 0..2 {
        let mut away = daemon.session("away");
        assert_eq!(away.last_seq(), 30);
        send(&mut away, 11, &calls("away", 11..=30));
        assert_eq!(import(&daemon)["recorded"], 0);
        daemon.kill();
        daemon.up();
    }
    let mut quiet = daemon.session("quiet");
    send(&mut quiet, 21, &calls("quiet", 21..=40));
    until_stored_once(&postgres, "away", 30);
    until_stored_once(&postgres, "quiet", 40);
    until_stored_once(&postgres, "imported", 30);
    assert_eq!(daemon.lines(r#"{"provider":"rentcast"}"#)[0]["ok"], true, "lines have no producer");
    daemon.assert_reconciled();
}
