//! The recorder's promises, against a daemon with scripted faults.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use support::{State, id_and_number};
use tallyd_client::{Builder, Endpoint, Record, Recorder};

mod bounds;
mod call;
mod delivery;
mod off;
mod spool;
#[path = "../support/mod.rs"]
mod support;

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

/// Asserts that every record up to `count` arrived once and in order, with numbers that rise by one and distinct ids.
fn assert_complete(state: &State, count: u64) {
    state.with(|kept| {
        let seqs: Vec<u64> = kept.records.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=count).collect::<Vec<_>>());
        let (ids, numbers): (HashSet<_>, Vec<_>) = kept.records.iter().map(|(_, record)| id_and_number(record)).unzip();
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
        assert_eq!(ids.len() as u64, count);
    });
}
