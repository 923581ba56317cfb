//! The users' rows of a batch.
//!
//! A batch has a row for each user who called, megabytes of them together, and users come in no order: what a call's row
//! costs is waiting for the cache lines that it touches. So the lines are few, and they are asked for in time.
//!
//! * *Few.* A row's key fills one line, with the user's name in it where it fits; its sums fill two. Day and provider are
//!   the same for most rows, and stand in a key as a small number, their [`Group`]. The index is open addressing in
//!   entries of 8 bytes: 32 bits of a hash, which also say where the entry belongs, and the row's number. So neither a
//!   look-up past another row nor a larger index has to visit the rows.
//! * *In time.* A chunk's calls are looked up together: [`Users::ask`] for the entries of all, [`Users::guess`] the row of
//!   each by its hash and ask for that, and only then compare names in [`Users::row`]. At each step the processor
//!   fetches many lines at once.
//!
//! A hash never decides: a row is a call's only if its whole key is the call's.

use std::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;

use super::{Name, UserSums, text};

/// A day and a provider, by number.
pub(super) type Group = u32;

/// Bytes of a user's name that stand in its row: what is left of a cache line.
const INLINE_BYTES: usize = 56;
const LINE_BYTES: usize = 64;
/// Entries of an index that holds nothing yet.
const ENTRIES_MIN: usize = 64;

/// Rows in the order of their appearance.
pub(super) struct Users<S = DefaultHashBuilder> {
    hasher: S,
    index: Index,
    keys: Vec<Key>,
    sums: Vec<Sums>,
    /// Users' names that do not fit their rows.
    names: String,
}

/// What a row is found by.
#[repr(C, align(64))]
struct Key {
    group: Group,
    /// Bytes of the name.
    len: u32,
    /// The name, or where in the arena it begins, if it does not fit.
    bytes: [u8; INLINE_BYTES],
}

/// A row's sums, on lines of their own.
#[derive(Default)]
#[repr(align(64))]
struct Sums(UserSums);

/// A user of a group: the look-up of one call.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    pub group: Group,
    pub user_id: &'a str,
    hash: u32,
}

impl<S: BuildHasher + Default> Users<S> {
    pub fn new() -> Self {
        let index = Index::with_entries(ENTRIES_MIN);
        Self { hasher: S::default(), index, keys: Vec::new(), sums: Vec::new(), names: String::new() }
    }

    /// How many rows there are.
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Begins a look-up.
    #[inline]
    pub fn wanted<'a>(&self, group: Group, user_id: &'a str) -> Wanted<'a> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(user_id.as_bytes());
        // An odd number, half of its bits set: groups differ in every part of the hash.
        let hash = hasher.finish() ^ u64::from(group).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Wanted { group, user_id, hash: (hash ^ hash >> 32) as u32 }
    }

    /// Asks for the index's entry.
    #[inline]
    pub fn ask(&self, wanted: Wanted<'_>) {
        prefetch(&self.index.entries[self.index.home(wanted.hash)]);
    }

    /// The row that is most likely the right one, asked for; [`Users::row`] tells whether it is.
    #[inline]
    pub fn guess(&self, wanted: Wanted<'_>) -> Option<u32> {
        let row = self.index.find(wanted.hash, |_| true)?;
        prefetch(&self.keys[row as usize]);
        prefetch(&self.sums[row as usize]);
        Some(row)
    }

    /// The row, which is added if there is none.
    #[inline]
    pub fn row(&mut self, wanted: Wanted<'_>, guess: Option<u32>) -> u32 {
        match guess {
            Some(row) if self.is(row, wanted) => row,
            _ => self.search(wanted),
        }
    }

    /// A row's sums.
    #[inline]
    pub fn sums(&self, row: u32) -> &UserSums {
        &self.sums[row as usize].0
    }

    /// A row's sums, to add to.
    #[inline]
    pub fn sums_mut(&mut self, row: u32) -> &mut UserSums {
        &mut self.sums[row as usize].0
    }

    /// A row's group and user.
    pub fn key(&self, row: u32) -> (Group, &str) {
        // It was copied from text.
        (self.keys[row as usize].group, std::str::from_utf8(self.name(row)).expect("a name is text"))
    }

    /// The bytes of a row's user's name.
    #[inline]
    pub fn name(&self, row: u32) -> &[u8] {
        let key = &self.keys[row as usize];
        let len = key.len as usize;
        match key.bytes.get(..len) {
            Some(bytes) => bytes,
            None => {
                let [a, b, c, d, ..] = key.bytes;
                text(&self.names, Name { start: u32::from_ne_bytes([a, b, c, d]), len: key.len }).as_bytes()
            }
        }
    }

    #[inline]
    fn is(&self, row: u32, wanted: Wanted<'_>) -> bool {
        self.keys[row as usize].group == wanted.group && self.name(row) == wanted.user_id.as_bytes()
    }

    #[cold]
    fn search(&mut self, wanted: Wanted<'_>) -> u32 {
        if let Some(row) = self.index.find(wanted.hash, |row| self.is(row, wanted)) {
            return row;
        }
        let user_id = wanted.user_id.as_bytes();
        let mut bytes = [0; INLINE_BYTES];
        match bytes.get_mut(..user_id.len()) {
            Some(inline) => inline.copy_from_slice(user_id),
            None => {
                // A batch's payloads are bounded to megabytes, and so are its names.
                bytes[..4].copy_from_slice(&(self.names.len() as u32).to_ne_bytes());
                self.names.push_str(wanted.user_id);
            }
        }
        // A batch has far fewer than 2^32 records.
        let row = self.keys.len() as u32;
        self.keys.push(Key { group: wanted.group, len: user_id.len() as u32, bytes });
        self.sums.push(Sums::default());
        self.index.insert(wanted.hash, row);
        row
    }
}

/// Rows by hash. A power of two of entries, no more than half of them taken; one whose place is taken stands in the
/// next free place after it.
struct Index {
    /// The hash in the upper half, the row's number and one in the lower; 0 is free.
    entries: Vec<u64>,
    taken: usize,
}

impl Index {
    fn with_entries(entries: usize) -> Self {
        Self { entries: vec![0; entries], taken: 0 }
    }

    /// Where an entry of that hash belongs.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.entries.len() - 1)
    }

    /// The first row of that hash that `is_row`.
    #[inline]
    fn find(&self, hash: u32, is_row: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        // Half of the entries are free, so the way ends.
        loop {
            let entry = self.entries[at];
            if entry == 0 {
                return None;
            }
            let row = entry as u32 - 1;
            if (entry >> 32) as u32 == hash && is_row(row) {
                return Some(row);
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
    }

    fn insert(&mut self, hash: u32, row: u32) {
        if 2 * (self.taken + 1) > self.entries.len() {
            let mut larger = Self::with_entries(4 * self.entries.len());
            for entry in self.entries.iter().filter(|entry| **entry != 0) {
                larger.put(*entry);
            }
            *self = larger;
        }
        self.put(u64::from(hash) << 32 | u64::from(row + 1));
    }

    fn put(&mut self, entry: u64) {
        let mut at = self.home((entry >> 32) as u32);
        while self.entries[at] != 0 {
            at = (at + 1) & (self.entries.len() - 1);
        }
        self.entries[at] = entry;
        self.taken += 1;
    }
}

/// Has the processor fetch all of an item's cache lines, without waiting for them.
#[inline]
fn prefetch<T>(item: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(item).cast::<i8>();
        for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
            // SAFETY: the instruction is a hint, which reads nothing and never faults, whatever the address; it belongs to SSE,
            // which every processor of this architecture has.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (item, LINE_BYTES);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::BuildHasherDefault;

    use proptest::prelude::*;

    use super::*;

    /// A hash of two bits: nearly everything collides.
    #[derive(Default)]
    struct Poor(u64);

    impl Hasher for Poor {
        fn finish(&self) -> u64 {
            self.0
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0 = bytes.len() as u64 % 4;
        }
    }

    fn wanted() -> impl Strategy<Value = (Group, String)> {
        let name = prop_oneof!["[ab]{0,3}", "[ab]{55,58}", (0..400_u32).prop_map(|user| format!("user-{user:032}"))];
        (0..3_u32, name)
    }

    /// Looks calls up in blocks, as the fold does, and holds each row to a plain map.
    fn rows_are_a_maps<S: BuildHasher + Default>(calls: &[(Group, String)], block: usize) {
        let mut users = Users::<S>::new();
        let mut expected: HashMap<(Group, &str), u32> = HashMap::new();
        for block in calls.chunks(block) {
            let wanted: Vec<_> = block.iter().map(|(group, user)| users.wanted(*group, user)).collect();
            wanted.iter().for_each(|wanted| users.ask(*wanted));
            // Rows that are added for one call of the block are not among the guesses for the next.
            let guesses: Vec<_> = wanted.iter().map(|wanted| users.guess(*wanted)).collect();
            for (wanted, guess) in wanted.iter().zip(guesses) {
                let next = expected.len() as u32;
                let row = *expected.entry((wanted.group, wanted.user_id)).or_insert(next);
                assert_eq!(users.row(*wanted, guess), row);
                users.sums_mut(row).measures.calls += 1;
            }
        }
        assert_eq!(users.len(), expected.len());
        for (key, row) in &expected {
            assert_eq!(users.key(*row), *key);
            let calls = calls.iter().filter(|(group, user)| (*group, user.as_str()) == *key).count();
            assert_eq!(users.sums(*row).measures.calls, calls as i64);
        }
    }

    proptest! {
        #[test]
        fn every_row_is_that_of_its_whole_key(calls in prop::collection::vec(wanted(), 0..600), block in 1..100_usize) {
            rows_are_a_maps::<DefaultHashBuilder>(&calls, block);
            rows_are_a_maps::<BuildHasherDefault<Poor>>(&calls, block);
        }
    }

    #[test]
    fn a_row_is_three_cache_lines() {
        assert_eq!((size_of::<Key>(), size_of::<Sums>()), (LINE_BYTES, 2 * LINE_BYTES));
    }
}
