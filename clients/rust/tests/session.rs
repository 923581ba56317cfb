//! The blocking session: handshake, bounds, windows, and refusals.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use support::{Daemon, Script, id_and_number};
use tallyd_client::{Endpoint, HelloOptions, Record, Session, SessionError};
use tallyd_protocol::{ClientMessage, ErrorFrame, ServerMessage, Welcome};

fn socket() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tallyd.sock");
    (dir, path)
}

fn connect(path: &std::path::Path) -> Result<Session, SessionError> {
    Session::connect(&Endpoint::unix(path), HelloOptions::new("import"))
}

fn records(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(|n| Record { id: Some([7; 16]), occurred_at: Some(1), ..Record::claude("", n, 0) }).collect()
}

fn bytes(message: &ServerMessage) -> Vec<u8> {
    let mut out = Vec::new();
    message.write_frame(&mut out);
    out
}

#[test]
fn several_frames_may_be_sent_before_their_acks_are_read() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    let mut session = connect(&path).unwrap();
    assert_eq!((session.last_seq(), session.welcome().max_records), (0, 16_384));
    for first in [1, 101, 201] {
        session.send(first, &records(first..first + 100)).unwrap();
    }
    let acks: Vec<u64> = (0..3).map(|_| session.recv_ack().unwrap().seq).collect();
    assert_eq!(acks, [100, 200, 300]);
    daemon.state.with(|kept| {
        let numbers: Vec<u64> = kept.records.iter().map(|(_, record)| id_and_number(record).1).collect();
        assert_eq!(numbers, (1..=300).collect::<Vec<_>>());
        assert_eq!(kept.hellos[0].producer, "import");
    });
    drop(session);
    assert_eq!(connect(&path).unwrap().last_seq(), 300);
}

#[test]
fn a_frame_beyond_the_daemons_bounds_is_not_sent() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::Bounds { max_records: 10, max_frame_bytes: 1024 }]);
    let mut session = connect(&path).unwrap();
    let error = session.send(1, &records(1..12)).unwrap_err();
    assert!(matches!(error, SessionError::TooManyRecords { records: 11, max: 10 }), "{error}");
    let large = Record { metadata: Some("x".repeat(1024).into()), ..Record::rentcast("/avm") };
    let error = session.send(1, &[large]).unwrap_err();
    assert!(matches!(error, SessionError::TooLarge { max: 1024, .. }), "{error}");
    // The session continues, and the daemon got neither of the two frames.
    session.send(1, &records(1..11)).unwrap();
    assert_eq!(session.recv_ack().unwrap().seq, 10);
    daemon.state.with(|kept| assert_eq!(kept.frames.len(), 1));
}

#[test]
fn an_ack_that_is_late_can_be_waited_for_again() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::HoldAcks]);
    let mut session = connect(&path).unwrap();
    session.send(1, &records(1..3)).unwrap();
    session.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    match session.recv_ack() {
        Err(SessionError::Io(error)) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        other => panic!("{other:?}"),
    }
    daemon.release();
    session.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(session.recv_ack().unwrap().seq, 2);
}

#[test]
fn refusals_are_typed_in_the_handshake_and_after_it() {
    let (_dir, path) = socket();
    let error = bytes(&ServerMessage::Error(ErrorFrame { code: "unauthorized".into(), message: "who?".into() }));
    let scripts = [Script::Answer(error), Script::Fence(1)];
    let _daemon = Daemon::start(&path, scripts);
    match connect(&path) {
        Err(SessionError::Refused { code, message }) => assert_eq!((&*code, &*message), ("unauthorized", "who?")),
        other => panic!("{other:?}"),
    }
    let mut session = connect(&path).unwrap();
    session.send(1, &records(1..2)).unwrap();
    assert_eq!(session.recv_ack().unwrap().seq, 1);
    let fenced = |result| matches!(result, Err(SessionError::Refused { code, .. }) if code == "fenced");
    // A send into the closed connection finds the error frame, which is still in the socket.
    let mut sent = Ok(());
    while sent.is_ok() {
        sent = session.send(2, &records(2..3));
    }
    assert!(fenced(sent));
}

#[test]
fn what_is_not_this_protocol_is_named() {
    let (_dir, path) = socket();
    let welcome =
        Welcome { protocol: 9, last_seq: 0, max_frame_bytes: 1 << 20, max_records: 1, warning: None, budgets: None };
    let scripts = [
        Script::Answer(bytes(&ServerMessage::Welcome(welcome))),
        Script::Answer(b"HTTP/1.1 400 Bad Request\r\n".to_vec()),
        Script::Answer(Vec::new()),
    ];
    let _daemon = Daemon::start(&path, scripts);
    assert!(matches!(connect(&path), Err(SessionError::Version { daemon: 9 })));
    assert!(matches!(connect(&path), Err(SessionError::Protocol(_))));
    assert!(matches!(connect(&path), Err(SessionError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof));
}

#[test]
fn over_tcp_the_hello_holds_the_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix).unwrap();
        let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
        stream.read_exact(&mut body).unwrap();
        let welcome = Welcome {
            protocol: 2,
            last_seq: 4,
            max_frame_bytes: 1 << 20,
            max_records: 1,
            warning: None,
            budgets: None,
        };
        stream.write_all(&bytes(&ServerMessage::Welcome(welcome))).unwrap();
        let ClientMessage::Hello(hello) = rmp_serde::from_slice(&body).unwrap() else { panic!("a hello") };
        hello
    });
    let session = Session::connect(&Endpoint::tcp(addr, "s3cret"), HelloOptions::new("import")).unwrap();
    assert_eq!(session.last_seq(), 4);
    assert_eq!(daemon.join().unwrap().token.as_deref(), Some("s3cret"));
}
