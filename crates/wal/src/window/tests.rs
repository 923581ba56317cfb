use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const BOUNDS: WindowBounds = WindowBounds { span: DAY, max: 1_000 };

fn key(number: u16) -> Key {
    let mut key = [0; 16];
    key[..2].copy_from_slice(&number.to_be_bytes());
    key[15] = number as u8;
    key
}

fn claims(numbers: &[u16]) -> Vec<Claim> {
    (0..).zip(numbers).map(|(place, number)| Claim { key: key(*number), place }).collect()
}

#[derive(Debug, Clone)]
enum Operation {
    /// Records with these ids arrive; their segment is not sealed.
    Take(Vec<u16>),
    /// The segment ends.
    Seal,
    /// The daemon is killed: the keys of the segment without a seal come from a scan.
    Kill,
    Later(u32),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => prop::collection::vec(0..400_u16, 1..40).prop_map(Operation::Take),
        3 => Just(Operation::Seal),
        1 => Just(Operation::Kill),
        1 => (0..40_000_u32).prop_map(Operation::Later),
    ]
}

/// The keys that the window must know, and those that it may know.
struct Model {
    folder: tempfile::TempDir,
    window: IdentityWindow,
    known: BTreeSet<u16>,
    /// The result of scanning the segment without a seal.
    unsealed: Keys,
    first_key: u64,
    now_us: i64,
}

impl Model {
    fn new() -> Self {
        let folder = files::folder_in_memory();
        let window = IdentityWindow::open(folder.path(), BOUNDS, 0).unwrap();
        Self { folder, window, known: BTreeSet::new(), unsealed: Keys::default(), first_key: 1, now_us: 1 }
    }

    fn run(&mut self, operation: &Operation) {
        match operation {
            Operation::Take(numbers) => {
                let known = self.window.take(&claims(numbers), self.now_us);
                let mut expected = Vec::new();
                for (place, number) in (0..).zip(numbers) {
                    if self.known.insert(*number) {
                        self.unsealed.add(key(*number), self.now_us);
                    } else {
                        expected.push(place);
                    }
                }
                assert_eq!(known, expected);
            }
            Operation::Seal => {
                self.window.seal(self.first_key, self.now_us).unwrap();
                self.unsealed = Keys::default();
                self.first_key += 1;
                self.window.forget(self.now_us).unwrap();
            }
            Operation::Kill => {
                self.unsealed.keep(self.folder.path(), self.first_key).unwrap();
                self.unsealed = Keys::default();
                self.first_key += 1;
                self.window = IdentityWindow::open(self.folder.path(), BOUNDS, self.now_us).unwrap();
            }
            Operation::Later(seconds) => self.now_us += i64::from(*seconds) * 1_000_000,
        }
        assert_eq!(self.window.state.status().known, self.known.len() as u64);
    }
}

proptest! {
    /// 400 ids, with a bound above that: none is forgotten, even if the wall clock jumps.
    #[test]
    fn a_key_is_known_from_its_first_record_on_and_over_seals_and_kills(
        operations in prop::collection::vec(operation(), 1..60)
    ) {
        let mut model = Model::new();
        operations.iter().for_each(|operation| model.run(operation));
    }
}

fn fill(window: &mut IdentityWindow, numbers: std::ops::Range<u16>, first_key: u64, now_us: i64) {
    let numbers: Vec<u16> = numbers.collect();
    assert!(window.take(&claims(&numbers), now_us).is_empty());
    window.seal(first_key, now_us).unwrap();
    window.forget(now_us).unwrap();
}

fn file_count(folder: &Path) -> usize {
    fs::read_dir(super::folder(folder)).map_or(0, Iterator::count)
}

#[test]
fn at_the_bound_the_oldest_slice_goes_early_with_its_files_and_is_counted() {
    let folder = files::folder_in_memory();
    let mut window = IdentityWindow::open(folder.path(), BOUNDS, 0).unwrap();
    for segment in 0..8_u16 {
        fill(&mut window, segment * 250..(segment + 1) * 250, u64::from(segment) + 1, 1);
    }
    let status = window.state.status();
    assert_eq!((status.known, status.forgotten_early), (750, 1_250));
    assert_eq!(file_count(folder.path()), 3);
    let newest: Vec<u16> = (1_250..2_000).collect();
    assert_eq!(window.take(&claims(&newest), 1).len(), 750);
    assert_eq!(window.take(&claims(&[1_249]), 1), [0_u32; 0], "what was forgotten is new again");
}

#[test]
fn a_slice_ends_with_a_quarter_of_the_time_and_what_is_old_is_forgotten_but_not_by_a_jump_of_the_clock() {
    let folder = files::folder_in_memory();
    let bounds = WindowBounds { span: Duration::from_micros(1_000), max: 1_000 };
    let mut window = IdentityWindow::open(folder.path(), bounds, 0).unwrap();
    assert!(window.take(&claims(&[1]), 1_000).is_empty());
    assert!(!window.wants_seal(1_249) && window.wants_seal(1_250));
    window.seal(1, 1_250).unwrap();
    assert!(window.take(&claims(&[2]), 1_900).is_empty());
    // Its own time is a millisecond, so it has passed by the monotonic clock, too.
    std::thread::sleep(Duration::from_millis(2));
    window.forget(2_100).unwrap();
    assert_eq!((window.state.status().known, window.state.status().forgotten_early), (1, 0));
    assert_eq!(file_count(folder.path()), 0);

    let folder = files::folder_in_memory();
    let mut window = IdentityWindow::open(folder.path(), BOUNDS, 0).unwrap();
    fill(&mut window, 0..300, 1, 0);
    window.forget(i64::MAX).unwrap();
    assert_eq!(window.state.status().known, 300, "a jump of the wall clock forgets nothing");
}

#[test]
fn a_damaged_file_is_set_aside_and_the_others_are_read() {
    let folder = files::folder_in_memory();
    let mut window = IdentityWindow::open(folder.path(), BOUNDS, 0).unwrap();
    fill(&mut window, 0..10, 1, 5);
    fill(&mut window, 10..20, 2, 5);
    let path = super::folder(folder.path()).join(format!("{:020}", 1));
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut window = IdentityWindow::open(folder.path(), BOUNDS, 9).unwrap();
    assert_eq!(window.state.status().known, 10);
    assert_eq!(fs::read_dir(folder.path().join("damaged")).unwrap().count(), 1);
    assert_eq!(window.take(&claims(&[5, 15]), 9), [1]);
}

#[test]
fn a_call_with_two_keys_is_known_by_either_and_within_its_own_chunk() {
    let folder = files::folder_in_memory();
    let mut window = IdentityWindow::open(folder.path(), BOUNDS, 0).unwrap();
    let of = |place, number| Claim { key: key(number), place };
    assert_eq!(window.take(&[of(0, 1), of(0, 2), of(1, 3), of(1, 2), of(2, 3)], 1), [1]);
    assert_eq!(window.take(&[of(0, 2), of(4, 3), of(5, 9)], 1), [0, 4], "3 came with a call of its own");
}
