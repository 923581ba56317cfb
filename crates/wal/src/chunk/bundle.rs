//! Shares records out among the flusher's lanes by their users, where there are enough of them.
//!
//! Beyond its rows, a batch's cost in PostgreSQL grows with its distinct users: each is a row of two rollups. If the lanes
//! share the records as they come, each of them touches every user's rows, and waits for the others' commits to do so. If
//! they share the users, each touches its own. Nothing rests on who gets which user: a hint is best effort, and where one
//! user has most of the calls, the others' lane takes some of them.
//!
//! Records of one producer are numbered, and a number says that all before it are there. Chunks that are filled side by side
//! hold numbers of each other's gaps, so they belong together: a [`Bundle`] becomes durable whole or not at all, and
//! is acknowledged once.
//!
//! Under light load nothing is shared out: a frame of a few records would become two chunks.

use super::write::{Chunk, ChunkBuilder, tail_of};
use super::{Refused, Ticket};
use tallyd_model::call::Call;

/// Chunks of one producer that become durable together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Each with the lane whose users it has; without one it is anybody's.
    pub chunks: Vec<(Option<u16>, Chunk)>,
}

impl From<Chunk> for Bundle {
    fn from(chunk: Chunk) -> Self {
        Self { chunks: vec![(None, chunk)] }
    }
}

impl Bundle {
    /// Bytes of payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|(_, chunk)| chunk.payload.len()).sum()
    }

    /// Calls in it.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.chunks.iter().map(|(_, chunk)| chunk.records).sum()
    }

    /// The highest sequence number in it.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.chunks.iter().map(|(_, chunk)| chunk.last_seq).max().unwrap_or(0)
    }
}

/// A bundle of this number of calls is followed by one that is shared out.
const MANY_RECORDS: u32 = 64;
/// By how many bytes a user's own chunk may be fuller than another: more than chance makes of many users. A user whose calls
/// went to another lane now and then would soon have rows in both.
const LEAN_BYTES: usize = 4 * 1024;

/// Builds bundles: a chunk for each lane, filled side by side.
pub struct BundleBuilder {
    builders: Vec<ChunkBuilder>,
    shares: bool,
    /// Which one has the last call.
    last: usize,
}

impl BundleBuilder {
    /// An empty builder for a number of lanes.
    #[must_use]
    pub fn new(lanes: u16) -> Self {
        let builders = (0..lanes.max(1)).map(|_| ChunkBuilder::new()).collect();
        Self { builders, shares: false, last: 0 }
    }

    /// Adds a call. Returns the bundle that it found no place in, if so.
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

    /// Where it will be said whether the call that was pushed last is known already; none if nothing of its identity is stated.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        self.builders[self.last].ticket()
    }

    /// Adds a refused record. Returns the bundle that it found no place in, if so.
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

    /// The builder that the user's calls go to.
    fn place(&self, user_id: &str) -> usize {
        if !self.shares {
            return 0;
        }
        let least = self.least();
        if user_id.is_empty() {
            // Calls without a user may be the majority, and are a row or two.
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

/// The lane that has the user's calls, if they fit: the same in every daemon, so that daemons' lanes of one number meet at
/// the same users' rows, and others do not.
fn home_of(user_id: &str, lanes: usize) -> usize {
    // 2^64 by the golden ratio: each bit of the name's end bears on the highest ones.
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

    /// Pushes a record of each size, refused where that is odd, and ends the bundle where `ends` says so.
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
                // All numbers from the one after the bundle before to its own last: acknowledged bundles are whole.
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
