//! Finds values in a store's file without sled: if the store does not open, or opens without most of its values.
//!
//! sled stops reading its file at the first damaged message, and cannot reach anything after it. The values are still
//! there: uncompressed, each contiguous, with its length before it (sled 0.34's `serialization.rs`: one byte up to 240,
//! two up to 2,287, three up to 67,823). So each place that looks like the beginning of a value is tried, and the
//! value's own checksum, which includes its key, decides. A wrong place passes with a chance of one in 2^32 for each
//! key tried.
//!
//! The key is elsewhere in sled's page. But a value has the highest synced key at its writing, and its own key is one
//! of the next ones.
//!
//! ## The original file
//! sled repairs a store when it opens it: it treats the file as empty behind the first damaged message, and writes
//! there. A value that one flipped bit hides from sled would then be lost, with all others behind it. So the file is
//! first copied, inside the store's folder, and moved or deleted with it. The copy is not synced: it serves as
//! evidence, and each value in it has its own checksum. It takes some milliseconds when a store is opened, at a start
//! and behind a backlog; nothing on file systems that share blocks.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::identity::Proof;
use crate::value::{self, FORMAT, FORMAT_1, FORMAT_2, HEADER_BYTES, VALUE_BYTES_MAX};

/// Largest distance of a value's key from its last synced key. Groups have at most 64 values; if syncs are rare, more
/// are written between two.
const KEYS_TRIED: u64 = 16 * 1024;

/// Every value in the file's bytes with one of these keys, by key.
pub(crate) fn values(file: &[u8], keys: &RangeInclusive<u64>) -> BTreeMap<u64, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut at = 0;
    let is_format = |byte: &u8| matches!(*byte, FORMAT_1 | FORMAT_2 | FORMAT);
    while let Some(next) = file.get(at..).and_then(|rest| rest.iter().position(is_format)) {
        at += next;
        if let Some(bytes) = value_at(file, at)
            && let Some(key) = key_of(bytes, keys)
        {
            found.insert(key, bytes.to_vec());
            at += bytes.len();
        } else {
            at += 1;
        }
    }
    found
}

/// The bytes that could be a value, by the length before them.
fn value_at(file: &[u8], at: usize) -> Option<&[u8]> {
    let head = file.get(at..at + HEADER_BYTES)?;
    let [_, part, parts, ..] = *head else { return None };
    let producer_bytes = usize::from(u16::from_le_bytes([head[64], head[65]]));
    if part >= parts {
        return None;
    }
    let byte = |back: usize| at.checked_sub(back).map(|at| usize::from(file[at]));
    let short = byte(1).filter(|length| *length <= 240);
    let medium = byte(2).filter(|first| (241..=248).contains(first)).zip(byte(1));
    let medium = medium.map(|(first, second)| 240 + 256 * (first - 241) + second);
    let long = byte(3).filter(|first| *first == 249).and(byte(2).zip(byte(1)));
    let long = long.map(|(second, third)| 2288 + 256 * second + third);
    let fits = |length: &usize| (HEADER_BYTES + producer_bytes..=VALUE_BYTES_MAX).contains(length);
    // The last byte of a longer length may look like a short one: the longest is tried first, and the checksum decides.
    let lengths = [long, medium, short].into_iter().flatten().filter(fits);
    lengths.filter_map(|length| file.get(at..at + length)).find(|bytes| is_whole(bytes))
}

/// Compares lengths before any key is tried: cheap, and rarely wrong.
fn is_whole(bytes: &[u8]) -> bool {
    // A producer's name is text, with a proof before it; a value without a producer has neither.
    let producer_bytes = usize::from(u16::from_le_bytes([bytes[64], bytes[65]]));
    let proof_bytes = if bytes[0] == FORMAT && producer_bytes > 0 { size_of::<Proof>() } else { 0 };
    let name = bytes.get(HEADER_BYTES + proof_bytes..HEADER_BYTES + producer_bytes);
    name.is_some_and(|name| std::str::from_utf8(name).is_ok())
}

fn key_of(bytes: &[u8], keys: &RangeInclusive<u64>) -> Option<u64> {
    let synced = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    let first = synced.checked_add(1)?.max(*keys.start());
    // After a leap, the first values were written long after the last sync before it.
    value::key_of(bytes, first..=first.saturating_add(KEYS_TRIED).min(*keys.end()))
}

/// The copy's name in the store's folder. sled reads only its own names.
const NAME: &str = "original";

/// sled's file.
const DB: &str = "db";

fn original(store: &Path) -> PathBuf {
    store.join(NAME)
}

/// The bytes of a store's file before this opening by sled, and those before the first one.
pub(crate) fn files(store: &Path) -> Vec<Vec<u8>> {
    [store.join(DB), original(store)].into_iter().filter_map(|file| fs::read(file).ok()).collect()
}

/// Copies the file, unless there is a copy. Without room for it the store is opened all the same.
pub(crate) fn keep_original(store: &Path) {
    let kept = original(store);
    if kept.exists() {
        return;
    }
    let unfinished = kept.with_extension("new");
    let copied = fs::copy(store.join(DB), &unfinished).and_then(|_| fs::rename(&unfinished, &kept));
    match copied {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(store = %store.display(), %error, "a segment is opened without a copy of its file");
            // A partial copy is useless; it is deleted with the folder at the latest.
            let _ = fs::remove_file(&unfinished);
        }
        _ => {}
    }
}

/// Deletes the copy of a store that turned out to be undamaged.
pub(crate) fn forget_original(store: &Path) {
    // It is deleted with the folder at the latest.
    let _ = fs::remove_file(original(store));
}

#[cfg(test)]
mod tests {
    use super::super::Engine;
    use super::*;
    use crate::chunk::Chunk;
    use crate::value::{Stamp, encode, parts_of};

    /// A store of values of every length class, by key, and its file's bytes.
    fn store(folder: &std::path::Path) -> (BTreeMap<u64, Vec<u8>>, Vec<u8>) {
        let store = Engine::Sled.create(folder).unwrap();
        let mut values = BTreeMap::new();
        for key in 1_000..1_400_u64 {
            let payload: Vec<u8> = (0..key * 97 % 7_000).map(|at| (at * key) as u8).collect();
            let chunk = Chunk::of_bytes(1, payload);
            let stamp = Stamp {
                synced: 999 + (key - 1_000) / 64 * 64,
                written_us: 5,
                producer: "p",
                proof: Proof([0xff; 16]),
                lane: 1,
                more: false,
            };
            if parts_of(chunk.payload.len(), stamp.producer) == 1 {
                let mut value = Vec::new();
                encode(&mut value, key, stamp, &chunk, 0, 1);
                store.insert(key, &value).unwrap();
                values.insert(key, value);
            }
            if key % 64 == 0 {
                store.flush().unwrap();
            }
        }
        store.flush().unwrap();
        drop(store);
        (values, std::fs::read(folder.join("db")).unwrap())
    }

    #[test]
    fn every_value_is_found_in_the_file_and_none_under_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let (written, file) = store(&folder.path().join("store"));
        assert_eq!(values(&file, &(1..=2_000)), written);
        assert_eq!(values(&file, &(1..=1_099)).keys().max(), Some(&1_099), "only what is asked for");
    }

    #[test]
    fn a_value_with_a_flipped_bit_is_not_found_and_the_others_are() {
        let folder = tempfile::tempdir().unwrap();
        let (written, mut file) = store(&folder.path().join("store"));
        let broken = &written[&1_071];
        let places: Vec<_> = (0..file.len() - broken.len()).filter(|at| file[*at..].starts_with(broken)).collect();
        assert!(!places.is_empty());
        for at in places {
            file[at + broken.len() / 2] ^= 4;
        }
        let found = values(&file, &(1..=2_000));
        assert_eq!(found.len(), written.len() - 1);
        assert!(!found.contains_key(&1_071));
    }

    #[test]
    fn any_bytes_are_searched_without_a_panic() {
        for seed in 0..200_u64 {
            let noise: Vec<u8> = (0..500_u64).map(|at| ((at ^ seed).wrapping_mul(at + seed) >> 3) as u8 & 3).collect();
            assert!(values(&noise, &(1..=100)).is_empty());
        }
    }
}
