//! Random bits for ids and jitter: two SplitMix64 streams (Steele, Lea, Flood: "Fast splittable pseudorandom number
//! generators", 2014), so that an id depends on 128 bits of seed. Not for secrets.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A generator of 128 random bits a step. Each sender thread has its own.
#[derive(Debug)]
pub struct Rng {
    high: u64,
    low: u64,
}

impl Rng {
    /// Seeds from the operating system's entropy, through the keys that the standard library draws for its maps.
    pub fn from_entropy() -> Self {
        Self { high: seed(1), low: seed(2) }
    }

    /// 128 random bits.
    pub fn next_u128(&mut self) -> u128 {
        u128::from(step(&mut self.high)) << 64 | u128::from(step(&mut self.low))
    }

    /// A number below `bound`, uniform enough for jitter; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        step(&mut self.low).checked_rem(bound).unwrap_or(0)
    }
}

fn seed(stream: u64) -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(stream);
    hasher.write_u32(std::process::id());
    hasher.finish()
}

fn step(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_published_one() {
        // The first outputs of the reference implementation for seed 1234567.
        let mut state = 1_234_567;
        let first: Vec<u64> = (0..3).map(|_| step(&mut state)).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn two_generators_differ() {
        assert_ne!(Rng::from_entropy().next_u128(), Rng::from_entropy().next_u128());
        assert_eq!(Rng::from_entropy().below(0), 0);
    }
}
