//! The ring between `record()` and the sender: bounded, any number of producers, one consumer.
//!
//! It is an [`ArrayQueue`] that is never allowed to fill up. A push into a *full* `ArrayQueue` whose consumer was
//! preempted in the middle of a pop spins until the consumer runs again. So producers take their leave before that:
//! the queue has [`SLACK`] slots more than the ring's capacity, and a push looks first at how many records are inside.
//! Only a preempted neighbour and more than `SLACK` simultaneous producers together could still meet a full queue,
//! and they get the queue's own answer.

use tallyd_protocol::Record;

use crate::sync::{ArrayQueue, AtomicU64, Ordering};

/// Slots for producers that passed the look at the same time.
const SLACK: usize = 64;

/// Keeps a counter that one side writes off the cache lines that the other side writes. Two lines: processors fetch
/// them in pairs.
#[repr(align(128))]
struct Apart(AtomicU64);

/// The ring. `pushed` is written by producers, `popped` by the sender alone.
pub struct Ring {
    queue: ArrayQueue<Record>,
    capacity: u64,
    pushed: Apart,
    popped: Apart,
}

impl Ring {
    /// A ring of at least one record.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            queue: ArrayQueue::new(capacity.saturating_add(SLACK)),
            capacity: capacity as u64,
            pushed: Apart(AtomicU64::new(0)),
            popped: Apart(AtomicU64::new(0)),
        }
    }

    /// Moves a record in, or gives it back if the ring is full.
    ///
    /// # Errors
    /// The record itself.
    #[expect(clippy::result_large_err, reason = "the record is moved back to the caller; boxing it would allocate")]
    pub fn push(&self, record: Record) -> Result<(), Record> {
        // The sender may have popped a record that its producer has not counted yet: that is an empty ring, not 2^64.
        let inside = self.pushed.0.load(Ordering::Relaxed).saturating_sub(self.popped.0.load(Ordering::Relaxed));
        if inside >= self.capacity {
            return Err(record);
        }
        self.queue.push(record)?;
        self.pushed.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the oldest record. Only the sender calls it.
    pub fn pop(&self) -> Option<Record> {
        let record = self.queue.pop()?;
        // One writer: no read-modify-write is needed.
        self.popped.0.store(self.popped() + 1, Ordering::Relaxed);
        Some(record)
    }

    /// Records that were ever taken out.
    pub fn popped(&self) -> u64 {
        self.popped.0.load(Ordering::Relaxed)
    }

    /// Records that were ever moved in.
    pub fn pushed(&self) -> u64 {
        self.pushed.0.load(Ordering::Relaxed)
    }

    /// The position in the ring's order behind everything that was pushed before this call. Only the sender calls it:
    /// nothing is popped meanwhile, so the sum is exact.
    pub fn barrier(&self) -> u64 {
        self.popped() + self.queue.len() as u64
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(all(test, feature = "model"))]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_its_capacity_and_gives_the_next_one_back() {
        let ring = Ring::new(3);
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
    fn many_producers_lose_nothing_and_keep_their_order() {
        let ring = Ring::new(8);
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
