//! The API proper. Names are in snake case, amounts are decimal text, each list has a bound, each export is a stream.

pub mod audit;
pub mod costs;
pub mod dead_letters;
pub mod pipeline;
pub mod prices;
pub mod records;
pub mod sessions;
pub mod users;
