//! The costs of the window of stated ids: memory, time an id, bytes on disk, and the time of a start.
//!
//! `cargo bench --bench window -- [IDS]`, by default 10,000,000: the bound of `wal.max_identities`.

use std::path::Path;
use std::time::{Duration, Instant};

use tallyd_model::call::{Call, Stated};
use tallyd_wal::chunk::{Chunk, ChunkBuilder};
use tallyd_wal::window::{IdentityWindow, WindowBounds};

// The daemon's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Ids of a segment, about as many as a segment of the default size has.
const SEGMENT: u64 = 250_000;

/// A chunk of calls with stated ids. The numbers are spread, as random ids are.
fn chunk(numbers: std::ops::Range<u64>) -> Chunk {
    let mut builder = ChunkBuilder::new();
    for number in numbers {
        let spread = (u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let call = Call {
            id: spread.to_be_bytes(),
            provider: "rentcast",
            stated: Stated { id: true, response: false },
            ..Call::default()
        };
        assert!(builder.push_call(number, &call).is_none(), "a few calls fit a chunk");
    }
    builder.finish().expect("a chunk of calls")
}

/// Resident memory in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it says its memory");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("in kilobytes") * 1024
}

fn open(folder: &Path, ids: u64) -> IdentityWindow {
    // A quarter more than the number of ids, so that none is forgotten.
    let bounds = WindowBounds { span: Duration::from_secs(48 * 60 * 60), max: ids as usize * 5 / 4 };
    IdentityWindow::open(folder, bounds, 0).expect("the folder is there")
}

/// Settles chunks of 50, and seals a segment now and then. Returns the mean time an id, without the making of the
/// chunks.
fn settle(window: &mut IdentityWindow, ids: u64, seals: bool) -> Duration {
    let mut took = Duration::ZERO;
    for first in (0..ids).step_by(50) {
        let mut chunk = chunk(first..ids.min(first + 50));
        let start = Instant::now();
        window.deduplicate(&mut chunk, 1).expect("a chunk of calls");
        if seals && first % SEGMENT == 0 {
            window.seal(first + 1, 1).expect("the folder can be written to");
        }
        took += start.elapsed();
    }
    took / u32::try_from(ids).unwrap_or(u32::MAX)
}

fn main() {
    let ids = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000_000);
    let folder = tempfile::tempdir().expect("a folder");
    let before = resident();
    let mut window = open(folder.path(), ids);
    let new = settle(&mut window, ids, true);
    window.seal(ids + 1, 1).expect("the folder can be written to");
    let memory = resident().saturating_sub(before);
    let known = settle(&mut window, ids.min(1_000_000), false);
    println!("{ids} ids: {} MiB of memory, {} bytes an id", memory >> 20, memory / ids);
    println!("a new id: {new:?}, one that is known: {known:?} (with the chunk written anew)");
    drop(window);
    let files = std::fs::read_dir(folder.path().join("identities")).expect("keys were written");
    let bytes: u64 = files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |file| file.len())).sum();
    let start = Instant::now();
    drop(open(folder.path(), ids));
    println!("on disk: {} MiB; read at a start in {:?}", bytes >> 20, start.elapsed());
}
