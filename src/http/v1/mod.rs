//! The API proper. Names are in snake case, amounts are decimal text, each list has a bound, each export is a stream.

pub mod alerts;
pub mod aliases;
pub mod audit;
pub mod budgets;
pub mod costs;
pub mod dead_letters;
pub mod decisions;
pub mod forecast;
pub mod overview;
pub mod pipeline;
pub mod price_changes;
pub mod price_sync;
pub mod prices;
pub mod records;
pub mod sessions;
pub mod unpriced;
pub mod users;
