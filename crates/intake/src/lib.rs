//! From bytes to an accepted call: decodes with borrowed strings, validates, prices.
//!
//! [`raw`] is the one form of a received record, from MessagePack and from JSON. It accepts anything that is shaped
//! like a record and remembers values of the wrong type, so that [`admit`] can name the field; none of its values are
//! trusted. [`array`] is a fast path for correct records. [`frame`] finds the records of a frame, so that a broken one
//! is refused alone.
//!
//! [`Admission::admit`] is the one way in: for records of frames, lines, requests and OTLP, the daemon's own, retried
//! dead letters, and calls whose price is requested.
//!
//! The result is a [`tallyd_model::call::Call`]: within all bounds, normalised and priced.
//!
//! Other foreign input is read here, too: the bodies of requests ([`body`], [`otlp`]), which become lines with the tags of the request ([`tagged`]), and a
//! token's header ([`token`]). All of it is a function of bytes, the configuration, the prices and a given time: no
//! file, no network, no metrics, no async runtime. Only the id of a record without one has random bits. Fuzzers and
//! tests call it as the daemon does.

#![warn(unreachable_pub)]

mod admit;
pub mod array;
pub mod body;
pub mod frame;
mod json_text;
pub mod not_understood;
pub mod otlp;
pub mod raw;
pub mod raw_value;
pub mod refusal;
mod rules;
pub mod stands_out;
pub mod tagged;
pub mod tags;
pub mod token;

pub use admit::{Absent, Encoded};
pub use raw::RawRecord;
pub use refusal::{Code, Refusal};
pub use rules::{Admission, Rules};

#[cfg(test)]
mod vectors_test;
