//! Fail points: named places where the fault tests kill, stop, delay or mislead the daemon.
//!
//! They exist only in a build with the feature `failpoints`, which `tests/faults` makes for itself; everywhere else
//! [`hit`] is empty, and the compiler removes it. The environment variable `FAILPOINTS` gives the action of each, in the notation
//! of the crate `fail`: `wal.flushed=20*off->return(kill)` kills the daemon the 21st time that it gets there.
//!
//! | action | effect |
//! |---|---|
//! | `return(kill)` | SIGKILL: nothing is cleaned up, nothing is flushed |
//! | `return(stop)` | SIGSTOP: the whole process stands still until somebody sends SIGCONT |
//! | `return(N)`, `return` | the place has its documented effect with the number N, or with 0 |
//! | `panic`, `sleep(ms)` | as `fail` has them |

/// Passes the fail point `name`. None unless a test says otherwise.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn hit(_name: &str) -> Option<i64> {
    None
}

/// Passes the fail point `name`. None unless a test says otherwise.
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
    // To the process, by the name of this thread: so it is this thread that takes the signal, before it goes on. A process
    // may always send itself one.
    let _ = kill_process(gettid(), signal);
    None
}

/// Reads `FAILPOINTS`. Its settings hold until the returned scenario is dropped.
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
