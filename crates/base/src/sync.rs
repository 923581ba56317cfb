//! The atomics where threads meet, exchangeable: with the feature `model` they are loom's, which tries every order of
//! the threads' steps, and every value that a load may return.
//!
//! Only our own code that depends on order uses these (`tallyd_wal::channel`); the models beside it run the code
//! itself, not a copy. The synchronisation of other crates (tokio's `Notify` and semaphore, crossbeam's channel) is
//! trusted, because loom cannot see into it. A call of [`step`] before each use tells loom that another thread may run
//! first, and that its effects are visible.
//!
//! `make test` runs the models with few preemptions, `make model` without a bound on them.

#[cfg(feature = "model")]
pub use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering};
#[cfg(not(feature = "model"))]
pub use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Marks the use of another crate's synchronisation. Empty outside of models.
#[cfg(not(feature = "model"))]
#[inline(always)]
pub const fn step() {}

/// Marks the use of another crate's synchronisation.
#[cfg(feature = "model")]
pub fn step() {
    loom::lazy_static! {
        static ref ORDER: AtomicU64 = AtomicU64::new(0);
    }
    ORDER.fetch_add(1, Ordering::SeqCst);
}
