//! The data plane, in the order in which a record travels.
//!
//! listener → connection → intake (decode, validate, price) → chunk → channel → wal → flusher → PostgreSQL.

pub mod batch;
pub mod channel;
pub mod chunk;
pub mod connection;
pub mod flusher;
pub mod identity;
pub mod intake;
pub mod listener;
pub mod recorder;
pub mod wal;
