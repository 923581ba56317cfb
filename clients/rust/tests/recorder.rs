//! The recorder's promises, against a daemon with scripted faults.

mod support;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{Daemon, PATIENCE, Script, State, id_and_number, until};
use tallyd_client::{Builder, Endpoint, FlushOutcome, Record, Recorder};
use tallyd_protocol::{Ack, ServerMessage, Welcome};

fn socket() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tallyd.sock");
    (dir, path)
}

fn builder(path: &std::path::Path) -> Builder {
    let (min, max) = (Duration::from_millis(1), Duration::from_millis(10));
    Recorder::builder(Endpoint::unix(path)).producer("test").reconnect_backoff(min, max)
}

fn record_numbers(recorder: &Recorder, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        assert!(recorder.record(Record::claude("m", number, 0)));
    }
}

/// Everything up to `count` is there once and in order, under numbers that rise by one, each with an id of its own.
fn assert_complete(state: &State, count: u64) {
    state.with(|kept| {
        let seqs: Vec<u64> = kept.records.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=count).collect::<Vec<_>>());
        let (ids, numbers): (HashSet<_>, Vec<_>) = kept.records.iter().map(|(_, record)| id_and_number(record)).unzip();
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
        assert_eq!(ids.len() as u64, count);
    });
}

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
    // Faults later in the list are met by later frames: go on until all are used up.
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
    // The daemon forgets what it never acknowledged: it gets the very same frame again.
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
fn a_full_ring_counts_and_hands_over_what_it_cannot_take() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::Stuck]);
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let recorder = builder(&path)
        .ring_capacity(10)
        .window_bytes(1)
        .drop_deadline(Duration::from_millis(50))
        .on_drop({
            let dropped = Arc::clone(&dropped);
            move |record| {
                dropped.lock().unwrap().push(record.input_tokens);
                panic!("a callback of the application panics");
            }
        })
        .build();
    // One record fills the window, ten fill the ring.
    assert!(recorder.record(Record::claude("m", 0, 0)));
    daemon.state.wait("the connection", |kept| kept.connections == 1);
    until("a full ring", || !recorder.record(Record::claude("m", 1, 0)));
    assert!(!recorder.record(Record::claude("m", 7, 0)));
    let stats = recorder.stats();
    assert_eq!((stats.recorded, stats.dropped, stats.in_flight), (11, 2, 11));
    assert_eq!(*dropped.lock().unwrap(), [1, 7]);
    // At the end, the ten in the ring are handed over too.
    drop(recorder);
    assert_eq!(dropped.lock().unwrap().len(), 12);
}

#[test]
fn flush_and_drop_keep_their_deadlines_with_a_stuck_daemon() {
    let (_dir, path) = socket();
    let _daemon = Daemon::start(&path, [Script::Stuck]);
    let recorder = builder(&path).drop_deadline(Duration::from_millis(80)).build();
    record_numbers(&recorder, 1..=3);
    let begun = Instant::now();
    assert_eq!(recorder.flush(Duration::from_millis(60)), FlushOutcome::Outstanding(3));
    assert!(begun.elapsed() >= Duration::from_millis(60));
    drop(recorder);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn close_says_how_many_were_left() {
    let (_dir, path) = socket();
    let recorder = builder(&path).build();
    record_numbers(&recorder, 1..=3);
    assert_eq!(recorder.close(Duration::from_millis(30)), FlushOutcome::Outstanding(3));
}

#[test]
fn slow_acks_hold_flush_and_nothing_else() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::HoldAcks]);
    let recorder = builder(&path).build();
    record_numbers(&recorder, 1..=100);
    daemon.state.wait("the first frame", |kept| !kept.frames.is_empty());
    assert_eq!(recorder.flush(Duration::from_millis(20)), FlushOutcome::Outstanding(100));
    daemon.release();
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_complete(&daemon.state, 100);
}

#[test]
fn a_silent_daemon_is_left_after_the_ack_timeout() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::HoldAcks]);
    let recorder = builder(&path).ack_timeout(Duration::from_millis(20)).build();
    record_numbers(&recorder, 1..=10);
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_eq!(recorder.stats().reconnects, 1);
    assert_complete(&daemon.state, 10);
}

#[test]
fn refused_records_are_counted_and_reported_with_their_ids() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::Refuse(vec![2, 4])]);
    let refused = Arc::new(Mutex::new(Vec::new()));
    let recorder = builder(&path)
        .on_reject({
            let refused = Arc::clone(&refused);
            move |rejected| {
                refused.lock().unwrap().push((rejected.seq, rejected.id, rejected.code));
                panic!("a callback of the application panics");
            }
        })
        .build();
    for n in 1..=5 {
        recorder.record(Record { id: Some([n; 16]), ..Record::rentcast("/avm") });
    }
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    let stats = recorder.stats();
    assert_eq!((stats.acked, stats.rejected, stats.in_flight), (3, 2, 0));
    let expected = [(2, Some([2; 16]), "range".to_owned()), (4, Some([4; 16]), "range".to_owned())];
    assert_eq!(*refused.lock().unwrap(), expected);
    daemon.state.with(|kept| assert_eq!(kept.last_seq, 5));
}

#[test]
fn a_record_larger_than_a_frame_is_refused_here_and_its_neighbours_go_through() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::Bounds { max_records: 3, max_frame_bytes: 4096 }]);
    let refused = Arc::new(AtomicU64::new(0));
    let recorder = builder(&path)
        .on_reject({
            let refused = Arc::clone(&refused);
            move |rejected| {
                assert_eq!((rejected.code.as_str(), rejected.id), ("too_long", Some([9; 16])));
                refused.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build();
    record_numbers(&recorder, 1..=10);
    let metadata = format!("{{\"x\":\"{}\"}}", "x".repeat(5000));
    recorder.record(Record { id: Some([9; 16]), metadata: Some(metadata.into()), ..Record::rentcast("/avm") });
    record_numbers(&recorder, 11..=20);
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_complete(&daemon.state, 20);
    assert_eq!((recorder.stats().acked, recorder.stats().rejected, refused.load(Ordering::Relaxed)), (20, 1, 1));
}

#[test]
fn a_record_larger_than_any_frame_is_refused_before_it_is_sent() {
    let (_dir, path) = socket();
    let recorder = builder(&path).build();
    recorder.record(Record { metadata: Some("x".repeat(1 << 20).into()), ..Record::rentcast("/avm") });
    // No daemon is needed to settle it.
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_eq!((recorder.stats().rejected, recorder.stats().in_flight), (1, 0));
}

#[test]
fn a_fenced_producer_stays_away_and_says_so() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, [Script::Fence(1)]);
    let recorder = builder(&path).fenced_backoff(Duration::from_secs(3600)).build();
    record_numbers(&recorder, 1..=1);
    until("the fence", || recorder.stats().fenced == 1);
    record_numbers(&recorder, 2..=2);
    // A flush hurries any other reconnect.
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
    let welcome = Welcome { protocol: 2, last_seq: 0, max_frame_bytes: 1 << 20, max_records: 10 };
    ServerMessage::Welcome(welcome.clone()).write_frame(&mut version);
    let mut impossible = Vec::new();
    ServerMessage::Welcome(Welcome { protocol: 1, last_seq: u64::MAX, ..welcome }).write_frame(&mut impossible);
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

#[test]
fn a_callback_may_drop_the_recorder() {
    let (_dir, path) = socket();
    let _daemon = Daemon::start(&path, [Script::Refuse(vec![1])]);
    let slot: Arc<Mutex<Option<Recorder>>> = Arc::default();
    let dropped = Arc::new(AtomicU64::new(0));
    // Waiting for itself, it would use up the deadline, which is longer than the test's patience.
    let recorder = builder(&path)
        .drop_deadline(2 * PATIENCE)
        .on_reject({
            let slot = Arc::clone(&slot);
            let dropped = Arc::clone(&dropped);
            move |_| {
                let recorder = slot.lock().unwrap().take();
                drop(recorder);
                dropped.store(1, Ordering::Release);
            }
        })
        .build();
    let mut held = slot.lock().unwrap();
    recorder.record(Record::rentcast("/avm"));
    *held = Some(recorder);
    drop(held);
    until("the drop", || dropped.load(Ordering::Acquire) == 1);
}
