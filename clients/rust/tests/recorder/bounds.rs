//! The recorder's bounds: a full ring, a deadline, a refused record. No loss is silent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tallyd_client::{FlushOutcome, Record, Recorder};

use crate::support::{Daemon, PATIENCE, Script, until};
use crate::{assert_complete, builder, record_numbers, socket};

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
    // One record fills the window, ten others the ring.
    assert!(recorder.record(Record::claude("m", 0, 0)));
    daemon.state.wait("the connection", |kept| kept.connections == 1);
    until("a full ring", || !recorder.record(Record::claude("m", 1, 0)));
    assert!(!recorder.record(Record::claude("m", 7, 0)));
    let stats = recorder.stats();
    assert_eq!((stats.recorded, stats.dropped, stats.in_flight), (11, 2, 11));
    assert_eq!(*dropped.lock().unwrap(), [1, 7]);
    // At the end, the callback also gets the ten records in the ring.
    drop(recorder);
    assert_eq!(dropped.lock().unwrap().len(), 12);
}

#[test]
fn a_burst_beside_a_daemon_loses_nothing_where_it_waits_for_room() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    let recorder = builder(&path).build();
    for number in 1..=100_000 {
        assert!(recorder.room(PATIENCE));
        assert!(recorder.record(Record::claude("m", number, 0)));
    }
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_eq!(recorder.stats().dropped, 0);
    assert_complete(&daemon.state, 100_000);
}

#[test]
fn waiting_for_room_keeps_its_deadline() {
    let (_dir, path) = socket();
    let recorder = builder(&path).ring_capacity(2).window_bytes(1).quiet().build();
    assert!(recorder.room(Duration::ZERO));
    until("a full ring", || !recorder.record(Record::claude("m", 1, 0)));
    let begun = Instant::now();
    assert!(!recorder.room(Duration::from_millis(30)));
    assert!(begun.elapsed() >= Duration::from_millis(30));
    let _ = recorder.close(Duration::ZERO);
}

#[test]
fn the_text_of_the_rings_records_is_bounded_in_bytes() {
    let (_dir, path) = socket();
    let recorder = builder(&path).ring_bytes(10_000).window_bytes(1).quiet().build();
    let metadata = || Record { metadata: Some("x".repeat(1_000).into()), ..Record::rentcast("/avm") };
    until("a full ring", || !recorder.record(metadata()));
    let recorded = recorder.stats().recorded;
    assert!((10..=11).contains(&recorded), "{recorded}: ten in the ring, one in the window");
    assert!(recorder.record(Record::rentcast("/avm")), "text that is a constant takes nothing");
    let _ = recorder.close(Duration::ZERO);
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
    // It is settled without a daemon.
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    assert_eq!((recorder.stats().rejected, recorder.stats().in_flight), (1, 0));
}

#[test]
fn a_callback_may_drop_the_recorder() {
    let (_dir, path) = socket();
    let _daemon = Daemon::start(&path, [Script::Refuse(vec![1])]);
    let slot: Arc<Mutex<Option<Recorder>>> = Arc::default();
    let dropped = Arc::new(AtomicU64::new(0));
    // A recorder that waited for itself would use up the deadline, which is longer than the test's patience.
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

/// The standard error of a process without callbacks for losses: this test, run again.
fn heard(quiet: bool) -> String {
    let name = "bounds::losses_that_no_callback_hears_are_told_once_on_standard_error";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("TALLYD_TEST_LOSES", if quiet { "quiet" } else { "told" })
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    said.lines().filter(|line| line.starts_with("tallyd: ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn losses_that_no_callback_hears_are_told_once_on_standard_error() {
    if let Ok(how) = std::env::var("TALLYD_TEST_LOSES") {
        let (_dir, path) = socket();
        let mut builder = builder(&path).ring_capacity(2).window_bytes(1);
        if how == "quiet" {
            builder = builder.quiet();
        }
        let recorder = builder.build();
        until("a failed connection", || recorder.stats().last_error.is_some());
        until("a full ring", || !recorder.record(Record::claude("m", 1, 0)));
        (0..9).for_each(|_| assert!(!recorder.record(Record::claude("m", 1, 0))));
        let _ = recorder.close(Duration::from_millis(10));
        return;
    }
    let said = heard(false);
    for part in ["no connection to unix:", "a record was not kept", "were not delivered before the end"] {
        assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
    }
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(heard(true), "");
}
