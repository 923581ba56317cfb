//! From bytes to an accepted call: decode with borrowed strings, validate, price.
//!
//! [`raw`] is the one shape in which a record arrives, from MessagePack and from JSON alike. It takes anything that is shaped
//! like a record and remembers values of the wrong type, so that [`admit`] can name the field; nothing in it is
//! trusted. [`array`] is a shorter way, for records that are as they should be. [`frame`] finds the records of a frame, and sees to it that a
//! broken one is refused alone.
//!
//! [`Admission::admit`] is the one way in, for the records of frames, lines, requests, OTLP, the program's own, dead letters that are
//! retried, and calls whose price is asked for.
//!
//! The result is a [`tallyd_model::call::Call`]: within all bounds, normalised and priced.
//!
//! Other input of strangers is read here, too: the bodies of requests ([`body`], [`otlp`]), which become lines, and a token's header
//! ([`token`]). All of it is a function of bytes, the configuration, the prices and a time that is handed in: no file, no network, no
//! metrics, no async runtime. Only the id of a record without one has random bits. Fuzzers and tests call it as the daemon does.

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
mod tags;
pub mod token;

pub use admit::{Absent, Encoded};
pub use raw::RawRecord;
pub use refusal::{Code, Refusal};
pub use rules::{Admission, Rules};

#[cfg(test)]
mod vectors_test;
