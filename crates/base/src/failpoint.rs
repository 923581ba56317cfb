//! Fail points: named places where the fault tests kill, stop, delay or mislead the daemon.
//!
//! They exist only in a build with the feature `failpoints`, which `tests/faults` makes for itself; in others [`hit`]
//! is empty, and the compiler removes it. The environment variable `FAILPOINTS` gives each an action, in the notation
//! of the crate `fail`: `wal.flushed=20*off->return(kill)` kills the daemon at the 21st hit.
//!
//! | action | effect |
//! |---|---|
//! | `return(kill)` | SIGKILL: nothing is cleaned up, nothing is flushed |
//! | `return(stop)` | SIGSTOP: the whole process stops until SIGCONT |
//! | `return(N)`, `return` | the place has its documented effect with the number N, or with 0 |
//! | `panic`, `sleep(ms)` | as in `fail` |

/// Passes the fail point `name`. None unless a test gives it an action.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn hit(_name: &str) -> Option<i64> {
    None
}

/// Passes the fail point `name`. None unless a test gives it an action.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) -> Option<i64> {
    use rustix::process::{Signal, kill_process};
    use rustix::thread::gettid;

    let told = told(name)?;
    let signal = match told.as_str() {
        "kill" => Signal::KILL,
        "stop" => Signal::STOP,
        number => return Some(number.parse().unwrap_or(0)),
    };
    // Sent to this thread's id, so that this thread takes the signal before it continues. A process may always signal
    // itself.
    let _ = kill_process(gettid(), signal);
    None
}

/// Reads `FAILPOINTS`. Its settings apply until the returned scenario is dropped.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn set_up() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

#[cfg(feature = "failpoints")]
fn told(name: &str) -> Option<String> {
    fail::fail_point!(name, |argument: Option<String>| Some(argument.unwrap_or_default()));
    None
}
