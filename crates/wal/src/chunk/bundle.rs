//! Distributes records to the flusher's lanes by their users, if there are enough records.
//!
//! Beyond its rows, a batch's cost in PostgreSQL grows with its distinct users: each is a row of two rollups. If lanes
//! took records in the order of arrival, each lane would update every user's rows, and wait for the others' commits.
//! With users hashed to lanes, each lane updates its own. This is an optimisation: any lane may load any user's calls,
//! and if one user has most of the calls, other lanes take some of them.
//!
//! Records of one producer are numbered, and a durable number means that all before it are durable. Chunks that are
//! filled side by side have numbers in each other's gaps, so they belong together: a [`Bundle`] becomes durable
//! completely or not at all, and is acknowledged once.
//!
//! Under light load records are not distributed: a frame of a few records would become two chunks.

use super::write::{Chunk, ChunkBuilder, tail_of};
use super::{Refused, Ticket};
use tallyd_model::call::Call;

/// Chunks of one producer that become durable together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Each with the lane of its users, or none if any lane may load it.
    pub chunks: Vec<(Option<u16>, Chunk)>,
}

impl From<Chunk> for Bundle {
    fn from(chunk: Chunk) -> Self {
        Self { chunks: vec![(None, chunk)] }
    }
}

impl Bundle {
    /// Number of bytes of payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|(_, chunk)| chunk.payload.len()).sum()
    }

    /// Number of calls.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.chunks.iter().map(|(_, chunk)| chunk.records).sum()
    }

    /// The highest sequence number.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.chunks.iter().map(|(_, chunk)| chunk.last_seq).max().unwrap_or(0)
    }
}

/// After a bundle with this number of calls, the next one is distributed to lanes.
const MANY_RECORDS: u32 = 64;
/// Bytes by which a user's own chunk may be fuller than another: more than chance causes with many users. A user whose
/// calls went to another lane now and then would soon have rows in both.
const LEAN_BYTES: usize = 4 * 1024;

/// Builds bundles: a chunk for each lane, filled at the same time.
pub struct BundleBuilder {
    builders: Vec<ChunkBuilder>,
    shares: bool,
    /// The builder with the last call.
    last: usize,
}

impl BundleBuilder {
    /// An empty builder for a number of lanes.
    #[must_use]
    pub fn new(lanes: u16) -> Self {
        let builders = (0..lanes.max(1)).map(|_| ChunkBuilder::new()).collect();
        Self { builders, shares: false, last: 0 }
    }

    /// Adds a call. If it did not fit, returns the bundle before it.
    pub fn push_call(&mut self, seq: u64, call: &Call<'_>) -> Option<Bundle> {
        let mut at = self.place(call.user_id);
        let full = if self.builders[at].has_room_for(call) { None } else { self.finish() };
        if full.is_some() {
            at = self.place(call.user_id);
        }
        self.builders[at].append_call(seq, call);
        self.last = at;
        full
    }

    /// The ticket that will tell whether the last call is a duplicate; none if the call does not state its identity.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        self.builders[self.last].ticket()
    }

    /// Adds a refused record. If it did not fit, returns the bundle before it.
    pub fn push_refused(&mut self, seq: u64, refused: &Refused<'_>) -> Option<Bundle> {
        let at = self.least();
        let full = if self.builders[at].has_room_for_refused(refused) { None } else { self.finish() };
        let at = if full.is_some() { 0 } else { at };
        self.builders[at].append_refused(seq, refused);
        full
    }

    /// Ends the bundle. None if nothing was pushed since the last one.
    pub fn finish(&mut self) -> Option<Bundle> {
        let shares = self.shares;
        let lanes = 0_u16..;
        let chunks = lanes.zip(&mut self.builders).filter_map(|(lane, builder)| {
            let chunk = builder.finish()?;
            Some((shares.then_some(lane), chunk))
        });
        let bundle = Bundle { chunks: chunks.collect() };
        if bundle.chunks.is_empty() {
            return None;
        }
        self.shares = self.builders.len() > 1 && bundle.records() >= MANY_RECORDS;
        Some(bundle)
    }

    /// The builder for the user's calls.
    fn place(&self, user_id: &str) -> usize {
        if !self.shares {
            return 0;
        }
        let least = self.least();
        if user_id.is_empty() {
            // Calls without a user may be the majority, but have only a row or two.
            return least;
        }
        let home = home_of(user_id, self.builders.len());
        if self.builders[home].bytes() > self.builders[least].bytes() + LEAN_BYTES { least } else { home }
    }

    fn least(&self) -> usize {
        if !self.shares {
            return 0;
        }
        let bytes = |at: &usize| self.builders[*at].bytes();
        (0..self.builders.len()).min_by_key(bytes).unwrap_or(0)
    }
}

/// The lane for the user's calls, if they fit. It is the same in every daemon, so that only lanes of one number meet at
/// a user's rows.
fn home_of(user_id: &str, lanes: usize) -> usize {
    // 2^64 divided by the golden ratio: each bit of the name's end affects the highest bits.
    let mixed = tail_of(user_id.as_bytes()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize % lanes
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{Entry, PAYLOAD_TARGET_BYTES, PayloadReader};

    const CODE: &str = "nul";

    fn call(seq: u64, user_id: &str) -> Call<'_> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&seq.to_be_bytes());
        Call {
            id,
            occurred_at_us: 1_700_000_000_000_000 + seq as i64,
            provider: "claude",
            model: "m",
            user_id,
            ..Call::default()
        }
    }

    /// The sequence numbers in a bundle, and each lane's users.
    fn contents(bundle: &Bundle) -> (BTreeSet<u64>, BTreeMap<Option<u16>, BTreeSet<String>>) {
        let (mut seqs, mut users) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for (lane, chunk) in &bundle.chunks {
            for entry in PayloadReader::new(&chunk.payload) {
                let seq = match entry.unwrap() {
                    Entry::Call(call) => {
                        users.entry(*lane).or_default().insert(call.user_id.to_owned());
                        u64::from_be_bytes(call.id[..8].try_into().unwrap())
                    }
                    Entry::Refused(refused) => u64::from_be_bytes(refused.payload[..8].try_into().unwrap()),
                };
                assert!((chunk.first_seq..=chunk.last_seq).contains(&seq));
                assert!(seqs.insert(seq), "{seq} is there twice");
            }
        }
        (seqs, users)
    }

    fn refused(payload: &[u8]) -> Refused<'_> {
        Refused { code: CODE, field: "", message: "", payload_format: "json", payload, ..Refused::default() }
    }

    /// Pushes a record of each size, refused if the size is odd, and ends the bundle at each `true`.
    fn bundles(lanes: u16, records: &[(usize, u8, bool)]) -> Vec<Bundle> {
        let mut builder = BundleBuilder::new(lanes);
        let mut bundles = Vec::new();
        for (seq, (size, user, ends)) in (1..).zip(records) {
            let user_id = format!("{user}-{}", "u".repeat(*size));
            bundles.extend(if user % 16 == 0 {
                builder.push_refused(seq, &refused(&[&seq.to_be_bytes()[..], &vec![7; *size]].concat()))
            } else {
                builder.push_call(seq, &call(seq, &user_id))
            });
            bundles.extend(ends.then(|| builder.finish()).flatten());
        }
        bundles.extend(builder.finish());
        bundles
    }

    proptest! {
        #[test]
        fn bundles_hold_every_record_once_and_no_number_of_another(
            lanes in 1..5_u16,
            records in prop::collection::vec((0..300_usize, any::<u8>(), prop::bool::weighted(0.01)), 1..900),
        ) {
            let bundles = bundles(lanes, &records);
            let mut next = 1;
            for bundle in &bundles {
                let (seqs, _) = contents(bundle);
                // All numbers after those of the last bundle up to its own last: acknowledged bundles are complete.
                prop_assert_eq!(&seqs, &(next..=bundle.last_seq()).collect());
                next = bundle.last_seq() + 1;
                let lanes_of: Vec<_> = bundle.chunks.iter().map(|(lane, _)| *lane).collect();
                prop_assert!(lanes_of == [None] || lanes_of.iter().all(|lane| lane.is_some_and(|lane| lane < lanes)));
                prop_assert!(bundle.chunks.iter().all(|(_, chunk)| chunk.payload.len() <= PAYLOAD_TARGET_BYTES));
            }
            prop_assert_eq!(next, records.len() as u64 + 1);
        }
    }

    #[test]
    fn many_users_are_shared_out_and_a_few_records_are_not() {
        let names: Vec<String> = (0..400).map(|user| format!("0192f0c1-7a10-7000-8000-{user:012}")).collect();
        let mut builder = BundleBuilder::new(2);
        let mut bundles = Vec::new();
        for seq in 1..=4_000_u64 {
            bundles.extend(builder.push_call(seq, &call(seq, &names[seq as usize * 7 % names.len()])));
        }
        bundles.extend(builder.finish());
        let (mut users, mut bytes) = ([BTreeSet::new(), BTreeSet::new()], [0, 0]);
        assert_eq!(bundles[0].chunks.len(), 1, "the first one has nothing to go by");
        for bundle in &bundles[1..bundles.len() - 1] {
            for (lane, of_lane) in contents(bundle).1 {
                users[usize::from(lane.unwrap())].extend(of_lane);
            }
            for (lane, chunk) in &bundle.chunks {
                bytes[usize::from(lane.unwrap())] += chunk.payload.len();
            }
        }
        let both = users[0].intersection(&users[1]).count();
        assert!(both * 100 < names.len(), "{both} of {} users are in both lanes", names.len());
        assert!(bytes[0].abs_diff(bytes[1]) * 10 < bytes[0], "{bytes:?}");
        for seq in 1..=10 {
            assert!(builder.push_call(seq, &call(seq, "u")).is_none());
        }
        builder.finish();
        assert!(builder.push_call(11, &call(11, "u")).is_none());
        assert_eq!(builder.finish().unwrap().chunks[0].0, None, "a few records are not shared out");
    }

    #[test]
    fn the_calls_of_one_user_go_to_every_lane_and_nobodys_evenly() {
        for (user_id, share) in [("the only one", 0.2), ("", 0.95)] {
            let mut builder = BundleBuilder::new(3);
            let mut bundles = Vec::new();
            for seq in 1..=4_000_u64 {
                bundles.extend(builder.push_call(seq, &call(seq, user_id)));
            }
            let bytes = |lane: u16| -> usize {
                let chunks = bundles[1..].iter().flat_map(|bundle| &bundle.chunks);
                chunks.filter(|(of, _)| *of == Some(lane)).map(|(_, chunk)| chunk.payload.len()).sum()
            };
            let (least, most) = ((0..3).map(bytes).min().unwrap(), (0..3).map(bytes).max().unwrap());
            assert!(least as f64 > most as f64 * share, "{least} of {most} bytes of {user_id:?}");
        }
    }
}
