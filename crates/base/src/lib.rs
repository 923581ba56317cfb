//! Shared parts of all stages of tallyd.
//!
//! | module | content |
//! |---|---|
//! | [`clock`] | the time of day, passed in so that tests can set it |
//! | [`registry`] | every metric: name, labels, help |
//! | [`threads`] | checks at the start that the daemon can have its threads |
//! | [`sync`] | the atomics where threads meet; a model checker's in a build with the feature `model` |
//! | [`failpoint`] | places where the fault tests break the daemon; empty without the feature `failpoints` |

#![warn(unreachable_pub)]

pub mod clock;
pub mod failpoint;
pub mod registry;
pub mod sync;
pub mod threads;
