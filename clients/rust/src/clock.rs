//! The only code that reads the wall clock, and times in the future.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC; 0 if the machine's clock is before 1970. Through the vDSO, without a system call.
#[expect(
    clippy::disallowed_methods,
    reason = "a leaf library that stamps calls as they are made has no one to pass it a clock"
)]
pub fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The instant after `wait`, a year at most: adding `Duration::MAX`, a way to say "for ever", to an `Instant` would panic.
pub fn after(wait: Duration) -> Instant {
    Instant::now() + wait.min(Duration::from_secs(365 * 24 * 3600))
}
