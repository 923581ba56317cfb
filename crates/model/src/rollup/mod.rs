//! Rollups: the sums of a batch for each rollup table, computed in memory while its rows are encoded.
//!
//! A rollup row costs PostgreSQL several microseconds, however many calls it sums. So a batch touches each key once:
//! [`fold`] sums the batch by key, and the flusher writes the sums, sorted by key. The order of keys and of tables is
//! the same in every transaction of every daemon, so they cannot deadlock.
//!
//! Folding is pure. It needs only one fact of the tables: [`guard`] must know the number of models and endpoints of a
//! day, to bound the day's rollup.

pub mod day;
pub mod dimensions;
pub mod fold;
pub mod guard;
pub mod measures;
