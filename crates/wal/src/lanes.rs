//! Which lane of the flusher loads which chunk.
//!
//! A chunk has one lane, which stands in its values ([`super::value`]), so a lane's watermark, one number, says exactly
//! what is in PostgreSQL: every chunk of the lane up to that key, and none after it. Handing batches to any free lane would need
//! a list of ranges.
//!
//! * Under load lanes share the users ([`crate::chunk::BundleBuilder`]), and a chunk comes with its lane.
//! * Small chunks go to the first lane, as long as few records wait: one transaction does where two would touch the
//!   same rollups' rows. Behind a backlog such chunks go to all lanes in stripes of keys.
//! * Logs of format 1 know stripes alone.
//!
//! A chunk belongs to one lane, however many parts it has. How many lanes there are is fixed for the life of a segment: its
//! `.open` file says it.

use super::value::Header;

/// Keys of a stripe.
const STRIPE_KEYS: u64 = 16;
/// The number of waiting records from which other lanes help with small chunks: half a second of the first lane's work.
const BACKLOG_RECORDS: u64 = 100_000;

/// The number of lanes, and the rule by which they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lanes(pub u16);

impl Lanes {
    /// The lane of a chunk that is written now, whose first value will have this key. `hint` is the lane that its users
    /// belong to, if they were shared out; so many records wait to be loaded.
    #[must_use]
    pub(crate) fn for_chunk(self, hint: Option<u16>, first_key: u64, waiting_records: u64) -> u16 {
        match hint {
            Some(hint) if hint < self.0 => hint,
            _ if waiting_records < BACKLOG_RECORDS => 0,
            _ => self.by_key(first_key),
        }
    }

    /// The lane of the chunk whose first value is this one, under this key.
    #[must_use]
    pub(crate) fn of_value(self, first_key: u64, header: &Header<'_>) -> u16 {
        header.lane.filter(|lane| *lane < self.0).unwrap_or_else(|| self.by_key(first_key))
    }

    /// The lane that speaks for a key under which nothing can be read.
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
