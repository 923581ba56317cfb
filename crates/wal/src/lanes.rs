//! Assigns chunks to the flusher's lanes.
//!
//! A chunk has one lane, which its values name ([`super::value`]). So a lane's watermark, one number, exactly describes
//! the content of PostgreSQL: every chunk of the lane up to that key, and none after it. If any free lane could take
//! any batch, a list of ranges would be needed.
//!
//! * Under load users are hashed to lanes ([`crate::chunk::BundleBuilder`]), and a chunk comes with its lane.
//! * Small chunks go to the first lane while few records wait: one transaction does the work of two, which would update
//!   the same rollup rows. Behind a backlog such chunks go to all lanes in stripes of keys.
//! * A WAL of format 1 has stripes only.
//!
//! A chunk belongs to one lane, however many parts it has. A segment's number of lanes is fixed in its `.open` file.

use super::value::Header;

/// Keys per stripe.
const STRIPE_KEYS: u64 = 16;
/// The number of waiting records from which on other lanes take small chunks, too: half a second of the first lane's
/// work.
const BACKLOG_RECORDS: u64 = 100_000;

/// The number of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lanes(pub u16);

impl Lanes {
    /// The lane of a new chunk whose first value gets this key. `hint` is the lane of its users, if users were hashed
    /// to lanes; `waiting_records` are still to be loaded.
    #[must_use]
    pub(crate) fn for_chunk(self, hint: Option<u16>, first_key: u64, waiting_records: u64) -> u16 {
        match hint {
            Some(hint) if hint < self.0 => hint,
            _ if waiting_records < BACKLOG_RECORDS => 0,
            _ => self.by_key(first_key),
        }
    }

    /// The lane of the chunk whose first value has this key and header.
    #[must_use]
    pub(crate) fn of_value(self, first_key: u64, header: &Header<'_>) -> u16 {
        header.lane.filter(|lane| *lane < self.0).unwrap_or_else(|| self.by_key(first_key))
    }

    /// The lane that handles a key without a readable value.
    #[must_use]
    pub(crate) const fn by_key(self, first_key: u64) -> u16 {
        (first_key / STRIPE_KEYS % self.0 as u64) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_the_first_lanes_until_they_wait() {
        let lanes = Lanes(3);
        assert!((0..200).all(|key| lanes.for_chunk(None, key, BACKLOG_RECORDS - 1) == 0));
        let spread: Vec<_> =
            (0..4).map(|stripe| lanes.for_chunk(None, stripe * STRIPE_KEYS, BACKLOG_RECORDS)).collect();
        assert_eq!(spread, [0, 1, 2, 0]);
        assert_eq!(lanes.for_chunk(Some(2), 0, 0), 2);
        assert_eq!(lanes.for_chunk(Some(3), 5, 0), 0, "a lane that is not there");
    }
}
