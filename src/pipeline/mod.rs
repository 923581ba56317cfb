//! The data plane, in the order in which a record travels.
//!
//! listener → connection → `tallyd_intake` (decode, validate, price) → `tallyd_wal` (chunk, channel, WAL) → flusher → PostgreSQL.

pub(crate) mod batch;
pub(crate) mod connection;
pub(crate) mod flusher;
pub(crate) mod listener;
