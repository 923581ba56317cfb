use super::*;

const MAX: usize = 1 << 20;

/// A window that holds records 0 to `count - 1` of the ring.
fn window(count: u64) -> Window {
    let mut window = Window::new(MAX, 100);
    (0..count).for_each(|position| add(&mut window, position));
    window
}

fn add(window: &mut Window, position: u64) {
    let id = Some(u128::from(position).to_be_bytes());
    window.add(&Record { id, ..Record::rentcast("/avm") }, position, MAX).unwrap();
}

/// Writes everything within `max_records`; the window must hand over each frame completely.
fn write_all(window: &mut Window, max_records: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let mut out = Vec::new();
        match window.next(&mut out, max_records, MAX) {
            Next::Frame => window.wrote(),
            Next::Nothing => return frames,
            oversized => panic!("{oversized:?}"),
        }
        frames.push(out);
    }
}

#[test]
fn a_welcome_settles_what_it_covers_and_the_rest_is_written_again_unchanged() {
    let mut window = window(3000);
    assert_eq!(window.welcome(0), 0);
    let first = write_all(&mut window, 10_000);
    assert_eq!(first.len(), 3);
    // Half of the second frame is durable, so the whole frame is sent again.
    assert_eq!(window.welcome(1500), 1024);
    assert_eq!(write_all(&mut window, 10_000), first[1..]);
    assert_eq!((window.settle(2048), window.position(), window.records()), (1024, Some(2048), 952));
    assert_eq!((window.settle(3000), window.position(), window.bytes), (952, None, 0));
}

#[test]
fn a_frame_that_was_cut_short_gives_its_numbers_back() {
    let mut window = window(2000);
    let _ = window.welcome(0);
    let mut out = Vec::new();
    assert_eq!(window.next(&mut out, 10_000, MAX), Next::Frame);
    // The socket took a part, and broke. Meanwhile another process used numbers up to 5000.
    assert_eq!(window.welcome(5000), 0);
    write_all(&mut window, 10_000);
    let numbers: Vec<u64> = window.frames.iter().map(|frame| frame.first_seq).collect();
    assert_eq!((numbers, window.next_seq), (vec![5001, 6025], 7001));
}

#[test]
fn an_early_ack_settles_nothing_that_was_not_written() {
    let mut window = window(2000);
    let _ = window.welcome(0);
    let mut out = Vec::new();
    assert_eq!(window.next(&mut out, 10_000, MAX), Next::Frame);
    assert!(!window.knows(1));
    assert_eq!(window.settle(2000), 0);
    window.wrote();
    assert!(window.knows(1024) && !window.knows(1025));
    assert_eq!(window.settle(2000), 1024);
}

#[test]
fn a_frame_beyond_a_new_daemons_bounds_is_split_and_its_numbers_stay() {
    let mut window = window(10);
    let _ = window.welcome(0);
    assert_eq!(write_all(&mut window, 10).len(), 1);
    assert_eq!(window.welcome(0), 0);
    assert_eq!(write_all(&mut window, 3).len(), 4);
    let numbers: Vec<(u64, u32)> = window.frames.iter().map(|frame| (frame.first_seq, frame.count)).collect();
    assert_eq!(numbers, [(1, 2), (3, 3), (6, 2), (8, 3)]);
    for seq in 1..=10 {
        assert_eq!(window.id(seq), Some(u128::from(seq - 1).to_be_bytes()));
    }
    assert_eq!((window.id(0), window.id(11)), (None, None));
}

#[test]
fn the_bounds_hold_and_small_frames_are_filled_up_first() {
    let mut small = Window::new(MAX, 2);
    let mut position = 0;
    while small.has_room() {
        add(&mut small, position);
        position += 1;
    }
    assert_eq!((position, small.frames.len()), (2048, 2));
    let mut few_bytes = Window::new(100, 1000);
    while few_bytes.has_room() {
        add(&mut few_bytes, 0);
    }
    assert!((100..200).contains(&few_bytes.bytes), "{}", few_bytes.bytes);
}

#[test]
fn a_record_too_large_leaves_no_trace() {
    let mut window = Window::new(MAX, 100);
    let large = Record { metadata: Some("x".repeat(2000).into()), ..Record::rentcast("/avm") };
    assert!(window.add(&large, 0, 1024).unwrap_err() > 2000);
    assert_eq!((window.records(), window.bytes, window.position()), (0, 0, None));
}
