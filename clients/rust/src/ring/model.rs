//! Runs every order in which applications' threads and the sender can meet at the ring, under loom.

use loom::sync::Arc;
use loom::thread;

use super::*;

fn record(number: u64) -> Record {
    Record::claude("m", number, 0)
}

/// Pops as the sender does until the producers are done, and checks the bound after each pop.
fn take_all(ring: &Ring, expected: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    while taken.len() < expected {
        match ring.pop() {
            Some(record) => taken.push(record.input_tokens),
            None => thread::yield_now(),
        }
    }
    taken
}

#[test]
fn nothing_is_lost_doubled_or_reordered() {
    loom::model(|| {
        let ring = Arc::new(Ring::new(4, 0));
        let producers: Vec<_> = (0..2u64)
            .map(|producer| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || ring.push(record(producer)).is_ok())
            })
            .collect();
        let mut taken = take_all(&ring, 2);
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
        assert!(producers.into_iter().all(|producer| producer.join().unwrap()));
        assert_eq!((ring.pushed(), ring.popped()), (2, 2));
        assert!(ring.is_empty());
    });
}

#[test]
fn it_is_bounded_and_gives_back_what_does_not_fit() {
    loom::model(|| {
        let ring = Arc::new(Ring::new(1, 0));
        let producer = thread::spawn({
            let ring = Arc::clone(&ring);
            move || (0..2).filter(|number| ring.push(record(*number)).is_ok()).count()
        });
        let popped = ring.pop().map(|record| record.input_tokens);
        let pushed = producer.join().unwrap();
        // The first record always fits; the second one only once the first was popped.
        let left = std::iter::from_fn(|| ring.pop()).count();
        assert_eq!(pushed, usize::from(popped.is_some()) + left);
        assert!(popped.is_none_or(|number| number == 0));
        assert!(left <= 1, "{left} in a ring of one");
        assert!((1..=2).contains(&pushed));
        assert!(pushed == 1 || popped.is_some());
    });
}

#[test]
fn a_barrier_is_behind_everything_that_was_pushed_before_it() {
    loom::model(|| {
        let ring = Arc::new(Ring::new(4, 0));
        let asked = Arc::new(AtomicU64::new(0));
        let application = thread::spawn({
            let (ring, asked) = (Arc::clone(&ring), Arc::clone(&asked));
            move || {
                assert!(ring.push(record(0)).is_ok());
                // Requests a flush.
                asked.fetch_add(1, Ordering::AcqRel);
                assert!(ring.push(record(1)).is_ok());
            }
        });
        let _ = ring.pop();
        let asked = asked.load(Ordering::Acquire);
        let barrier = ring.barrier();
        assert!(asked == 0 || barrier >= 1, "the flush would not wait for what was recorded before it");
        application.join().unwrap();
        assert!(barrier <= 2);
    });
}
