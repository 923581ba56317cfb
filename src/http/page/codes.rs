//! Codes that sign in once.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Microseconds until a code expires.
const LIFE_US: i64 = 15 * 60 * 1_000_000;
/// Microseconds until a code that was given back expires: the page tries it again within seconds.
const RETRY_US: i64 = 60 * 1_000_000;
/// The most codes that are valid at the same time; the oldest go.
const CODES_MAX: usize = 8;

/// The unused codes, by their SHA-256, with their expiry in microseconds.
#[derive(Default)]
pub(crate) struct Codes(Mutex<Vec<([u8; 32], i64)>>);

impl Codes {
    /// Makes a code: 256 random bits from the operating system, in hexadecimal.
    #[must_use]
    pub(crate) fn make(&self, now_us: i64) -> String {
        let code = hex::encode(rand::random::<[u8; 32]>());
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|(_, until)| *until > now_us);
        if codes.len() == CODES_MAX {
            codes.remove(0);
        }
        codes.push((Sha256::digest(&code).into(), now_us + LIFE_US));
        code
    }

    /// Makes a used code valid again, because it has signed nobody in. It keeps its time of expiry, or gets a little
    /// longer.
    pub(crate) fn give_back(&self, code: &str, now_us: i64) {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.len() < CODES_MAX {
            codes.push((Sha256::digest(code).into(), now_us + RETRY_US));
        }
    }

    /// Uses a code up. True if it was valid.
    #[must_use]
    pub(crate) fn redeem(&self, code: &str, now_us: i64) -> bool {
        let digest: [u8; 32] = Sha256::digest(code).into();
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|(_, until)| *until > now_us);
        let found = codes.iter().position(|(known, _)| known.ct_eq(&digest).into());
        found.map(|at| codes.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_signs_in_once_and_in_time() {
        let codes = Codes::default();
        let (one, two) = (codes.make(0), codes.make(5));
        assert_ne!(one, two);
        assert!(!codes.redeem("", 1) && !codes.redeem(&two[1..], 1));
        assert!(codes.redeem(&one, 1));
        assert!(!codes.redeem(&one, 1), "once");
        assert!(!codes.redeem(&two, 5 + LIFE_US), "in time");
        codes.give_back(&one, 7);
        assert!(codes.redeem(&one, 8) && !codes.redeem(&one, 9), "once more");
        codes.give_back(&one, 7);
        assert!(!codes.redeem(&one, 7 + RETRY_US), "and not for long");
    }

    #[test]
    fn of_many_the_newest_wait() {
        let codes = Codes::default();
        let made: Vec<_> = (0..=CODES_MAX).map(|_| codes.make(0)).collect();
        assert!(!codes.redeem(&made[0], 1));
        assert!(made[1..].iter().all(|code| codes.redeem(code, 1)));
    }
}
