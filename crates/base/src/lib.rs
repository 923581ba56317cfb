//! Shared parts of all stages of tallyd.
//!
//! | module | content |
//! |---|---|
//! | [`clock`] | the time of day, passed in so that tests decide it |
//! | [`registry`] | every metric: name, labels, help |
//! | [`threads`] | the threads that the daemon begins with, asked for before they are needed |
//! | [`sync`] | the atomics where threads meet; a model checker's in a build with the feature `model` |
//! | [`failpoint`] | places where the fault tests break the daemon; empty without the feature `failpoints` |

#![warn(unreachable_pub)]

pub mod clock;
pub mod failpoint;
pub mod registry;
pub mod sync;
pub mod threads;
