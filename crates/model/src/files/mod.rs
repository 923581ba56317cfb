//! Files written by people and programs, for every command that reads one: encodings, separators, numbers, dates.
//!
//! Nothing is guessed. A byte order mark and Excel's `sep=` line state a file's form; flags state the rest.

mod dates;
mod numbers;
mod text;

pub use dates::{DateOrder, Epoch, day, instant};
pub use numbers::Numbers;
pub use text::{Utf8, delimiter, line_shift, separator};
