//! What went wrong, told once a kind on standard error: neither a loss nor a daemon that is not there goes unseen.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};

/// A kind of notice, one bit each.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Notice {
    Dropped = 1,
    Refused = 2,
    Away = 4,
    Warned = 8,
    Lost = 16,
}

/// Which kinds were told already.
pub struct Notices(AtomicU8);

impl Notices {
    /// `quiet`: tells nothing.
    pub fn new(quiet: bool) -> Self {
        Self(AtomicU8::new(if quiet { u8::MAX } else { 0 }))
    }

    /// Tells the first of its kind.
    pub fn tell(&self, kind: Notice, message: fmt::Arguments<'_>) {
        let bit = kind as u8;
        if self.0.load(Ordering::Relaxed) & bit == 0 && self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            // Nobody is there to hear that it cannot be told. `eprintln` would panic.
            let _ = writeln!(io::stderr(), "tallyd: {message}");
        }
    }
}
