//! Every reader of foreign bytes, on the corpus and on seeded mutations of it: a bounded form of `make fuzz`.
//!
//! The properties are in `../src`. Here the allocator also counts: the memory of a reader is bounded by the size of its
//! input, not by the lengths that the input claims.
//!
//! * `TALLYD_FUZZ_SEED` repeats a run; a failing one names its seed and its input.
//! * `TALLYD_FUZZ_RUNS` is the number of mutations per target.
//! * `TALLYD_WRITE_SEEDS=1` writes the corpus' first inputs anew.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use tallyd_fuzz_readers::mutate::Mutator;
use tallyd_fuzz_readers::{TARGETS, Target, seeds};

/// Mutations per target: a few seconds in debug builds.
const RUNS: u64 = 4_000;
/// The bound of a reader's memory: this many bytes for each byte of input, and [`BYTES_BESIDES`] more.
const BYTES_PER_BYTE: usize = 200;
const BYTES_BESIDES: usize = 2 << 20;
/// Bound of all corpora together.
const CORPUS_BYTES_MAX: u64 = 300 * 1024;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    HELD.set(HELD.get() + bytes);
    MOST.set(MOST.get().max(HELD.get()));
}

// SAFETY: every call is passed to the system's allocator unchanged, and its result is returned. The counters are
// `Cell`s that are initialised at compile time and have no destructor: touching them neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `pointer` came from `alloc` above, so from the system, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

fn dictionaries() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dictionaries")
}

fn dictionary(target: &Target) -> PathBuf {
    dictionaries().join(format!("{}.dict", target.name))
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = corpora().join(target.name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// Runs one input, and asserts its memory's bound.
fn run(target: &Target, input: &[u8], origin: &str) {
    let before = HELD.get();
    MOST.set(before);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        eprintln!("the target {} failed, {origin}, on {}", target.name, input.escape_ascii());
        resume_unwind(panic);
    }
    let most = usize::try_from(MOST.get() - before).unwrap();
    let allowed = BYTES_BESIDES + BYTES_PER_BYTE * input.len();
    assert!(
        most <= allowed,
        "{}, {origin}: {} bytes made it hold {most} on {}",
        target.name,
        input.len(),
        input.escape_ascii()
    );
}

#[test]
fn every_reader_holds_its_properties_on_the_corpus_and_on_mutations_of_it() {
    let seed = number("TALLYD_FUZZ_SEED").unwrap_or_else(rand::random);
    let runs = number("TALLYD_FUZZ_RUNS").unwrap_or(RUNS);
    println!("TALLYD_FUZZ_SEED={seed} TALLYD_FUZZ_RUNS={runs}");
    for target in &TARGETS {
        let corpus = corpus(target);
        // The first run makes the shared values, such as the prices, so that no input is charged for them.
        corpus.iter().for_each(|input| (target.run)(input));
        for input in &corpus {
            run(target, input, "from the corpus");
        }
        let words = target.dictionary();
        let mut mutator = Mutator::new(seed, &corpus, &words);
        for number in 0..runs {
            run(target, &mutator.input(), &format!("TALLYD_FUZZ_SEED={seed}, mutation {number}"));
        }
    }
}

#[test]
fn the_corpus_is_small_and_has_every_seed() {
    let vectors = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/vectors").join(file);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut bytes = 0;
    for target in &TARGETS {
        let folder = corpora().join(target.name);
        let seeds = seeds::of(target.name, &vectors);
        assert!(seeds.len() >= 3, "{} has {} seeds", target.name, seeds.len());
        if number("TALLYD_WRITE_SEEDS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::create_dir_all(dictionaries()).unwrap();
            fs::write(dictionary(target), target.dictionary_file()).unwrap();
            for (number, seed) in seeds.iter().enumerate() {
                fs::write(folder.join(format!("seed-{number:03}")), seed).unwrap();
            }
        }
        let words = fs::read_to_string(dictionary(target)).unwrap_or_default();
        assert_eq!(words, target.dictionary_file(), "of {}: run this test with TALLYD_WRITE_SEEDS=1", target.name);
        let known = corpus(target);
        // Seeds with prices or settings change with those, and older seeds are as good. Only these targets need all
        // seeds.
        if ["frame", "line", "reply"].contains(&target.name) {
            let missing = seeds.iter().filter(|seed| !known.contains(seed)).count();
            assert_eq!(missing, 0, "of {}: run this test with TALLYD_WRITE_SEEDS=1", target.name);
        }
        bytes += known.iter().map(|input| input.len() as u64).sum::<u64>();
    }
    assert!(bytes < CORPUS_BYTES_MAX, "the corpora have {bytes} bytes: minimise them");
}

#[test]
fn every_target_has_its_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in &TARGETS {
        let program = fs::read_to_string(folder.join(format!("fuzz_targets/{}.rs", target.name))).unwrap();
        assert!(program.contains(&format!("tallyd_fuzz_readers::{}::run", target.name)), "{}", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}

/// One record of a frame whose metadata is `metadata`, as MessagePack.
fn with_metadata(metadata: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    tallyd_protocol::message::write_records_head(&mut body, 1, 1);
    body.extend_from_slice(b"\x82\xa8provider\xa1x\xa8metadata");
    body.extend_from_slice(metadata);
    body
}

/// A target that has run on its corpus, so that no input is charged for shared values such as the prices.
fn target(name: &str) -> &'static Target {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    corpus(target).iter().for_each(|input| (target.run)(input));
    target
}

/// Runs on a stack like those of the daemon's workers.
fn on_a_workers_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn metadata_that_is_nested_deeply_is_refused_on_a_workers_stack() {
    on_a_workers_stack(|| {
        for depth in [100, 1_000, 10_000, 300_000] {
            let maps = [&b"\x81\xa1k".repeat(depth)[..], b"\x80"].concat();
            run(target("frame"), &with_metadata(&maps), "nested maps");
            let lists = [&b"\x81\xa1k"[..], &b"\x91".repeat(depth), b"\x90"].concat();
            run(target("frame"), &with_metadata(&lists), "nested lists");
            let unknown = [&b"\x81\xa3ack\x82\xa3seq\x01\xa1x"[..], &b"\x91".repeat(depth), b"\x90"].concat();
            run(target("reply"), &unknown, "nested lists");
        }
    });
}

#[test]
fn a_million_small_maps_in_metadata_cost_bounded_memory() {
    let maps = [&b"\x81\xa1k\xdd\x00\x04\x93\xe0"[..], &b"\x81\xa0\x00".repeat(300_000)].concat();
    run(target("frame"), &with_metadata(&maps), "many maps");
}

#[test]
fn a_json_number_where_a_map_is_expected_is_refused_as_one() {
    use tallyd_intake::{Admission, Code, Encoded, Rules};
    let catalog = tallyd_model::pricing::Catalog::builtin(&tallyd_model::pricing::PricingOptions::default()).unwrap();
    let admission = Admission { rules: &Rules::default(), catalog: &catalog, now_us: 1_795_392_000_000_000 };
    let cases = ["5", "1.5", "1e400", "-0"].map(|value| [("extra_units", value), ("metadata", value)]);
    for (field, value) in cases.into_iter().flatten() {
        let text = format!(r#"{{"provider":"x","{field}":{value}}}"#);
        let refusal = admission.admit(Encoded::Json(text.as_bytes()), |admitted| admitted.unwrap_err());
        assert_eq!((refusal.code, &*refusal.field), (Code::Type, field), "{}", refusal.message);
    }
}
