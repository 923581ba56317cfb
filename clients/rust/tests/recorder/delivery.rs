//! Each record arrives once and in order, despite faults of connections, daemons and names.

use std::time::Duration;

use tallyd_client::{Endpoint, FlushOutcome, Record, Recorder};
use tallyd_protocol::{Ack, ServerMessage, Welcome};

use crate::support::{Daemon, PATIENCE, Script, until};
use crate::{assert_complete, builder, record_numbers, socket};

#[test]
fn records_arrive_once_in_order_with_ids() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    let recorder = builder(&path).build();
    record_numbers(&recorder, 1..=5000);
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_complete(&daemon.state, 5000);
    let stats = recorder.stats();
    assert_eq!((stats.recorded, stats.acked, stats.in_flight, stats.dropped, stats.rejected), (5000, 5000, 0, 0, 0));
    assert!(stats.connected);
    assert_eq!(recorder.close(Duration::MAX), FlushOutcome::Settled);
}

#[test]
fn nothing_is_lost_or_doubled_when_connections_end_with_and_without_acks() {
    let (_dir, path) = socket();
    let scripts = [
        Script::KeepThenClose(1),
        Script::LoseThenClose(1),
        Script::KeepThenClose(3),
        Script::LoseThenClose(2),
        Script::Answer(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        Script::AnswerFrame(vec![0, 0, 0, 1, 0xc1]),
        Script::KeepThenClose(1),
    ];
    let faults = scripts.len();
    let daemon = Daemon::start(&path, scripts);
    let recorder = builder(&path).build();
    for round in 0..20u64 {
        record_numbers(&recorder, round * 500 + 1..=round * 500 + 500);
        if round % 5 == 0 {
            assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
        }
    }
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_complete(&daemon.state, 10_000);
    // Later faults in the list need later frames, so go on until all faults have happened.
    for number in 10_001.. {
        record_numbers(&recorder, number..=number);
        assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
        if daemon.state.with(|kept| kept.connections > faults) {
            assert_complete(&daemon.state, number);
            break;
        }
    }
    let stats = recorder.stats();
    assert_eq!((stats.recorded, stats.in_flight), (stats.acked, 0));
    assert!(stats.reconnects >= 6, "{stats:?}");
}

#[test]
fn a_resent_frame_is_the_same_byte_for_byte() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::HoldAcks]);
    let recorder = builder(&path).build();
    record_numbers(&recorder, 1..=3);
    daemon.state.wait("the first frame", |kept| !kept.frames.is_empty());
    record_numbers(&recorder, 4..=2000);
    // The daemon forgets a frame that it never acknowledged, and gets the same bytes again.
    let state = daemon.kill();
    let first = state.with(|kept| {
        (kept.last_seq, kept.records) = (0, Vec::new());
        std::mem::take(&mut kept.frames)
    });
    let daemon = Daemon::restart(&path, state);
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_complete(&daemon.state, 2000);
    daemon.state.with(|kept| assert_eq!(kept.frames[..first.len()], first));
}

#[test]
fn a_daemon_that_starts_late_gets_everything() {
    let (_dir, path) = socket();
    let recorder = builder(&path).build();
    record_numbers(&recorder, 1..=3000);
    until("a failed attempt", || recorder.stats().last_error.is_some());
    assert!(!recorder.stats().connected);
    let daemon = Daemon::start(&path, []);
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_complete(&daemon.state, 3000);
}

#[test]
fn a_daemon_may_be_killed_and_restarted_at_any_time() {
    let (_dir, path) = socket();
    let mut daemon = Daemon::start(&path, []);
    let recorder = builder(&path).build();
    for round in 0..10u64 {
        record_numbers(&recorder, round * 700 + 1..=round * 700 + 700);
        let seen = round * 700;
        daemon.state.wait("some of this round", |kept| kept.last_seq > seen);
        daemon = Daemon::restart(&path, daemon.kill());
    }
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_complete(&daemon.state, 7000);
}

#[test]
fn a_new_process_goes_on_where_the_daemon_says_the_numbers_ended() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    daemon.state.with(|kept| kept.last_seq = 41);
    let recorder = builder(&path).build();
    record_numbers(&recorder, 1..=1);
    assert_eq!(recorder.close(PATIENCE), FlushOutcome::Settled);
    daemon.state.with(|kept| assert_eq!(kept.records[0].0, 42));
}

#[test]
fn a_daemon_that_lost_its_state_is_fed_upwards() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    let recorder = builder(&path).build();
    record_numbers(&recorder, 1..=5);
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    let state = daemon.kill();
    state.with(|kept| (kept.last_seq, kept.records) = (0, Vec::new()));
    let daemon = Daemon::restart(&path, state);
    record_numbers(&recorder, 6..=6);
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    daemon.state.with(|kept| assert_eq!(kept.records[0].0, 6));
}

#[test]
fn a_fenced_producer_stays_away_and_says_so() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::Fence(1)]);
    let recorder = builder(&path).fenced_backoff(Duration::from_secs(3600)).build();
    record_numbers(&recorder, 1..=1);
    until("the fence", || recorder.stats().fenced == 1);
    record_numbers(&recorder, 2..=2);
    // For any other reason to reconnect, a flush would connect at once.
    assert_eq!(recorder.flush(Duration::from_millis(100)), FlushOutcome::Outstanding(1));
    assert_eq!(daemon.state.with(|kept| kept.connections), 1);
    let stats = recorder.stats();
    assert!(!stats.connected && stats.last_error.unwrap().contains("fenced"));
    assert_eq!(recorder.close(Duration::from_millis(1)), FlushOutcome::Outstanding(1));
}

#[test]
fn records_never_sent_are_not_taken_for_durable_after_another_process_used_the_numbers() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::Fence(1)]);
    let recorder = builder(&path).fenced_backoff(Duration::from_millis(200)).build();
    record_numbers(&recorder, 1..=1);
    until("the fence", || recorder.stats().fenced == 1);
    daemon.state.with(|kept| kept.last_seq = 1000);
    record_numbers(&recorder, 2..=4);
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    daemon.state.with(|kept| {
        let seqs: Vec<u64> = kept.records.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, [1, 1001, 1002, 1003]);
    });
}

#[test]
fn broken_daemons_cost_nothing_but_time() {
    let mut version = Vec::new();
    let welcome =
        Welcome { protocol: 1, last_seq: 0, max_frame_bytes: 1 << 20, max_records: 10, warning: None, budgets: None };
    ServerMessage::Welcome(welcome.clone()).write_frame(&mut version);
    let mut impossible = Vec::new();
    ServerMessage::Welcome(Welcome { protocol: 2, last_seq: u64::MAX, ..welcome }).write_frame(&mut impossible);
    let mut ahead = Vec::new();
    ServerMessage::Ack(Ack { seq: 1 << 40, ..Ack::default() }).write_frame(&mut ahead);
    let scripts = [
        Script::Answer(version),
        Script::Answer(impossible),
        Script::Answer(vec![0xff; 64]),
        Script::Answer(vec![0; 64]),
        Script::Answer(Vec::new()),
        Script::AnswerFrame(vec![0xff; 64]),
        Script::AnswerFrame(ahead),
    ];
    let faults = scripts.len();
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, scripts);
    let recorder = builder(&path).build();
    for number in 1..=20 {
        record_numbers(&recorder, number..=number);
        assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    }
    assert_complete(&daemon.state, 20);
    daemon.state.with(|kept| assert_eq!(kept.connections, faults + 1));
}

#[test]
fn default_names_differ_and_the_app_is_filled_in() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    let recorders = [(); 2].map(|()| Recorder::builder(Endpoint::unix(&path)).app("web").build());
    daemon.state.wait("two connections", |kept| kept.hellos.len() == 2);
    daemon.state.with(|kept| {
        assert!(kept.hellos[0].producer.starts_with("web@"));
        assert_ne!(kept.hellos[0].producer, kept.hellos[1].producer);
    });
    recorders[0].record(Record::rentcast("/avm"));
    assert_eq!(recorders[0].flush(PATIENCE), FlushOutcome::Settled);
    daemon.state.with(|kept| assert!(kept.records[0].1.ends_with(b"web")));
}
