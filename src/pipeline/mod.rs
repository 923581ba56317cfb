//! The data plane, in the order in which a record travels.
//!
//! listener → connection → `tallyd_intake` (decode, validate, price) → `tallyd_wal` (chunk, channel, write-ahead log) → flusher → PostgreSQL.

pub mod batch;
pub mod connection;
pub mod flusher;
pub mod listener;
pub mod recorder;
