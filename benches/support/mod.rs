//! Shared by the benchmarks: a private cluster, the release daemon, records, figures.

mod asker;
mod cluster;
mod daemon;
mod figures;
mod records;

pub use asker::Asker;
pub use cluster::Cluster;
pub use daemon::{Daemon, memory_mib, send_all, send_at};
pub use figures::{median, quantile};
pub use records::Calls;
