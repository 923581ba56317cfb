//! The ring between `record()` and the sender: bounded, any number of producers, one consumer.
//!
//! It is an [`ArrayQueue`] that is never allowed to fill up. A push into a *full* `ArrayQueue` whose consumer was
//! preempted in the middle of a pop spins until the consumer runs again. So producers give up before that: the queue has
//! [`SLACK`] slots more than the ring's capacity, and a push first reads the number of records inside. Only a preempted
//! neighbour together with more than `SLACK` simultaneous producers could still meet a full queue, and wait in its push.
//!
//! A slot holds a record, but not the text that a record owns. That text has its own bound in bytes, because a ring full
//! of large metadata would take gigabytes. Threads that record at the same moment may exceed it by one record each.

use std::borrow::Cow;

use tallyd_protocol::Record;
use tallyd_protocol::record::Text;

use crate::sync::{ArrayQueue, AtomicU64, Ordering};

/// Slots for producers that have read the number of records at the same time.
const SLACK: usize = 64;
/// The free room that [`Ring::has_room`] needs, in records and bytes of text: one record for each of 64 threads, and more
/// text than most records have.
const ROOM: (u64, u64) = (64, 64 * 1024);

/// Keeps a counter that one side writes off the cache lines that the other side writes. It spans two lines, because
/// processors fetch them in pairs.
#[repr(align(128))]
struct Apart(AtomicU64);

/// The ring. `pushed` is written by producers, `popped` by the sender alone.
pub struct Ring {
    queue: ArrayQueue<Record>,
    capacity: u64,
    max_bytes: u64,
    pushed: Apart,
    popped: Apart,
    pushed_bytes: Apart,
    popped_bytes: Apart,
}

impl Ring {
    /// A ring of at least one record, whose records own at most `max_bytes` bytes of text.
    pub fn new(capacity: usize, max_bytes: usize) -> Self {
        let capacity = capacity.max(1);
        let zero = || Apart(AtomicU64::new(0));
        Self {
            queue: ArrayQueue::new(capacity.saturating_add(SLACK)),
            capacity: capacity as u64,
            max_bytes: max_bytes as u64,
            pushed: zero(),
            popped: zero(),
            pushed_bytes: zero(),
            popped_bytes: zero(),
        }
    }

    /// Moves a record in, or gives it back if the ring is full.
    ///
    /// # Errors
    /// The record itself.
    #[expect(clippy::result_large_err, reason = "the record is moved back to the caller; boxing it would allocate")]
    pub fn push(&self, record: Record) -> Result<(), Record> {
        if self.inside() >= self.capacity {
            return Err(record);
        }
        // Constant text counts as 0, so that no other thread's cache line is touched.
        let bytes = own_bytes(&record);
        if bytes > 0 {
            if self.bytes_inside().saturating_add(bytes) > self.max_bytes {
                return Err(record);
            }
            self.pushed_bytes.0.fetch_add(bytes, Ordering::Relaxed);
        }
        if let Err(record) = self.queue.push(record) {
            self.pushed_bytes.0.fetch_sub(bytes, Ordering::Relaxed);
            return Err(record);
        }
        self.pushed.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the ring would take a record of each of several threads now.
    pub fn has_room(&self) -> bool {
        let (records, bytes) = (ROOM.0.min(self.capacity), ROOM.1.min(self.max_bytes));
        self.inside() <= self.capacity - records && self.bytes_inside() <= self.max_bytes - bytes
    }

    /// Records inside. Saturates at 0, because the sender may have popped a record that its producer has not counted yet.
    fn inside(&self) -> u64 {
        self.pushed().saturating_sub(self.popped())
    }

    fn bytes_inside(&self) -> u64 {
        self.pushed_bytes.0.load(Ordering::Relaxed).saturating_sub(self.popped_bytes.0.load(Ordering::Relaxed))
    }

    /// Takes the oldest record. Only the sender calls it.
    pub fn pop(&self) -> Option<Record> {
        let record = self.queue.pop()?;
        // Only one thread writes this counter, so a plain store is enough.
        self.popped.0.store(self.popped() + 1, Ordering::Relaxed);
        let bytes = own_bytes(&record);
        if bytes > 0 {
            let popped = self.popped_bytes.0.load(Ordering::Relaxed);
            self.popped_bytes.0.store(popped + bytes, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Records that were ever taken out.
    pub fn popped(&self) -> u64 {
        self.popped.0.load(Ordering::Relaxed)
    }

    /// Records that were ever moved in. May lag behind `popped`.
    pub fn pushed(&self) -> u64 {
        self.pushed.0.load(Ordering::Relaxed)
    }

    /// The position in the ring's order behind every record that was pushed before this call. Only the sender calls it:
    /// nothing is popped meanwhile, so the sum is exact.
    pub fn barrier(&self) -> u64 {
        self.popped() + self.queue.len() as u64
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Bytes of memory that a record's text takes in addition to the record. The same at both ends of the ring.
fn own_bytes(record: &Record) -> u64 {
    fn own(text: &Text) -> usize {
        match text {
            Cow::Owned(text) => text.capacity(),
            Cow::Borrowed(_) => 0,
        }
    }
    let mut bytes = (record.extra_units.capacity() + record.tags.capacity()) * size_of::<(Text, Text)>();
    record.each_text(|text| bytes += own(text));
    bytes as u64
}

#[cfg(all(test, feature = "model"))]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_its_capacity_and_gives_the_next_one_back() {
        let ring = Ring::new(3, 0);
        for n in 0..3 {
            ring.push(Record::claude("m", n, 0)).unwrap();
        }
        assert_eq!(ring.push(Record::claude("m", 3, 0)).unwrap_err().input_tokens, 3);
        assert_eq!(ring.barrier(), 3);
        assert_eq!(ring.pop().unwrap().input_tokens, 0);
        ring.push(Record::claude("m", 4, 0)).unwrap();
        assert_eq!((ring.barrier(), ring.pushed(), ring.popped()), (4, 4, 1));
    }

    #[test]
    fn text_that_records_own_has_a_bound_of_its_own() {
        let ring = Ring::new(1000, 100_000);
        let large = || Record { metadata: Some("x".repeat(30_000).into()), ..Record::rentcast("/avm") };
        for _ in 0..3 {
            ring.push(large()).unwrap();
        }
        assert!(ring.push(large()).is_err() && !ring.has_room());
        ring.push(Record::rentcast("/avm")).unwrap();
        assert!(ring.pop().is_some() && !ring.has_room());
        assert!(ring.pop().is_some() && ring.has_room());
        let units = vec![("x".repeat(40_000).into(), "1".into()); 2];
        assert!(ring.push(Record { extra_units: units, ..Record::default() }).is_err());
        assert_eq!(std::iter::from_fn(|| ring.pop()).count(), 2);
        assert_eq!(ring.bytes_inside(), 0);
    }

    #[test]
    fn many_producers_lose_nothing_and_keep_their_order() {
        let ring = Ring::new(8, 0);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let ring = &ring;
                scope.spawn(move || {
                    for n in 1..=2000u64 {
                        let mut record = Record::claude("m", thread, n);
                        while let Err(back) = ring.push(record) {
                            record = back;
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut last = [0; 4];
            while last != [2000; 4] {
                let Some(record) = ring.pop() else {
                    std::thread::yield_now();
                    continue;
                };
                let thread = usize::try_from(record.input_tokens).unwrap();
                assert_eq!(record.output_tokens, last[thread] + 1);
                last[thread] += 1;
            }
        });
        assert!(ring.is_empty());
        assert_eq!((ring.pushed(), ring.popped()), (8000, 8000));
    }
}
