//! tallyd's wire protocol, version 2: the messages between an application and the daemon.
//!
//! A connection carries frames: a `u32` big-endian length, then one MessagePack value. The normative text, with
//! byte-exact examples, is this crate's `README.md`; the examples themselves are files in `clients/vectors/`.
//!
//! | module | content |
//! |---|---|
//! | [`for_each_field`] | the one list of a record's fields |
//! | [`record`] | [`Record`]: one paid API call as a client describes it, and its encoding |
//! | [`message`] | [`ClientMessage`], [`ServerMessage`]: the frames' contents |
//! | [`budgets`] | [`Budgets`]: the state of budgets, as the daemon sends it |
//! | [`check`] | [`Checker`]: compares a call with that state |
//! | [`tags`] | the stored form of an API key |
//! | [`frame`] | length prefixes: written, and checked before anything is allocated |
//! | [`scan`] | finds the end of a MessagePack value without decoding it |
//! | [`limits`] | the default bounds, which both sides use |
//! | [`id`] | UUID version 7 from a time and random bits |
//!
//! The crate is light, so that an application that records does not build the daemon.

pub mod budgets;
pub mod check;
mod fields;
pub mod frame;
pub mod id;
pub mod limits;
pub mod message;
pub mod record;
pub mod scan;
pub mod tags;

pub use budgets::{Budget, Budgets};
pub use check::{BudgetExceeded, CallScope, Checker, Decision};
pub use message::{Ack, AckMode, ClientMessage, ErrorFrame, Hello, Rejection, ServerMessage, Warning, Watch, Welcome};
pub use record::Record;

/// The protocol version that this crate speaks, sent in [`Hello`] and answered in [`Welcome`].
pub const PROTOCOL_VERSION: u32 = 2;
