//! The time of day, passed in, so that tests can set it.
//!
//! It does not measure durations, because a wall clock may be set back. Use `std::time::Instant` for those.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of the time of day.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01T00:00:00Z; negative before it.
    fn now_us(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now_us(&self) -> i64 {
        unix_us(SystemTime::now()) + crate::failpoint::hit("clock.ahead_us").unwrap_or(0)
    }
}

/// A clock that changes only when it is set. Share it through an `Arc`, or by reference.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock set to `now_us`.
    #[must_use]
    pub const fn at(now_us: i64) -> Self {
        Self(AtomicI64::new(now_us))
    }

    /// Sets the time, forwards or backwards.
    pub fn set(&self, now_us: i64) {
        self.0.store(now_us, Ordering::SeqCst);
    }

    /// Moves the time by `by_us` microseconds, backwards if negative.
    pub fn advance(&self, by_us: i64) {
        self.0.fetch_add(by_us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Microseconds since 1970, in both directions. Times beyond an `i64`, 292,000 years away, become its end.
fn unix_us(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_system_clock_counts_microseconds_of_this_era() {
        // 2024-01-01 and 2200-01-01: seconds or milliseconds would be far outside.
        let now_us = SystemClock.now_us();
        assert!((1_704_067_200_000_000..7_258_118_400_000_000).contains(&now_us), "{now_us}");
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(unix_us(UNIX_EPOCH), 0);
        assert_eq!(unix_us(UNIX_EPOCH + Duration::from_micros(7)), 7);
        assert_eq!(unix_us(UNIX_EPOCH - Duration::from_micros(7)), -7);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(5);
        clock.advance(10);
        assert_eq!(clock.now_us(), 15);
        clock.advance(-20);
        assert_eq!(clock.now_us(), -5);
        clock.set(1);
        let shared: &dyn Clock = &clock;
        assert_eq!(shared.now_us(), 1);
    }
}
