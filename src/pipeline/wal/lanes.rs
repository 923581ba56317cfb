//! Which lane of the flusher loads which chunk.
//!
//! A lane owns stripes of keys: `stripe(key) mod lanes`. The rule is fixed for the life of a segment (its `.open` file
//! records the number of lanes), so a lane's watermark, one number, says exactly what is in PostgreSQL: every chunk of
//! the lane up to that key, and none after it. Handing batches to whichever lane is free would need a list of ranges.
//!
//! A chunk belongs to the lane of its first part's key, however many parts it has.

/// Keys of a stripe. Under light load one stripe takes a while to fill, so a single lane works and transactions are
/// few; under heavy load the lanes share evenly.
pub const STRIPE_KEYS: u64 = 16;

/// The lane that loads the chunk whose first part has this key.
#[must_use]
pub const fn lane_of(first_part_key: u64, lanes: u16) -> u16 {
    (first_part_key / STRIPE_KEYS % lanes as u64) as u16
}

/// The first key at or after `key` that could begin a chunk of `lane`. None if the segment has no such lane.
#[must_use]
pub const fn next_key_of(key: u64, lane: u16, lanes: u16) -> Option<u64> {
    if lane >= lanes {
        return None;
    }
    let stripe = key / STRIPE_KEYS;
    let behind = (lane as u64 + lanes as u64 - stripe % lanes as u64) % lanes as u64;
    if behind == 0 { Some(key) } else { Some((stripe + behind) * STRIPE_KEYS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_lane_and_the_next_key_is_found_by_counting() {
        for lanes in 1..5 {
            for key in 0..200 {
                for lane in 0..lanes {
                    let counted = (key..).find(|key| lane_of(*key, lanes) == lane);
                    assert_eq!(next_key_of(key, lane, lanes), counted, "key {key}, lane {lane} of {lanes}");
                }
                assert_eq!(next_key_of(key, lanes, lanes), None);
            }
        }
    }
}
