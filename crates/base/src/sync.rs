//! The atomics where threads meet, exchangeable: with the feature `model` they are loom's, which tries every order in
//! which threads can run, and every value that a load may see.
//!
//! Only our own code that depends on order goes through here (`tallyd_wal::channel`); the models beside it run the
//! code itself, not a copy. What other crates synchronise (tokio's `Notify` and semaphore, crossbeam's channel) is taken at
//! its word: it is opaque to loom, and [`step`] before each use says that another thread may run first, and that its effects are seen.
//!
//! `make test` runs the models with few preemptions, `make model` with as many as there can be.

#[cfg(feature = "model")]
pub use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering};
#[cfg(not(feature = "model"))]
pub use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A use of something that synchronises by itself follows. Nothing outside of models.
#[cfg(not(feature = "model"))]
#[inline(always)]
pub const fn step() {}

/// A use of something that synchronises by itself follows.
#[cfg(feature = "model")]
pub fn step() {
    loom::lazy_static! {
        static ref ORDER: AtomicU64 = AtomicU64::new(0);
    }
    ORDER.fetch_add(1, Ordering::SeqCst);
}
