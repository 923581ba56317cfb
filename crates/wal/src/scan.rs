//! Reads a whole segment, and decides where its valid values end.

use super::WalError;
use super::append::{empty_seal, fold_checksum};
use super::lanes::Lanes;
use super::producers::Producers;
use super::segment::{Opening, Seal};
use super::store::Store;
use super::value;
use super::window::Keys;
use crate::chunk::{Entry, PayloadReader};

/// The parts of a value's header that the scan needs; none if the value is missing or broken.
struct Found {
    more: bool,
}

/// Scans the segment and returns the seal for its values. `claimed` is a key that is known to have been synced, or 0.
/// `producers` get the marks of the valid values, and `keys` the identities of their calls.
///
/// The first key that is missing and not claimed begins the unsynced tail: it and all later ones are invalid. A missing
/// key that is claimed is damage: it is skipped, and recorded in the seal.
///
/// # Errors
/// [`WalError::Store`] if the store cannot be read.
pub(crate) fn scan(
    store: &dyn Store,
    opening: &Opening,
    sealed: Option<&Seal>,
    claimed: u64,
    producers: &mut Producers,
    keys: &mut Keys,
) -> Result<Seal, WalError> {
    let (found, claimed) = read_all(store, opening, sealed, claimed)?;
    let end = end_of_what_counts(opening.first_key, &found, claimed);
    let mut seal = empty_seal(opening.lanes);
    seal.damaged = sealed.is_some_and(|seal| seal.damaged);
    let mut parts = Parts::default();
    for (key, found) in (opening.first_key..end).zip(&found) {
        let value = store.get(key)?;
        let decoded = value.as_deref().filter(|_| found.is_some()).map(|value| (value, value::trusted(value).0));
        let Some((value, header)) = decoded else {
            seal.damaged = true;
            parts = Parts::default();
            continue;
        };
        seal.checksum = fold_checksum(seal.checksum, value);
        seal.value_bytes += value.len() as u64;
        seal.last_key = key;
        if header.part == 0 {
            seal.records += u64::from(header.records) + u64::from(header.refused);
        }
        let first_part = key - u64::from(header.part);
        seal.lane_last_keys[usize::from(Lanes(opening.lanes).of_value(first_part, &header))] = key;
        producers.restore(header.identity(), header.last_seq, header.written_us);
        if let Some(payload) = parts.whole(value) {
            named(payload, header.written_us, keys);
        }
    }
    seal.damaged |= claimed >= opening.first_key && seal.last_key < claimed;
    Ok(seal)
}

/// All keys from the first on, and the highest key that is claimed as synced.
fn read_all(
    store: &dyn Store,
    opening: &Opening,
    sealed: Option<&Seal>,
    claimed: u64,
) -> Result<(Vec<Option<Found>>, u64), WalError> {
    let mut claimed = claimed.max(sealed.map_or(0, |seal| seal.last_key));
    let mut found = Vec::new();
    let Some(last_key) = store.last_key()? else { return Ok((found, claimed)) };
    for key in opening.first_key..=last_key {
        let value = store.get(key)?;
        let decoded = value.as_deref().and_then(|value| value::decode(key, value).ok());
        found.push(decoded.map(|(header, _)| {
            claimed = claimed.max(header.synced);
            Found { more: header.more }
        }));
    }
    Ok((found, claimed))
}

/// The first invalid key.
fn end_of_what_counts(first_key: u64, found: &[Option<Found>], claimed: u64) -> u64 {
    let keys = first_key..;
    let tail = keys.zip(found).find(|(key, found)| found.is_none() && *key > claimed);
    let mut end = tail.map_or(first_key + found.len() as u64, |(key, _)| key);
    // A bundle without its last values was never acknowledged.
    let is_cut = |end: u64| matches!(&found[(end - 1 - first_key) as usize], Some(last) if last.more);
    while end > first_key && end - 1 > claimed && is_cut(end) {
        end -= 1;
    }
    end
}

/// A payload from one or several values.
#[derive(Default)]
struct Parts {
    payload: Vec<u8>,
    next: u8,
}

impl Parts {
    /// The payload, with its last part. None before that, and if its first parts are missing.
    fn whole(&mut self, value: &[u8]) -> Option<&[u8]> {
        let (header, part) = value::trusted(value);
        if header.part == 0 {
            self.payload.clear();
            self.next = 0;
        }
        if header.part != self.next {
            return None;
        }
        self.payload.extend_from_slice(part);
        self.next = header.part.saturating_add(1);
        (self.next == header.parts).then_some(&self.payload)
    }
}

/// Adds the keys of the payload's calls. A payload that does not decode is another version's; the lane that loads it
/// reports that.
fn named(payload: &[u8], written_us: i64, keys: &mut Keys) {
    for entry in PayloadReader::new(payload) {
        if let Ok(Entry::Call(call)) = entry {
            keys.add_call(&call, written_us);
        }
    }
}
