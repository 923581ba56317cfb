//! Numbered records through the client library's session: prices, refusals one by one, resends, fencing.

use tallyd_client::{Record, Session, SessionError};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

fn priced(tokens: u64) -> Record {
    Record::claude("claude-sonnet-4-5", tokens, 0)
}

#[test]
fn acks_carry_exact_costs_and_none_for_what_has_no_price() {
    let postgres = Postgres::stopped();
    let daemon = Daemon::on(&postgres.url()).start();
    let mut session = daemon.session("p");
    let stated = Record { cost_usd: Some("0.1000000001".into()), ..Record::rentcast("/avm") };
    session.send(1, &[priced(1), Record::claude("of-tomorrow", 5, 5), stated]).unwrap();
    let ack = session.recv_ack().unwrap();
    let costs: Vec<_> = ack.costs.unwrap();
    let costs: Vec<_> = costs.iter().map(Option::as_deref).collect();
    assert_eq!(costs, [Some("0.000003"), None, Some("0.1000000001")]);
}

#[test]
fn a_refused_record_goes_to_the_dead_letters_and_its_neighbours_go_through() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let mut session = daemon.session("p");
    let records = [
        priced(1),
        Record { provider: "a\0b".into(), ..priced(2) },
        Record { occurred_at: Some(7), ..priced(3) },
        priced(1_000_000_000_001),
        Record { metadata: Some("[]".into()), ..priced(5) },
        priced(6),
    ];
    session.send(1, &records).unwrap();
    let ack = session.recv_ack().unwrap();
    assert_eq!(ack.seq, 6);
    let refused: Vec<_> = ack.rejected.iter().map(|refused| (refused.seq, &*refused.code)).collect();
    let expected = [(2, "nul"), (3, "too_early"), (4, "range"), (5, "format")];
    assert_eq!(refused, expected);
    postgres.until_calls(2);
    assert_eq!(postgres.psql("SELECT input_tokens FROM api_usage_log ORDER BY 1"), "1\n6");
    let letters = postgres.psql("SELECT kind, code, producer, octet_length(payload) > 0 FROM dead_letters ORDER BY id");
    let expected: Vec<_> = expected.iter().map(|(_, code)| format!("refused|{code}|p|t")).collect();
    assert_eq!(letters, expected.join("\n"));
    let mut encoded = Vec::new();
    tallyd_protocol::record::write(&mut encoded, &records[1]);
    let kept = postgres.psql("SELECT encode(payload, 'hex'), payload_format FROM dead_letters WHERE code = 'nul'");
    let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(kept, format!("{hex}|msgpack"), "the payload is what was sent");
    // A refused record has used up its number.
    assert_eq!(daemon.session("p").last_seq(), 6);
    daemon.assert_reconciled();
}

#[test]
fn what_is_sent_again_is_recorded_once_whoever_was_restarted() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let records: Vec<_> = (1..=10).map(priced).collect();
    let send = |mut session: Session, first_seq: u64, records: &[Record]| {
        session.send(first_seq, records).unwrap();
        session.recv_ack().unwrap()
    };
    assert_eq!(send(daemon.session("p"), 1, &records[..6]).seq, 6);
    // Overlapping frames on a new connection: four records are new. A duplicate has no cost.
    let ack = send(daemon.session("p"), 4, &records[3..10]);
    assert_eq!((ack.seq, ack.costs.unwrap().iter().filter(|cost| cost.is_some()).count()), (10, 4));
    // The same on one connection.
    let mut session = daemon.session("p");
    for _ in 0..2 {
        session.send(7, &records[6..10]).unwrap();
        assert_eq!(session.recv_ack().unwrap().seq, 10);
    }
    postgres.until_calls(10);
    // After an orderly end that loaded everything, after a kill, and after both again.
    for round in 0..4 {
        if round % 2 == 0 {
            assert_eq!(daemon.terminate().code(), Some(0));
        } else {
            daemon.kill();
        }
        daemon.up();
        let session = daemon.session("p");
        assert_eq!(session.last_seq(), 10, "round {round}");
        send(session, 1, &records);
    }
    assert_eq!(send(daemon.session("p"), 11, &[priced(11)]).seq, 11);
    postgres.until("SELECT count(*), sum(input_tokens) FROM api_usage_log", "11|66");
    daemon.assert_reconciled();
}

#[test]
fn a_second_session_of_a_producer_fences_off_the_first() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let mut first = daemon.session("p");
    first.send(1, &[priced(1)]).unwrap();
    first.recv_ack().unwrap();
    let mut second = daemon.session("p");
    assert_eq!(second.last_seq(), 1);
    let answer = first.send(2, &[priced(100)]).and_then(|()| first.recv_ack());
    assert!(matches!(&answer, Err(SessionError::Refused { code, .. }) if code == "fenced"), "{answer:?}");
    second.send(2, &[priced(2)]).unwrap();
    assert_eq!(second.recv_ack().unwrap().seq, 2);
    postgres.until("SELECT count(*), sum(input_tokens) FROM api_usage_log", "2|3");
}
