//! A record that PostgreSQL will not take, although the daemon did: it alone ends in the dead letters.

use tallyd_client::Record;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// A rule that somebody has added to the call log, and that the daemon knows nothing of.
const RULE: &str = "ALTER TABLE api_usage_log ADD CONSTRAINT no_poison CHECK (request_id <> 'poison')";

#[test]
fn a_row_that_postgresql_refuses_goes_to_the_dead_letters_alone() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    postgres.psql(RULE);
    let mut session = daemon.session("p");
    // Two in one frame and one in another, between many that are fine.
    let record = |seq: u64| Record {
        request_id: if [31, 77, 250].contains(&seq) { "poison".into() } else { "".into() },
        ..Record::claude("claude-sonnet-4-5", seq, 1)
    };
    for first_seq in [1, 101, 201] {
        session.send(first_seq, &(first_seq..first_seq + 100).map(record).collect::<Vec<_>>()).unwrap();
    }
    for seq in [100, 200, 300] {
        assert_eq!(session.recv_ack().unwrap().seq, seq);
    }
    postgres.until_calls(297);
    assert_eq!(postgres.psql("SELECT count(*) FROM api_usage_log WHERE input_tokens IN (31, 77, 250)"), "0");
    let letters = "SELECT kind, code, producer, payload_format, \
        (convert_from(payload, 'UTF8')::json ->> 'input_tokens') FROM dead_letters ORDER BY 5";
    let expected = [250, 31, 77].map(|tokens| format!("poison|23514|p|json|{tokens}"));
    postgres.until(letters, &expected.join("\n"));
    daemon.assert_reconciled();
    // The lanes go on as if nothing had been.
    session.send(301, &[record(301)]).unwrap();
    session.recv_ack().unwrap();
    postgres.until_calls(298);
}
