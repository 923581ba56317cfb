//! Recovery after damage, kills and orderly stops, case by case.

use std::path::Path;
use std::sync::Arc;

use super::append::{Appender, Durability};
use super::model_test::{LANES, copy_folder, open, open_with, window_of};
use super::reader::Appetite;
use super::segment::SegmentPaths;
use super::store::{Engine, alter};
use super::wal::Wal;
use super::window::IdentityWindow;
use crate::chunk::{Bundle, Chunk};
use crate::identity::ProducerIdentity;

fn commit(appender: &mut Appender, chunk: Chunk) {
    appender.append(chunk, &ProducerIdentity::without_secret("p"), 0).unwrap();
    appender.commit(Durability::Disk).unwrap();
}

/// Commits chunks of one value each, and returns the folder's first segment.
fn filled(folder: &Path, chunks: u64) -> SegmentPaths {
    let (_log, mut appender, _) = open(folder);
    for seq in 1..=chunks {
        commit(&mut appender, Chunk::of_bytes(seq, vec![seq as u8; 3_000]));
    }
    SegmentPaths::new(folder, 1)
}

fn reopened(folder: &Path) -> (Arc<Wal>, u64, u64) {
    let (wal, _appender, producers) = open(folder);
    let appetite = Appetite { records: usize::MAX, bytes: usize::MAX, chunks: usize::MAX, held: 2_000 };
    let chunks = (0..LANES).map(|lane| wal.collect(lane, 0, appetite).unwrap().chunks.len() as u64).sum();
    (wal, chunks, producers.last_seq(&ProducerIdentity::without_secret("p")))
}

#[test]
fn a_store_that_opens_empty_is_damage_and_its_keys_are_never_used_again() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let paths = filled(&folder, 40);
    std::fs::remove_dir_all(&paths.store).unwrap();
    drop(Engine::Sled.create(&paths.store).unwrap());
    let (wal, chunks, _) = reopened(&folder);
    assert!(wal.is_damaged());
    assert_eq!(chunks, 0);
    assert!(wal.durable_key() > super::wal::DAMAGE_LEAP);
    assert_eq!(std::fs::read_dir(folder.join("damaged")).unwrap().count(), 1, "the store is kept");
}

#[test]
fn a_hole_that_a_later_value_knows_to_be_synced_is_damage_and_the_rest_loads() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let paths = filled(&folder, 40);
    alter(&paths.store, 7, None);
    let (wal, chunks, last_seq) = reopened(&folder);
    assert!(wal.is_damaged());
    assert_eq!((chunks, last_seq), (39, 40));
}

#[test]
fn a_hole_that_nobody_claims_ends_the_log() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let (wal, mut appender, _) = open(&folder);
    for seq in 1..=9 {
        let chunk = Chunk::of_bytes(seq, vec![seq as u8; 100]);
        appender.append(chunk, &ProducerIdentity::without_secret("p"), 0).unwrap();
        if seq == 5 {
            appender.commit(Durability::Disk).unwrap();
        }
    }
    drop(appender);
    drop(wal);
    let paths = SegmentPaths::new(&folder, 1);
    alter(&paths.store, 7, None);
    let (wal, chunks, last_seq) = reopened(&folder);
    assert!(!wal.is_damaged());
    assert_eq!((chunks, last_seq, wal.durable_key()), (6, 6, 6), "5 were synced, 6 reached the disk all the same");
}

#[test]
fn a_bundle_that_is_not_whole_was_never_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    filled(&folder, 5);
    let (wal, mut appender, _) = open(&folder);
    let chunk = |first_seq, last_seq| Chunk { last_seq, ..Chunk::of_bytes(first_seq, vec![first_seq as u8; 100]) };
    // Each chunk has numbers between the other's.
    let bundle = Bundle { chunks: vec![(Some(1), chunk(6, 9)), (Some(0), chunk(7, 8))] };
    assert_eq!(appender.append(bundle, &ProducerIdentity::without_secret("p"), 0).unwrap(), 2);
    drop((appender, wal));
    alter(&SegmentPaths::new(&folder, 6).store, 7, None);
    let (wal, chunks, last_seq) = reopened(&folder);
    assert!(!wal.is_damaged());
    assert_eq!((chunks, last_seq, wal.durable_key()), (5, 5, 5), "or 7 and 8 would be lost, or 6 and 9 be there twice");
}

#[test]
fn a_flipped_bit_is_found_set_aside_and_the_rest_loads() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let paths = filled(&folder, 40);
    let (wal, _, _) = reopened(&folder);
    drop(wal);
    let mut value = Engine::Sled.read(&paths.store, |store| store.get(7)).unwrap().unwrap();
    value[500] ^= 1;
    alter(&paths.store, 7, Some(&value));
    // With a newer segment, the first one is sealed and trusted.
    let (wal, mut appender, _) = open(&folder);
    commit(&mut appender, Chunk::of_bytes(41, vec![1]));
    let appetite = Appetite { records: usize::MAX, bytes: usize::MAX, chunks: usize::MAX, held: 2_000 };
    let runs: Vec<_> = (0..LANES).map(|lane| wal.collect(lane, 0, appetite).unwrap()).collect();
    assert_eq!(runs.iter().map(|run| run.chunks.len()).sum::<usize>(), 40);
    wal.trim(&[1_000, 1_000], &[0, 0], 5).unwrap();
    assert!(wal.is_damaged());
    assert!(!paths.store.exists());
    assert_eq!(std::fs::read_dir(folder.join("damaged")).unwrap().count(), 1, "the store is kept");
}

#[test]
fn a_kill_while_the_next_segment_is_made_keeps_the_producers_marks() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    filled(&folder, 40);
    // A start seals the first segment and makes the next one, whose last step is its `.open` file.
    drop(open(&folder));
    std::fs::remove_file(SegmentPaths::new(&folder, 41).opening).unwrap();
    let (wal, chunks, last_seq) = reopened(&folder);
    assert!(!wal.is_damaged());
    assert_eq!((chunks, last_seq), (40, 40));
}

#[test]
fn lanes_that_meet_at_a_sealed_segment_share_its_store() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    filled(&folder, 40);
    let (wal, _appender, _) = open(&folder);
    let at_once = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                at_once.wait();
                assert!(wal.open_store(1).unwrap().is_some());
            });
        }
    });
}

/// A lane also passes segments without chunks of its own, and may open a store that is about to be deleted. A named
/// pipe in place of the store's file stops the lane where it opens that file.
#[test]
fn a_segment_is_not_deleted_while_a_lane_opens_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let (wal, mut appender, _) = open_with(Engine::PlainFile, &folder);
    commit(&mut appender, Chunk::of_bytes(1, vec![1]));
    drop((wal, appender));
    let (wal, _appender, _) = open_with(Engine::PlainFile, &folder);
    assert_eq!(wal.segment_count(), 2);
    let (paths, wal) = (SegmentPaths::new(&folder, 1), &*wal);
    let file = paths.store.join("frames");
    std::fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
    std::thread::scope(|scope| {
        let lane = scope.spawn(|| wal.open_store(1));
        // Returns once the lane has opened the other end, which waits until this end closes.
        let held = std::fs::File::options().write(true).open(&file).unwrap();
        let trimming = scope.spawn(|| wal.trim(&[1_000, 1_000], &[0, 0], 0));
        while wal.segment_count() > 1 && !trimming.is_finished() {
            std::thread::yield_now();
        }
        // Long enough for a deletion that does not wait; one that waits is not seen.
        let start = std::time::Instant::now();
        while paths.store.exists() && start.elapsed() < std::time::Duration::from_millis(300) {
            std::thread::yield_now();
        }
        let was_there = paths.store.exists();
        drop(held);
        assert!(lane.join().unwrap().is_ok_and(|store| store.is_some()));
        assert!(was_there, "it was deleted while the lane opened it");
        trimming.join().unwrap().unwrap();
    });
    assert!(!paths.store.exists());
}

#[test]
fn a_lane_that_goes_back_keeps_the_segment_that_it_reads_open() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    filled(&folder, 40);
    // Each start seals the segments of the start before.
    for seq in 41..=43 {
        let (_log, mut appender, _) = open(&folder);
        commit(&mut appender, Chunk::of_bytes(seq, vec![1]));
    }
    let (wal, _appender, _) = open(&folder);
    let read = |key: u64| {
        let segment = wal.segment_at_or_after(key).unwrap();
        (segment.store.is_some(), wal.open_store(segment.first_key).unwrap().unwrap())
    };
    // One lane reads ahead, the other returns to the oldest, which would be closed first by age alone.
    for key in [41, 42, 1] {
        assert!(!read(key).0, "{key} is read for the first time");
    }
    assert!(read(1).0 && read(42).0, "the two that were used last");
    assert!(!read(41).0, "a third one was let go");
    assert!(read(42).0 && !read(1).0, "and now it is the oldest that was");
}

#[test]
fn an_orderly_end_with_everything_loaded_keeps_the_producers_marks() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    filled(&folder, 40);
    let (wal, mut appender, _) = open(&folder);
    commit(&mut appender, Chunk::of_bytes(41, vec![1]));
    appender.seal(&mut window_of(&folder), 0).unwrap();
    wal.trim(&[41, 41], &[33, 41], 0).unwrap();
    assert_eq!(wal.segment_count(), 1, "the older one is gone");
    drop((wal, appender));
    let (wal, _appender, producers) = open(&folder);
    assert_eq!(producers.last_seq(&ProducerIdentity::without_secret("p")), 41);
    assert_eq!(wal.committed_at_start(), [33, 41], "no more is expected of the database than it has been told");
}

/// A chunk of calls with these stated ids, with long metadata if it should take several values.
fn stated(ids: &[u8], seq: u64, metadata: &str) -> Chunk {
    use crate::chunk::ChunkBuilder;
    use tallyd_model::call::{Call, Stated};
    let mut builder = ChunkBuilder::new();
    for id in ids {
        let call = Call {
            id: [*id; 16],
            occurred_at_us: 1,
            provider: "rentcast",
            metadata,
            stated: Stated { id: true, response: false },
            ..Call::default()
        };
        assert!(builder.push_call(seq, &call).is_none());
    }
    builder.finish().unwrap()
}

#[test]
fn a_kill_keeps_the_keys_of_what_was_committed_and_of_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let (folder, copy) = (root.path().join("0"), root.path().join("1"));
    let (_log, mut appender, producers) = open(&folder);
    let mut window = window_of(&folder);
    let producer = ProducerIdentity::without_secret("p");
    let long = format!(r#"{{"k":"{}"}}"#, "x".repeat(20_000));
    let mut seq = 0;
    let mut append = |appender: &mut Appender, window: &mut IdentityWindow, ids: &[u8], metadata: &str| {
        seq += 1;
        let mut chunk = stated(ids, seq, metadata);
        let known = window.deduplicate(&mut chunk, 5).unwrap();
        appender.append(chunk, &producer, 5).unwrap();
        known
    };
    assert_eq!(append(&mut appender, &mut window, &[1, 2, 1], ""), 1);
    appender.commit(Durability::Disk).unwrap();
    let mut snapshot = producers;
    appender.rotate(snapshot.snapshot(0), &mut window, 5).unwrap();
    assert_eq!(append(&mut appender, &mut window, &[2, 3], ""), 1);
    assert_eq!(append(&mut appender, &mut window, &[4], &long), 0);
    assert_eq!(append(&mut appender, &mut window, &[1, 2, 3], ""), 3, "a chunk of nothing but its numbers");
    appender.commit(Durability::Disk).unwrap();
    copy_folder(&folder, &copy);
    // Appended after the copy, which stands for the kill: it is missing.
    assert_eq!(append(&mut appender, &mut window, &[5], ""), 0);

    for _ in 0..2 {
        let (wal, appender, producers) = open(&copy);
        assert_eq!(
            producers.last_seq(&ProducerIdentity::without_secret("p")),
            4,
            "the chunk without calls moves the mark"
        );
        assert_eq!(wal.unflushed_records(), 4);
        let mut window = window_of(&copy);
        for (id, known) in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 0)] {
            assert_eq!(window.deduplicate(&mut stated(&[id], 1, ""), 6).unwrap(), known, "id {id}");
        }
        drop(appender);
    }
}
