//! Threads that the daemon cannot do without, asked for before they are needed.
//!
//! Where the system refuses a thread (an address space, a number of processes or a control group that is too small),
//! two libraries wait for ever rather than fail: sled for the answers of a pool that has no threads and says so
//! nowhere, tokio for the workers of a runtime that is given up half-made. So as many threads as both begin with are made
//! here first, all at once, and a refusal is an error. The C library keeps the memory of their stacks for the next ones.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder};

/// Beside the runtime's workers: sled's 7 at its first use, the WAL's writer, and some to spare.
const BESIDES: usize = 14;

/// Fails if this process cannot have the threads that it begins with, `workers` of a runtime among them. Once it could, it
/// is not tried again.
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
        // Before the scope ends, which waits for them.
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
