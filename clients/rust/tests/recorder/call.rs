//! A call is recorded however it ends, with its latency and its status.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rmp_serde::from_slice;
use tallyd_client::{Call, FlushOutcome, Record, Recorder};
use tallyd_protocol::scan;

use crate::support::{Daemon, PATIENCE};
use crate::{builder, socket};

/// Provider, endpoint, output tokens, requests, status and latency of each record, as the daemon has it.
type Row = (String, String, u64, u64, u16, Option<u32>);

/// The encoded fields of a record's array form.
fn fields(record: &[u8]) -> Vec<&[u8]> {
    let mut rest = record;
    let count = rmp::decode::read_array_len(&mut rest).unwrap();
    let fields = (0..count).map(|_| {
        let (field, after) = rest.split_at(scan::value_bytes(rest).unwrap());
        rest = after;
        field
    });
    fields.collect()
}

fn rows(daemon: &Daemon, recorder: &Recorder) -> Vec<Row> {
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    daemon.state.with(|kept| {
        let rows = kept.records.iter().map(|(_, record)| {
            let fields = fields(record);
            let text = |at: usize| from_slice::<String>(fields[at]).unwrap();
            let number = |at: usize| from_slice::<u64>(fields[at]).unwrap();
            let status = from_slice(fields[16]).unwrap();
            (text(2), text(4), number(9), number(13), status, from_slice(fields[17]).unwrap())
        });
        rows.collect()
    })
}

#[test]
fn answered_failed_left_and_taken_back() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    let recorder = builder(&path).build();

    let mut call = Call::begin(&recorder, Record::rentcast("/answered"));
    call.answered(200);
    call.change(|record| record.latency_ms = Some(7));
    assert!(call.end());
    let mut call = Call::begin(&recorder, Record::rentcast("/failed"));
    call.answered(529);
    drop(call);
    drop(Call::begin(&recorder, Record::rentcast("/left")));
    Call::begin(&recorder, Record::rentcast("/taken back")).forget();
    let mut call = Call::begin(&recorder, Record { endpoint: "/used".into(), ..Record::default() });
    call.used(Record::claude("m", 10, 20));
    call.answered(200);
    drop(call);

    let rows = rows(&daemon, &recorder);
    let told: Vec<_> = rows.iter().map(|row| (row.0.as_str(), row.1.as_str(), row.2, row.3, row.4)).collect();
    let expected = [
        ("rentcast", "/answered", 0, 1, 200),
        ("rentcast", "/failed", 0, 0, 529),
        ("rentcast", "/left", 0, 1, 499),
        ("claude", "/used", 20, 1, 200),
    ];
    assert_eq!(told, expected);
    assert_eq!(rows[0].5, Some(7), "a latency that was told stays");
    assert!(rows.iter().all(|row| row.5.is_some()), "{rows:?}");
}

#[test]
fn a_panic_and_another_thread_record_too() {
    let (_dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    let recorder = Arc::new(builder(&path).build());
    let panics = || {
        let _call = Call::begin(&*recorder, Record::rentcast("/panic"));
        panic!("the application fails");
    };
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    let shared = Arc::clone(&recorder);
    let thread = std::thread::spawn(move || Call::begin(shared, Record::rentcast("/thread")).answered(200));
    thread.join().unwrap();
    let told: Vec<_> = rows(&daemon, &recorder).into_iter().map(|row| (row.1, row.4)).collect();
    assert_eq!(told, [("/panic".to_owned(), 499), ("/thread".to_owned(), 200)]);
}
