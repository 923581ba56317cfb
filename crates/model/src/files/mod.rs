//! Files as people and programs write them, for every command that reads one: encodings, separators, numbers, dates.
//!
//! Nothing here is guessed. A byte order mark and Excel's `sep=` line say how a file is written; the rest is said by flags.

mod dates;
mod numbers;
mod text;

pub use dates::{DateOrder, Epoch, day, instant};
pub use numbers::Numbers;
pub use text::{Utf8, delimiter, line_shift, separator};
