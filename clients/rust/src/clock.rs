//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC; 0 on a machine whose clock says that it is earlier. Through the vDSO: no system call.
#[expect(
    clippy::disallowed_methods,
    reason = "a leaf library that stamps calls as they are made has no one to pass it a clock"
)]
pub fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
