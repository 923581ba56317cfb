//! From bytes to an accepted call: decode with borrowed strings, validate, price.
//!
//! [`raw`] is the one shape in which a record arrives, from MessagePack and from JSON alike. It takes anything that is
//! shaped like a record and remembers what is of the wrong type, so that [`admit`] can name the field; nothing in it is
//! trusted. [`array`] is a shorter way, for records that are as they should be. [`frame`] finds the records of a frame, and sees to it that a broken one is refused alone.
//!
//! What leaves is a [`tallyd_model::call::Call`]: within all bounds, normalised and priced.

pub mod admit;
pub mod array;
pub mod frame;
mod json_text;
pub mod line;
pub mod not_understood;
pub mod raw;
pub mod raw_value;
pub mod refusal;
pub mod stands_out;
mod vendors_id;

pub use admit::{Admission, Rules};
pub use raw::RawRecord;
pub use refusal::{Code, Refusal};

#[cfg(test)]
mod vectors_test;
