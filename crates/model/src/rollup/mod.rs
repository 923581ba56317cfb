//! Rollups: what a batch adds to each of the rollup tables, folded in memory while its rows are encoded.
//!
//! A rollup row costs PostgreSQL several microseconds whatever it adds up, so a batch touches each key once: [`fold`]
//! sums the batch by key; the flusher writes the sums, sorted by key. The order of keys and of tables is the same in
//! every transaction of every daemon, which is why they cannot deadlock.
//!
//! Folding is pure; the tables' contents are not looked at, except that [`guard`] must know how many models and
//! endpoints a day has, to keep a day's rollup from exploding.

pub mod day;
pub mod dimensions;
pub mod fold;
pub mod guard;
pub mod measures;
