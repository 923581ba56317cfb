//! The one place that reads the wall clock, and times to come.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC; 0 on a machine whose clock says that it is earlier. Through the vDSO: no system call.
#[expect(
    clippy::disallowed_methods,
    reason = "a leaf library that stamps calls as they are made has no one to pass it a clock"
)]
pub fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The instant after `wait`, which counts for a year at most: `Duration::MAX` is a way to say "for ever", and adding it
/// to an `Instant` panics.
pub fn after(wait: Duration) -> Instant {
    Instant::now() + wait.min(Duration::from_secs(365 * 24 * 3600))
}
