//! The log against a model: random appends, commits, rotations, loads, trims, reopenings and kills.
//!
//! A kill is a copy of the folder as it is on disk at that moment, opened in place of the log. Whatever had been
//! committed by then must come back, in order and unchanged; what had not may be missing, but only from the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::append::{Appender, Durability};
use super::files;
use super::lanes::Lanes;
use super::log::Log;
use super::producers::Producers;
use super::reader::{Appetite, Run};
use super::recovery::{Recovery, recover};
use super::segment::SegmentPaths;
use super::store::{Engine, alter};
use super::value::parts_of;
use super::window::{self, Window};
use crate::channel::Origin;
use crate::chunk::{Bundle, Chunk, Columns};
use crate::identity::Identity;

const LANES: u16 = 2;
const RECENT_BYTES: usize = 40_000;

#[derive(Debug, Clone)]
enum Operation {
    /// Appends bundles of chunks with payloads of these sizes.
    Append(Vec<Vec<usize>>),
    Commit,
    Rotate,
    /// A lane loads at most this many chunks.
    Load(u16, usize),
    Trim,
    /// A clean stop and a start.
    Reopen,
    Kill,
}

fn operation() -> impl Strategy<Value = Operation> {
    let bytes = prop_oneof![4 => 0..200usize, 2 => 6_000..7_000usize, 1 => 7_000..25_000usize];
    prop_oneof![
        6 => prop::collection::vec(prop::collection::vec(bytes, 1..4), 1..6).prop_map(Operation::Append),
        5 => Just(Operation::Commit),
        2 => Just(Operation::Rotate),
        4 => (0..LANES, 1..40usize).prop_map(|(lane, chunks)| Operation::Load(lane, chunks)),
        3 => Just(Operation::Trim),
        1 => Just(Operation::Reopen),
        2 => Just(Operation::Kill),
    ]
}

/// What a chunk must be when it is read, and the last key of its bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    last_key: u64,
    lane: u16,
    seq: u64,
    payload: Vec<u8>,
    bundle_end: u64,
}

struct Machine {
    engine: Engine,
    root: tempfile::TempDir,
    folder: PathBuf,
    folders: u32,
    producer: Identity,
    log: Arc<Log>,
    appender: Appender,
    producers: Producers,
    window: Window,
    seq: u64,
    /// Chunks that are committed and not loaded yet, by first key.
    committed: BTreeMap<u64, Expected>,
    uncommitted: BTreeMap<u64, Expected>,
    loaded: [u64; LANES as usize],
}

impl Machine {
    fn new(engine: Engine, root: tempfile::TempDir) -> Self {
        let folder = root.path().join("0");
        let (log, appender, producers) = open_with(engine, &folder);
        let window = window_of(&folder);
        Self {
            engine,
            root,
            folder,
            folders: 0,
            producer: Identity::without_secret("p"),
            log,
            appender,
            producers,
            window,
            seq: 0,
            committed: BTreeMap::new(),
            uncommitted: BTreeMap::new(),
            loaded: [0; LANES as usize],
        }
    }

    fn run_all(mut self, operations: &[Operation]) {
        for operation in operations {
            self.run(operation);
        }
        self.commit();
        self.reopen(None);
    }

    fn run(&mut self, operation: &Operation) {
        match operation {
            Operation::Append(bundles) => bundles.iter().for_each(|sizes| self.append(sizes)),
            Operation::Commit => self.commit(),
            Operation::Rotate => {
                self.commit();
                if self.appender.segment_bytes() > 0 {
                    let snapshot = self.producers.snapshot(0);
                    self.appender.rotate(snapshot, &mut self.window, 0).unwrap();
                }
            }
            Operation::Load(lane, chunks) => self.load(*lane, *chunks),
            Operation::Trim => self.log.trim(&self.loaded, &self.loaded, 0).unwrap(),
            Operation::Reopen => {
                self.commit();
                self.appender.seal(&mut self.window, 0).unwrap();
                self.reopen(None);
            }
            Operation::Kill => {
                self.folders += 1;
                let copy = self.root.path().join(self.folders.to_string());
                copy_folder(&self.folder, &copy);
                self.reopen(Some(copy));
            }
        }
    }

    fn append(&mut self, sizes: &[usize]) {
        let mut bundle = Bundle { chunks: Vec::new() };
        let mut expected = BTreeMap::new();
        let mut first_key = self.appender.last_key() + 1;
        let (seqs, waiting) = (self.seq + 1..=self.seq + sizes.len() as u64, self.log.unflushed_records());
        self.seq = *seqs.end();
        for (bytes, seq) in sizes.iter().zip(seqs) {
            let payload: Vec<u8> = (0..*bytes).map(|at| (at as u64 * 31 + seq) as u8).collect();
            let share = (bytes % 3).checked_sub(1).map(|lane| lane as u16);
            let lane = Lanes(LANES).for_chunk(share, first_key, waiting);
            let last_key = first_key + parts_of(*bytes, &self.producer.name) as u64 - 1;
            let of_chunk = Expected { last_key, lane, seq, payload: payload.clone(), bundle_end: 0 };
            expected.insert(first_key, of_chunk);
            first_key = last_key + 1;
            let chunk = Chunk {
                payload,
                records: 1,
                refused: 0,
                first_seq: seq,
                last_seq: seq,
                min_us: seq as i64,
                max_us: 0,
                columns: Columns::NONE,
                claims: Default::default(),
            };
            bundle.chunks.push((share, chunk));
        }
        let origin = Origin::new(self.producer.clone());
        self.producers.open_session(&origin, None, 0);
        assert_eq!(self.producers.advance(&origin, self.seq, 0), Ok(()));
        self.appender.append(bundle, &self.producer, self.seq as i64).unwrap();
        let bundle_end = self.appender.last_key();
        assert_eq!(bundle_end, first_key - 1);
        self.uncommitted.extend(expected.into_iter().map(|(key, expected)| (key, Expected { bundle_end, ..expected })));
    }

    fn commit(&mut self) {
        self.appender.commit(Durability::Disk).unwrap();
        self.committed.append(&mut self.uncommitted);
    }

    fn pending(&self, lane: u16) -> Vec<(u64, Expected)> {
        let of_lane = self.committed.iter().filter(|(_, expected)| expected.lane == lane);
        of_lane.map(|(key, expected)| (*key, expected.clone())).collect()
    }

    fn collect(&self, lane: u16, chunks: usize) -> Run {
        let appetite = Appetite { records: usize::MAX, bytes: usize::MAX, chunks, held: 2_000 };
        let run = self.log.collect(lane, self.loaded[usize::from(lane)], appetite).unwrap();
        assert_eq!(run.damaged_values, 0);
        run
    }

    fn load(&mut self, lane: u16, chunks: usize) {
        let expected: Vec<_> = self.pending(lane).into_iter().take(chunks).collect();
        let run = self.collect(lane, chunks);
        assert_eq!(read(&self.log, &run), chunks_of(&expected));
        assert!(expected.is_empty() || run.scanned >= expected.last().unwrap().1.last_key);
        if let Some(last_key) = run.last_key() {
            self.loaded[usize::from(lane)] = last_key;
            self.log.count_flushed(run.records as u64);
        }
        for (key, _) in expected {
            self.committed.remove(&key);
        }
    }

    /// Opens the folder anew, or a copy of it; checks that all that was committed is there.
    fn reopen(&mut self, copy: Option<PathBuf>) {
        let killed = copy.is_some();
        if let Some(copy) = copy {
            self.folder = copy;
        }
        let spare = self.root.path().join("spare");
        let (log, appender, _) = open_with(self.engine, &spare);
        self.log = log;
        self.appender = appender;
        (self.log, self.appender, self.producers) = open_with(self.engine, &self.folder);
        self.window = window_of(&self.folder);
        std::fs::remove_dir_all(&spare).unwrap();
        assert!(!self.log.is_damaged());
        // What was on its way to the disk when the copy was made may or may not be there, from its beginning.
        let survivors = self.log.durable_key();
        let survived: BTreeMap<_, _> =
            std::mem::take(&mut self.uncommitted).into_iter().filter(|(key, _)| *key <= survivors).collect();
        assert!(killed || survived.is_empty());
        assert!(survived.values().all(|expected| expected.bundle_end <= survivors), "a bundle comes back whole or not");
        self.committed.extend(survived);
        for lane in 0..LANES {
            let (found, pending) = (read(&self.log, &self.collect(lane, usize::MAX)), self.pending(lane));
            assert_eq!(found, chunks_of(&pending), "lane {lane}");
        }
        let last_seq = self.committed.values().map(|expected| expected.seq).max();
        assert!(last_seq.is_none_or(|seq| self.producers.last_seq(&self.producer) >= seq));
        self.seq = self.seq.max(self.producers.last_seq(&self.producer));
    }
}

/// First and last key, lane, sequence number, payload.
type Found = (u64, u64, u16, u64, Vec<u8>);

fn read(log: &Log, run: &Run) -> Vec<Found> {
    let chunks = run.chunks.iter().map(|chunk| {
        assert_eq!(&*chunk.producer, "p");
        let payload = log.payload(chunk).unwrap().into_owned();
        (chunk.first_key, chunk.last_key, chunk.lane, chunk.min_us as u64, payload)
    });
    chunks.collect()
}

fn chunks_of(expected: &[(u64, Expected)]) -> Vec<Found> {
    let found = |(key, of): &(u64, Expected)| (*key, of.last_key, of.lane, of.seq, of.payload.clone());
    expected.iter().map(found).collect()
}

fn window_of(folder: &Path) -> Window {
    let bounds = window::Bounds { span: std::time::Duration::from_secs(60), max: 1_000 };
    Window::open(folder, bounds, 0).unwrap()
}

fn open(folder: &Path) -> (Arc<Log>, Appender, Producers) {
    open_with(Engine::Sled, folder)
}

fn open_with(engine: Engine, folder: &Path) -> (Arc<Log>, Appender, Producers) {
    let mut producers = Producers::new(100, i64::MAX, std::time::Duration::ZERO);
    let recovery = Recovery { folder, engine, new_buffer_id: Uuid::from_u128(7), now_us: 0, may_lose_committed: false };
    let (recovered, mark) = recover(&recovery, &mut producers).unwrap();
    let log = Log::new(folder, &recovered, RECENT_BYTES);
    let snapshot = producers.snapshot(0);
    let appender = Appender::new(Arc::clone(&log), mark, recovered.next_key, LANES, snapshot).unwrap();
    (log, appender, producers)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            // A sealed store that is closing may take a file of its own away meanwhile.
            match std::fs::copy(entry.path(), target) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// The log's own part, on a store that costs little.
    #[test]
    fn what_was_committed_comes_back_in_order(operations in prop::collection::vec(operation(), 1..40)) {
        Machine::new(Engine::PlainFile, files::folder_in_memory()).run_all(&operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_was_committed_comes_back_in_order_from_sled(operations in prop::collection::vec(operation(), 1..40)) {
        Machine::new(Engine::Sled, tempfile::tempdir().unwrap()).run_all(&operations);
    }
}

/// Commits chunks of one value each, and returns the folder's first segment.
fn filled(folder: &Path, chunks: u64) -> SegmentPaths {
    let (_log, mut appender, _) = open(folder);
    for seq in 1..=chunks {
        let chunk = Chunk {
            payload: vec![seq as u8; 3_000],
            records: 1,
            refused: 0,
            first_seq: seq,
            last_seq: seq,
            min_us: 0,
            max_us: 0,
            columns: Columns::NONE,
            claims: Default::default(),
        };
        appender.append(chunk, &Identity::without_secret("p"), 0).unwrap();
        appender.commit(Durability::Disk).unwrap();
    }
    SegmentPaths::new(folder, 1)
}

fn reopened(folder: &Path) -> (Arc<Log>, u64, u64) {
    let (log, _appender, producers) = open(folder);
    let appetite = Appetite { records: usize::MAX, bytes: usize::MAX, chunks: usize::MAX, held: 2_000 };
    let chunks = (0..LANES).map(|lane| log.collect(lane, 0, appetite).unwrap().chunks.len() as u64).sum();
    (log, chunks, producers.last_seq(&Identity::without_secret("p")))
}

#[test]
fn a_store_that_opens_empty_is_damage_and_its_keys_are_never_used_again() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let paths = filled(&folder, 40);
    std::fs::remove_dir_all(&paths.store).unwrap();
    drop(Engine::Sled.create(&paths.store).unwrap());
    let (log, chunks, _) = reopened(&folder);
    assert!(log.is_damaged());
    assert_eq!(chunks, 0);
    assert!(log.durable_key() > super::log::DAMAGE_LEAP);
    assert_eq!(std::fs::read_dir(folder.join("damaged")).unwrap().count(), 1, "the store is kept");
}

#[test]
fn a_hole_that_a_later_value_knows_to_be_synced_is_damage_and_the_rest_loads() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let paths = filled(&folder, 40);
    alter(&paths.store, 7, None);
    let (log, chunks, last_seq) = reopened(&folder);
    assert!(log.is_damaged());
    assert_eq!((chunks, last_seq), (39, 40));
}

#[test]
fn a_hole_that_nobody_claims_ends_the_log() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let (log, mut appender, _) = open(&folder);
    for seq in 1..=9 {
        let payload = vec![seq as u8; 100];
        let chunk = Chunk {
            payload,
            records: 1,
            refused: 0,
            first_seq: seq,
            last_seq: seq,
            min_us: 0,
            max_us: 0,
            columns: Columns::NONE,
            claims: Default::default(),
        };
        appender.append(chunk, &Identity::without_secret("p"), 0).unwrap();
        if seq == 5 {
            appender.commit(Durability::Disk).unwrap();
        }
    }
    drop(appender);
    drop(log);
    let paths = SegmentPaths::new(&folder, 1);
    alter(&paths.store, 7, None);
    let (log, chunks, last_seq) = reopened(&folder);
    assert!(!log.is_damaged());
    assert_eq!((chunks, last_seq, log.durable_key()), (6, 6, 6), "5 were synced, 6 reached the disk all the same");
}

#[test]
fn a_bundle_that_is_not_whole_was_never_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    filled(&folder, 5);
    let (log, mut appender, _) = open(&folder);
    let chunk = |first_seq, last_seq| {
        let (payload, columns) = (vec![first_seq as u8; 100], Columns::NONE);
        Chunk {
            payload,
            records: 1,
            refused: 0,
            first_seq,
            last_seq,
            min_us: 0,
            max_us: 0,
            columns,
            claims: Default::default(),
        }
    };
    // Numbers of each are between the other's.
    let bundle = Bundle { chunks: vec![(Some(1), chunk(6, 9)), (Some(0), chunk(7, 8))] };
    assert_eq!(appender.append(bundle, &Identity::without_secret("p"), 0).unwrap(), 2);
    drop((appender, log));
    alter(&SegmentPaths::new(&folder, 6).store, 7, None);
    let (log, chunks, last_seq) = reopened(&folder);
    assert!(!log.is_damaged());
    assert_eq!((chunks, last_seq, log.durable_key()), (5, 5, 5), "or 7 and 8 would be lost, or 6 and 9 be there twice");
}

#[test]
fn a_flipped_bit_is_found_set_aside_and_the_rest_loads() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    let paths = filled(&folder, 40);
    let (log, _, _) = reopened(&folder);
    drop(log);
    let mut value = Engine::Sled.look(&paths.store, |store| store.get(7)).unwrap().unwrap();
    value[500] ^= 1;
    alter(&paths.store, 7, Some(&value));
    // A newer segment makes the first one a sealed one that is taken at its word.
    let (log, mut appender, _) = open(&folder);
    let chunk = Chunk {
        payload: vec![1],
        records: 1,
        refused: 0,
        first_seq: 41,
        last_seq: 41,
        min_us: 0,
        max_us: 0,
        columns: Columns::NONE,
        claims: Default::default(),
    };
    appender.append(chunk, &Identity::without_secret("p"), 0).unwrap();
    appender.commit(Durability::Disk).unwrap();
    let appetite = Appetite { records: usize::MAX, bytes: usize::MAX, chunks: usize::MAX, held: 2_000 };
    let runs: Vec<_> = (0..LANES).map(|lane| log.collect(lane, 0, appetite).unwrap()).collect();
    assert_eq!(runs.iter().map(|run| run.chunks.len()).sum::<usize>(), 40);
    log.trim(&[1_000, 1_000], &[0, 0], 5).unwrap();
    assert!(log.is_damaged());
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
    let (log, chunks, last_seq) = reopened(&folder);
    assert!(!log.is_damaged());
    assert_eq!((chunks, last_seq), (40, 40));
}

#[test]
fn lanes_that_meet_at_a_sealed_segment_share_its_store() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    filled(&folder, 40);
    let (log, _appender, _) = open(&folder);
    let at_once = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                at_once.wait();
                assert!(log.open_store(1).unwrap().is_some());
            });
        }
    });
}

#[test]
fn a_lane_that_goes_back_keeps_the_segment_that_it_reads_open() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    filled(&folder, 40);
    // Each start seals what it finds.
    for seq in 41..=43 {
        let (_log, mut appender, _) = open(&folder);
        let (payload, columns) = (vec![1], Columns::NONE);
        let chunk = Chunk {
            payload,
            records: 1,
            refused: 0,
            first_seq: seq,
            last_seq: seq,
            min_us: 0,
            max_us: 0,
            columns,
            claims: Default::default(),
        };
        appender.append(chunk, &Identity::without_secret("p"), 0).unwrap();
        appender.commit(Durability::Disk).unwrap();
    }
    let (log, _appender, _) = open(&folder);
    let read = |key: u64| {
        let segment = log.segment_at_or_after(key).unwrap();
        (segment.store.is_some(), log.open_store(segment.first_key).unwrap().unwrap())
    };
    // One lane reads ahead, the other goes back to the oldest, which is the first to be let go by its age alone.
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
    let (log, mut appender, _) = open(&folder);
    let chunk = Chunk {
        payload: vec![1],
        records: 1,
        refused: 0,
        first_seq: 41,
        last_seq: 41,
        min_us: 0,
        max_us: 0,
        columns: Columns::NONE,
        claims: Default::default(),
    };
    appender.append(chunk, &Identity::without_secret("p"), 0).unwrap();
    appender.commit(Durability::Disk).unwrap();
    appender.seal(&mut window_of(&folder), 0).unwrap();
    log.trim(&[41, 41], &[33, 41], 0).unwrap();
    assert_eq!(log.segment_count(), 1, "the older one is gone");
    drop((log, appender));
    let (log, _appender, producers) = open(&folder);
    assert_eq!(producers.last_seq(&Identity::without_secret("p")), 41);
    assert_eq!(log.committed_at_start(), [33, 41], "no more is expected of the database than it has been told");
}

/// A chunk of calls with these ids, stated, with long metadata if it is to take several values.
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
    let producer = Identity::without_secret("p");
    let long = format!(r#"{{"k":"{}"}}"#, "x".repeat(20_000));
    let mut seq = 0;
    let mut append = |appender: &mut Appender, window: &mut Window, ids: &[u8], metadata: &str| {
        seq += 1;
        let mut chunk = stated(ids, seq, metadata);
        let known = window.settle(&mut chunk, 5).unwrap();
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
    // After the copy, and so after the kill: it is not there.
    assert_eq!(append(&mut appender, &mut window, &[5], ""), 0);

    for _ in 0..2 {
        let (log, appender, producers) = open(&copy);
        assert_eq!(producers.last_seq(&Identity::without_secret("p")), 4, "the chunk without calls moves the mark");
        assert_eq!(log.unflushed_records(), 4);
        let mut window = window_of(&copy);
        for (id, known) in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 0)] {
            assert_eq!(window.settle(&mut stated(&[id], 1, ""), 6).unwrap(), known, "id {id}");
        }
        drop(appender);
    }
}
