//! The records of one request that has an answer of its own: HTTP, where there is no connection to number them on.
//!
//! Without a key each request counts, however often it is sent. With one ([`RequestKey`]) a repetition adds nothing.
//! That needs no memory beside that of producers, because the key *is* a producer: its name is the key's digest, and
//! its records are numbered from `fingerprint · 2^20 + 1` on. So the mark that becomes durable with the records says
//! both how many of them are in the WAL and which request they belong to. A key that returns with another body is found
//! out, not merged. A request that broke off in the middle resumes where it ended.
//!
//! A key belongs to one token: its scope, with the token's id, is part of the digest, and no client on a socket may use
//! such a name. Two requests with one key at a time are two sessions of one producer: the later one fences the earlier.
//!
//! A record without an id gets one made of the key, the body and its place, so that a repetition has the same answer.
//! The id counts as stated: a full table of producers forgets keys, and the window of stated ids ([`tallyd_wal`]) still
//! knows the records.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::connection::{IngestContext, settled};
use tallyd_config::StatedCosts;
use tallyd_intake::tagged::tagged;
use tallyd_intake::{Absent, Admission, Encoded, Refusal, Rules};
use tallyd_model::pricing::Usd;
use tallyd_wal::channel::{Closed, ConnectionOrigin};
use tallyd_wal::chunk::{Bundle, BundleBuilder, Ticket};
use tallyd_wal::identity::{ProducerIdentity, REQUEST_PREFIX};

/// Bits that number a request's records. The other 44 are the body's fingerprint.
const INDEX_BITS: u32 = 20;
/// Records of one slice, which are handed over together.
const SLICE: usize = 512;

/// The key that identifies a repeated request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    producer: String,
    fingerprint: u64,
}

impl RequestKey {
    /// The key of a request. `scope` separates senders and purposes, `key` the requests of one scope; `body` is the
    /// request's content.
    #[must_use]
    pub fn new(scope: &str, key: &[u8], body: &[u8]) -> Self {
        // With the scope's length, ("a", "bc") and ("ab", "c") differ.
        let digest =
            Sha256::new().chain_update((scope.len() as u64).to_be_bytes()).chain_update(scope).chain_update(key);
        let hex = hex::encode(digest.finalize());
        let body = Sha256::digest(body);
        let [a, b, c, d, e, f, ..] = body[..] else { unreachable!("a SHA-256 has 32 bytes") };
        // 44 bits, and not 0, so that no number is 0.
        let fingerprint = (u64::from_be_bytes([0, 0, a, b, c, d, e, f]) >> 4).max(1);
        Self { producer: format!("{REQUEST_PREFIX}{hex}"), fingerprint }
    }

    /// The sequence number before the first record's.
    const fn base(&self) -> u64 {
        self.fingerprint << INDEX_BITS
    }

    /// The id of the record at this place, if it does not have one: a UUID of version 8.
    #[must_use]
    pub fn id(&self, index: usize) -> [u8; 16] {
        let digest = Sha256::new()
            .chain_update(&self.producer)
            .chain_update(self.fingerprint.to_be_bytes())
            .chain_update((index as u64).to_be_bytes())
            .finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(id).into_uuid().into_bytes()
    }
}

/// The answer to one record of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordOutcome {
    /// The record is durable.
    Accepted {
        /// The call's id.
        id: Uuid,
        /// Its cost; none for an unpriced call.
        cost_usd: Option<Usd>,
        /// The record was already durable, from an earlier request with this key or from a call with the same stated
        /// id.
        duplicate: bool,
        /// A hard budget that the call counts towards is used up.
        should_throttle: bool,
    },
    /// The record was refused, and is counted with the dead letters.
    Refused(Refusal),
}

/// Why a request has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The key was used with another body before.
    #[error("this key has been used for another request")]
    KeyReused,
    /// A later request with this key has taken over.
    #[error("another request with this key is under way")]
    Overtaken,
    /// As many other requests with keys are under way as can be remembered.
    #[error("more requests with keys are under way than are remembered")]
    Crowded,
    /// The records are in the WAL, and PostgreSQL has not committed them in time.
    #[error("PostgreSQL has not committed the records yet; they are in the daemon's WAL")]
    Uncommitted,
    /// The daemon is stopping. Unanswered records may or may not be durable.
    #[error("the daemon is not taking records any more")]
    Stopped,
}

impl From<Closed> for BatchError {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Fenced => Self::Overtaken,
            Closed::Crowded => Self::Crowded,
            Closed::Uncommitted => Self::Uncommitted,
            Closed::Stopped => Self::Stopped,
        }
    }
}

/// The sender of a request, and its rights.
#[derive(Debug, Clone, Copy)]
pub struct BatchSender<'a> {
    /// The token's owner, for the dead letters.
    pub name: &'a str,
    /// Costs that this sender may state.
    pub stated_costs: StatedCosts,
    /// See [`Rules::response_ids`].
    pub response_ids: bool,
    /// Tags of the request, for records that do not state them.
    pub tags: &'a [(&'a str, String)],
}

/// A request whose records are judged and handed over slice by slice, so that only a part of the request waits for the
/// WAL.
pub struct Recording<'r> {
    context: &'r IngestContext,
    sender: BatchSender<'r>,
    key: Option<&'r RequestKey>,
    origin: Arc<ConnectionOrigin>,
    known: u64,
    texts: &'r [&'r [u8]],
    outcomes: Vec<RecordOutcome>,
    /// Places of outcomes that may turn out to be duplicates, with the writer's tickets.
    tickets: Vec<(usize, Ticket)>,
    judged: Vec<Bundle>,
    handed_over: u64,
}

impl<'r> Recording<'r> {
    /// Begins to record `texts`, JSON objects of at most [`tallyd_intake::body::RECORDS_MAX`].
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn begin(
        context: &'r IngestContext,
        sender: BatchSender<'r>,
        key: Option<&'r RequestKey>,
        texts: &'r [&'r [u8]],
    ) -> Result<Self, BatchError> {
        let producer = key.map_or_else(ProducerIdentity::nobody, |key| ProducerIdentity::without_secret(&key.producer));
        let origin = ConnectionOrigin::with_ack(producer, context.ack);
        let known = match key {
            Some(key) => open(context, &origin, key).await?,
            None => 0,
        };
        let outcomes = Vec::with_capacity(texts.len());
        let (tickets, judged) = (Vec::new(), Vec::new());
        let handed_over = origin.opening_bundles();
        Ok(Self { context, sender, key, origin, known, texts, outcomes, tickets, judged, handed_over })
    }

    /// Judges the next slice. Returns its credits: calls with a negative cost that are new. None after the last slice.
    pub fn judge(&mut self) -> Option<Vec<(Uuid, Usd)>> {
        let first = self.outcomes.len();
        let slice = self.texts.get(first..).filter(|rest| !rest.is_empty())?;
        let slice = &slice[..slice.len().min(SLICE)];
        let (context, sender, key, known) = (self.context, self.sender, self.key, self.known);
        let told = (&mut self.outcomes, &mut self.tickets);
        self.judged = encode(context, sender, key, known, first, slice, told);
        let credits = self.outcomes[first..].iter().filter_map(|outcome| match outcome {
            RecordOutcome::Accepted { id, cost_usd: Some(usd), duplicate: false, .. } if *usd < Usd::ZERO => {
                Some((*id, *usd))
            }
            _ => None,
        });
        Some(credits.collect())
    }

    /// Hands over the slice that was judged last, waiting for room.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn hand_over(&mut self) -> Result<(), BatchError> {
        for bundle in self.judged.drain(..) {
            self.context.chunks.submit(&self.origin, bundle).await?;
            self.handed_over += 1;
        }
        Ok(())
    }

    /// Waits until all records that were handed over are durable, or committed, as `wal.ack` says. So does a repetition
    /// that hands over nothing.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn finish(mut self) -> Result<Vec<RecordOutcome>, BatchError> {
        settled(&self.origin, self.handed_over, self.context.limits.commit_wait).await?;
        for (place, _) in self.tickets.iter().filter(|(_, ticket)| ticket.is_duplicate()) {
            if let RecordOutcome::Accepted { duplicate, .. } = &mut self.outcomes[*place] {
                *duplicate = true;
            }
        }
        Ok(self.outcomes)
    }
}

/// Opens the key's producer for this request. Returns the number of its records that are already durable.
async fn open(context: &IngestContext, origin: &Arc<ConnectionOrigin>, key: &RequestKey) -> Result<u64, BatchError> {
    let last_seq = context.chunks.open(origin, None).await?.known_seq;
    match last_seq {
        0 => Ok(0),
        _ if last_seq >> INDEX_BITS == key.fingerprint => Ok(last_seq - key.base()),
        _ => Err(BatchError::KeyReused),
    }
}

/// Encodes the texts; `first` is the index of the first of them in its request.
fn encode(
    context: &IngestContext,
    sender: BatchSender<'_>,
    key: Option<&RequestKey>,
    known: u64,
    first: usize,
    texts: &[&[u8]],
    (outcomes, tickets): (&mut Vec<RecordOutcome>, &mut Vec<(usize, Ticket)>),
) -> Vec<Bundle> {
    let catalog = context.catalog.load();
    let BatchSender { stated_costs, response_ids, tags, .. } = sender;
    let rules = Rules { stated_costs, response_ids, ..context.rules.clone() };
    let admission = Admission { rules: &rules, catalog: &catalog, now_us: context.clock.now_us() };
    let (mut builder, mut bundles) = (BundleBuilder::new(context.lanes), Vec::new());
    context.metrics.received.increment(texts.len() as u64);
    for (index, text) in (first..).zip(texts) {
        let duplicate = (index as u64) < known;
        let seq = key.map_or(0, |key| key.base() + 1 + index as u64);
        let text = tagged(text, tags);
        let record = Encoded::Json(&text);
        let id = key.map(|key| move || key.id(index));
        let absent = Absent { id: id.as_ref().map(|id| id as &dyn Fn() -> [u8; 16]), ..Absent::default() };
        context.metrics.duplicate.increment(u64::from(duplicate));
        let (full, outcome) = admission.admit_with(record, absent, |admitted| match admitted {
            Ok(call) => {
                let (id, cost_usd) = (Uuid::from_bytes(call.id), call.cost.usd());
                let full = if duplicate {
                    None
                } else {
                    context.metrics.accepted(&admission, call);
                    let full = builder.push_call(seq, call);
                    tickets.extend(builder.ticket().map(|ticket| (index, ticket)));
                    full
                };
                let should_throttle = context.should_throttle(call);
                (full, RecordOutcome::Accepted { id, cost_usd, duplicate, should_throttle })
            }
            Err(refusal) => {
                let full = if duplicate {
                    None
                } else {
                    builder.push_refused(seq, &context.refused("", sender.name, &refusal, record))
                };
                (full, RecordOutcome::Refused(refusal))
            }
        });
        bundles.extend(full);
        outcomes.push(outcome);
    }
    bundles.extend(builder.finish());
    bundles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_its_scope_and_knows_its_body() {
        let key = RequestKey::new("token:1", b"k", b"body");
        assert_eq!(key, RequestKey::new("token:1", b"k", b"body"));
        assert_ne!(key.producer, RequestKey::new("token:", b"1k", b"body").producer);
        let other = RequestKey::new("token:1", b"k", b"other");
        assert_eq!(key.producer, other.producer);
        assert_ne!(key.fingerprint, other.fingerprint);
        assert_eq!((key.base() + tallyd_intake::body::RECORDS_MAX as u64) >> INDEX_BITS, key.fingerprint);
        assert!(key.fingerprint < 1 << 44);
        assert_ne!(key.id(0), key.id(1));
        assert_eq!(Uuid::from_bytes(key.id(0)).get_version_num(), 8);
    }
}
