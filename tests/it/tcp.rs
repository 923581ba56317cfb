//! TCP is for those who know a token.

use tallyd_client::{Endpoint, HelloOptions, Record, Session, SessionError};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

#[test]
fn over_tcp_a_token_opens_the_door_and_nothing_else_does() {
    let postgres = Postgres::stopped();
    // Every address in 127/8 is this machine; one of this process's own has its ports free.
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
