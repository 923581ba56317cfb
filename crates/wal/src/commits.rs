//! Acknowledgements that wait for PostgreSQL ([`AckMode::Committed`]).
//!
//! The writer enters a group's connections with the group's last key, after the group's sync. Lanes tell how far each
//! of them has settled the WAL: the key up to which no record of the lane waits any more. An entry is settled once
//! *every* lane has settled its key. So an entry covers everything before it in the WAL, whichever lane loads it:
//!
//! * the first record of a call whose duplicate the entry has;
//! * the records that an earlier connection of the producer wrote, and whose resend the entry skips.
//!
//! Keys rise from entry to entry, so the entries are a queue, and one number says how far it is settled.
//!
//! A record that PostgreSQL refuses is settled as well: its dead letter is in the batch's transaction.
//!
//! ## Bounds
//! An entry is a connection and a group. A connection has a bounded number of replies in flight, and each bundle has
//! one behind it. A connection whose reply waits for too long is closed (`crates/pipeline/src/connection/replies.rs`).
//!
//! [`AckMode::Committed`]: tallyd_protocol::AckMode::Committed

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, counter};

use crate::channel::{Closed, ConnectionOrigin};
use tallyd_base::registry as name;

/// The waiting acknowledgements, and how far the lanes are.
pub struct Commits {
    state: Mutex<State>,
    acked: Counter,
}

#[derive(Default)]
struct State {
    /// For each lane, the key up to which none of its records waits. Empty before there are lanes.
    lanes: Vec<u64>,
    waiting: VecDeque<Waiting>,
    /// Records of the entries.
    records: u64,
}

struct Waiting {
    key: u64,
    origin: Arc<ConnectionOrigin>,
    bundles: u64,
    records: u64,
}

impl State {
    fn settled(&self) -> u64 {
        self.lanes.iter().min().copied().unwrap_or(0)
    }

    /// Takes out the settled entries.
    fn take(&mut self) -> Vec<Waiting> {
        let settled = self.settled();
        let count = self.waiting.partition_point(|waiting| waiting.key <= settled);
        let taken: Vec<Waiting> = self.waiting.drain(..count).collect();
        self.records -= taken.iter().map(|waiting| waiting.records).sum::<u64>();
        taken
    }
}

impl Default for Commits {
    fn default() -> Self {
        Self { state: Mutex::default(), acked: counter!(name::RECORDS_ACKED) }
    }
}

impl Commits {
    /// Sets the number of lanes, before the first of them runs.
    pub fn begin(&self, lanes: usize) {
        self.lock().lanes = vec![0; lanes];
    }

    /// Notes that no record of the lane waits up to `key`: each is committed, or was found to be unreadable.
    pub fn settle(&self, lane: u16, key: u64) {
        let mut state = self.lock();
        let Some(settled) = state.lanes.get_mut(usize::from(lane)).filter(|settled| **settled < key) else { return };
        *settled = key;
        let taken = state.take();
        drop(state);
        self.tell(taken);
    }

    /// True if every lane has settled the key.
    #[must_use]
    pub fn covers(&self, key: u64) -> bool {
        self.lock().settled() >= key
    }

    /// Counts `bundles` of the origin as durable once every lane has settled `key`, which is not below any earlier one.
    pub(crate) fn wait(&self, key: u64, origin: Arc<ConnectionOrigin>, bundles: u64, records: u64) {
        let mut state = self.lock();
        state.waiting.push_back(Waiting { key, origin, bundles, records });
        state.records += records;
        // The lanes may have been faster.
        let taken = state.take();
        drop(state);
        self.tell(taken);
    }

    /// Records whose acknowledgement waits.
    #[must_use]
    pub fn waiting_records(&self) -> u64 {
        self.lock().records
    }

    /// Closes the waiting connections: the writer has ended.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.records = 0;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        left.iter().for_each(|waiting| waiting.origin.close(Closed::Stopped));
    }

    /// Entries of one origin may be told in another order than that of the queue: all entries before a settled one are
    /// settled, and the origin only counts.
    fn tell(&self, settled: Vec<Waiting>) {
        for Waiting { origin, bundles, records, .. } in settled {
            self.acked.increment(records);
            origin.advance(bundles);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The code under the lock does not panic; after a poisoning the state is still complete.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ProducerIdentity;

    #[test]
    fn an_entry_waits_for_every_lane() {
        let (commits, origin) = (Commits::default(), ConnectionOrigin::new(ProducerIdentity::nobody()));
        commits.wait(3, Arc::clone(&origin), 2, 20);
        commits.settle(0, 9);
        assert_eq!((origin.durable(), commits.waiting_records()), (0, 20), "there are no lanes yet");
        commits.begin(2);
        commits.settle(0, 5);
        commits.settle(1, 2);
        commits.wait(5, Arc::clone(&origin), 1, 10);
        assert_eq!((origin.durable(), commits.waiting_records()), (0, 30), "lane 1 is behind");
        commits.settle(1, 4);
        assert_eq!((origin.durable(), commits.waiting_records()), (2, 10));
        commits.settle(1, 3);
        assert!(commits.covers(4) && !commits.covers(5), "a lane does not go back");
        commits.settle(1, 5);
        assert_eq!(origin.durable(), 3);
        commits.wait(5, Arc::clone(&origin), 1, 1);
        assert_eq!((origin.durable(), commits.waiting_records()), (4, 0), "the lanes were faster");
        commits.wait(6, Arc::clone(&origin), 1, 1);
        commits.close();
        assert_eq!((origin.closed(), commits.waiting_records()), (Some(Closed::Stopped), 0));
    }
}
