//! Shared by the benchmarks: a private cluster, the release daemon, records, figures.

mod asker;
mod cluster;
mod daemon;
mod figures;
mod records;

pub use asker::Asker;
pub use cluster::Cluster;
pub use daemon::{Daemon, send_all};
pub use figures::{median, quantile};
pub use records::Calls;
