//! The WAL against a model: random appends, commits, rotations, loads, trims, reopenings and kills.
//!
//! A kill is a copy of the folder's present state on disk, opened in place of the WAL. Committed values must come back,
//! in order and unchanged. Others may be missing, but only from the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::append::{Appender, Durability};
use super::files;
use super::lanes::Lanes;
use super::producers::Producers;
use super::reader::{Appetite, Run};
use super::recovery::{Recovery, recover};
use super::store::Engine;
use super::value::parts_of;
use super::wal::Wal;
use super::window::{self, IdentityWindow};
use crate::channel::ConnectionOrigin;
use crate::chunk::{Bundle, Chunk};
use crate::identity::ProducerIdentity;

pub(super) const LANES: u16 = 2;
pub(super) const RECENT_BYTES: usize = 40_000;

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

/// The expected chunk, and the last key of its bundle.
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
    producer: ProducerIdentity,
    wal: Arc<Wal>,
    appender: Appender,
    producers: Producers,
    window: IdentityWindow,
    seq: u64,
    /// Chunks that are committed and not loaded yet, by first key.
    committed: BTreeMap<u64, Expected>,
    uncommitted: BTreeMap<u64, Expected>,
    loaded: [u64; LANES as usize],
}

impl Machine {
    fn new(engine: Engine, root: tempfile::TempDir) -> Self {
        let folder = root.path().join("0");
        let (wal, appender, producers) = open_with(engine, &folder);
        let window = window_of(&folder);
        Self {
            engine,
            root,
            folder,
            folders: 0,
            producer: ProducerIdentity::without_secret("p"),
            wal,
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
            Operation::Trim => self.wal.trim(&self.loaded, &self.loaded, 0).unwrap(),
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
        let (seqs, waiting) = (self.seq + 1..=self.seq + sizes.len() as u64, self.wal.unflushed_records());
        self.seq = *seqs.end();
        for (bytes, seq) in sizes.iter().zip(seqs) {
            let payload: Vec<u8> = (0..*bytes).map(|at| (at as u64 * 31 + seq) as u8).collect();
            let hint = (bytes % 3).checked_sub(1).map(|lane| lane as u16);
            let lane = Lanes(LANES).for_chunk(hint, first_key, waiting);
            let last_key = first_key + parts_of(*bytes, &self.producer.name) as u64 - 1;
            let of_chunk = Expected { last_key, lane, seq, payload: payload.clone(), bundle_end: 0 };
            expected.insert(first_key, of_chunk);
            first_key = last_key + 1;
            let chunk = Chunk { min_us: seq as i64, ..Chunk::of_bytes(seq, payload) };
            bundle.chunks.push((hint, chunk));
        }
        let origin = ConnectionOrigin::new(self.producer.clone());
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
        let run = self.wal.collect(lane, self.loaded[usize::from(lane)], appetite).unwrap();
        assert_eq!(run.damaged_values, 0);
        run
    }

    fn load(&mut self, lane: u16, chunks: usize) {
        let expected: Vec<_> = self.pending(lane).into_iter().take(chunks).collect();
        let run = self.collect(lane, chunks);
        assert_eq!(read(&self.wal, &run), chunks_of(&expected));
        assert!(expected.is_empty() || run.scanned >= expected.last().unwrap().1.last_key);
        if let Some(last_key) = run.last_key() {
            self.loaded[usize::from(lane)] = last_key;
            self.wal.count_flushed(run.records as u64);
        }
        for (key, _) in expected {
            self.committed.remove(&key);
        }
    }

    /// Opens the folder anew, or a copy of it, and checks that all committed values are there.
    fn reopen(&mut self, copy: Option<PathBuf>) {
        let killed = copy.is_some();
        if let Some(copy) = copy {
            self.folder = copy;
        }
        let spare = self.root.path().join("spare");
        let (wal, appender, _) = open_with(self.engine, &spare);
        self.wal = wal;
        self.appender = appender;
        (self.wal, self.appender, self.producers) = open_with(self.engine, &self.folder);
        self.window = window_of(&self.folder);
        std::fs::remove_dir_all(&spare).unwrap();
        assert!(!self.wal.is_damaged());
        // Values that were being written when the copy was made may be missing, from some value on.
        let survivors = self.wal.durable_key();
        let survived: BTreeMap<_, _> =
            std::mem::take(&mut self.uncommitted).into_iter().filter(|(key, _)| *key <= survivors).collect();
        assert!(killed || survived.is_empty());
        assert!(survived.values().all(|expected| expected.bundle_end <= survivors), "a bundle comes back whole or not");
        self.committed.extend(survived);
        for lane in 0..LANES {
            let (found, pending) = (read(&self.wal, &self.collect(lane, usize::MAX)), self.pending(lane));
            assert_eq!(found, chunks_of(&pending), "lane {lane}");
        }
        let last_seq = self.committed.values().map(|expected| expected.seq).max();
        assert!(last_seq.is_none_or(|seq| self.producers.last_seq(&self.producer) >= seq));
        self.seq = self.seq.max(self.producers.last_seq(&self.producer));
    }
}

/// First and last key, lane, sequence number, payload.
type Found = (u64, u64, u16, u64, Vec<u8>);

pub(super) fn read(wal: &Wal, run: &Run) -> Vec<Found> {
    let chunks = run.chunks.iter().map(|chunk| {
        assert_eq!(&*chunk.producer, "p");
        let payload = wal.payload(chunk).unwrap().into_owned();
        (chunk.first_key, chunk.last_key, chunk.lane, chunk.min_us as u64, payload)
    });
    chunks.collect()
}

fn chunks_of(expected: &[(u64, Expected)]) -> Vec<Found> {
    let found = |(key, of): &(u64, Expected)| (*key, of.last_key, of.lane, of.seq, of.payload.clone());
    expected.iter().map(found).collect()
}

pub(super) fn window_of(folder: &Path) -> IdentityWindow {
    let bounds = window::WindowBounds { span: std::time::Duration::from_secs(60), max: 1_000 };
    IdentityWindow::open(folder, bounds, 0).unwrap()
}

pub(super) fn open(folder: &Path) -> (Arc<Wal>, Appender, Producers) {
    open_with(Engine::Sled, folder)
}

pub(super) fn open_with(engine: Engine, folder: &Path) -> (Arc<Wal>, Appender, Producers) {
    let mut producers = Producers::new(100, i64::MAX, std::time::Duration::ZERO);
    let recovery = Recovery { folder, engine, new_buffer_id: Uuid::from_u128(7), now_us: 0, may_lose_committed: false };
    let (recovered, mark) = recover(&recovery, &mut producers).unwrap();
    let wal = Wal::new(folder, &recovered, RECENT_BYTES);
    let snapshot = producers.snapshot(0);
    let appender = Appender::new(Arc::clone(&wal), mark, recovered.next_key, LANES, snapshot).unwrap();
    (wal, appender, producers)
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            // A sealed store that is closing may remove one of its files meanwhile.
            match std::fs::copy(entry.path(), target) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// The WAL's own code, on a cheap store.
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
