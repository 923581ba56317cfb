//! Checks at the start that the daemon can have its threads.
//!
//! If the system refuses a thread (because of the address space, or a limit on processes or of a control group), two
//! libraries wait for ever rather than fail. The engine sled waits for a pool without threads; tokio waits for the
//! workers of a half-made runtime. So as many threads as both begin with are first made here, all at once, and a
//! refusal is an error. The C library keeps the memory of their stacks for the next ones.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder};

/// Threads beside the runtime's workers: sled's 7 at its first use, the WAL's writer, and some spare ones.
const BESIDES: usize = 14;

/// Fails if this process cannot have its initial threads, including `workers` of a runtime. After a success it does not
/// check again.
///
/// # Errors
/// The system's refusal.
pub fn assure(workers: usize) -> io::Result<()> {
    static MADE: AtomicBool = AtomicBool::new(false);
    if MADE.load(Ordering::Relaxed) {
        return Ok(());
    }
    let needed = workers + BESIDES;
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let closed = gate.lock();
        let made = (0..needed).try_for_each(|_| Builder::new().spawn_scoped(scope, || drop(gate.lock())).map(drop));
        // Before the end of the scope, which waits for the threads.
        drop(closed);
        made
    })
    .map_err(|error| {
        let message = format!(
            "this process cannot have {needed} threads: {error}. Raise its limits: on address space (ulimit -v), \
             processes (ulimit -u), or its control group's pids.max"
        );
        io::Error::new(error.kind(), message)
    })?;
    MADE.store(true, Ordering::Relaxed);
    Ok(())
}
