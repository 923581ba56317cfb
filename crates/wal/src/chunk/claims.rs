//! Stated identities of calls, and their way into the WAL.
//!
//! A sender may *state* a call's identity: by an id, or by the vendor's id of the response. Such a call has keys, and
//! the writer looks each of them up in the window ([`crate::window`]). Keys follow from the call's own bytes and two
//! flags of its entry, so the WAL's content restores them: a key is as durable as its record, and never without it.
//!
//! An id that a client library has made does not have a key. Its record is numbered, and the number keeps it from being
//! counted twice ([`crate::producers`]). Such a call costs one test of two bits here: no digest, no list, no lookup.

use std::sync::{Arc, OnceLock};

use tallyd_model::call::{Call, Key};

/// A key, and the place of its call among the chunk's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The key.
    pub key: Key,
    /// The place, from 0.
    pub place: u32,
}

/// A chunk's claims by place, and the result of their lookup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentityClaims {
    /// The claims. A call has one or two, next to each other.
    pub list: Vec<Claim>,
    verdict: Option<Verdict>,
}

/// The places of a chunk's known calls, in ascending order; unset without any. The writer sets it before it reports the
/// chunk as durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict(Arc<OnceLock<Vec<u32>>>);

/// The future result of one call's lookup.
#[derive(Debug, Clone)]
pub struct Ticket {
    verdict: Verdict,
    place: u32,
}

impl IdentityClaims {
    pub(super) fn add(&mut self, place: u32, call: &Call<'_>) {
        self.list.extend(call.keys().map(|key| Claim { key, place }));
        self.verdict.get_or_insert_default();
    }

    pub(super) fn ticket(&self, place: u32) -> Option<Ticket> {
        let is_last = self.list.last().is_some_and(|claim| claim.place == place);
        let verdict = self.verdict.clone().filter(|_| is_last)?;
        Some(Ticket { verdict, place })
    }

    /// Sets the places of the known calls.
    pub fn set_known(&self, places: Vec<u32>) {
        if let Some(Verdict(verdict)) = &self.verdict {
            // Set once for each chunk, because the writer takes it out of the channel once.
            let _ = verdict.set(places);
        }
    }
}

impl Ticket {
    /// True if the call was known. Valid once its chunk is durable.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.verdict.0.get().is_some_and(|places| places.binary_search(&self.place).is_ok())
    }
}
