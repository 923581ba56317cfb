//! `record()` allocates nothing on the thread that calls it, whether the ring takes the record or not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use tallyd_client::{Endpoint, Record, Recorder};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator, and its answer is returned, both unchanged. The counter is a `Cell`
// that is initialised at compile time and has no destructor: touching it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is also the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, so from the system, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn record_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::builder(Endpoint::unix(dir.path().join("absent.sock")))
        .ring_capacity(100)
        .window_bytes(1)
        .drop_deadline(Duration::ZERO)
        .build();
    let before = ALLOCATIONS.get();
    let taken = (0..1000).filter(|n| recorder.record(Record::claude("claude-sonnet-4", *n, 1))).count();
    let after = ALLOCATIONS.get();
    assert!((100..=101).contains(&taken), "{taken} were taken");
    assert_eq!(after - before, 0);
    // Proves that the counter counts: text that is not a constant is an allocation, made by the application.
    let text = Record::claude("claude".to_owned(), 1, 1);
    assert_eq!(ALLOCATIONS.get() - after, 1);
    drop(text);
}
