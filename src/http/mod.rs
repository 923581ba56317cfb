//! The control plane over HTTP: health and metrics for whoever watches, status for the command line.
//!
//! It holds read-only handles of the data plane and its own small pool of connections: a slow question here slows
//! nothing there. Two routers: the public one on `http.listen`, and the local one on a Unix socket in the data folder
//! that only the daemon's own user can open, for `tallyd status`.

mod health;
mod router;
pub mod socket;
mod status;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::OnceCell;

use crate::database::Database;
use crate::pipeline::channel::Ingest;
use crate::pipeline::flusher;
use crate::pipeline::wal::log::Log;
use crate::pipeline::wal::writer::WriterState;

pub use health::{Health, HealthReport, is_damaged};
pub use router::{local, public};
pub use status::Status;

/// What the handlers see of the daemon.
pub struct View {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// The write-ahead log.
    pub log: Arc<Log>,
    /// Its writer.
    pub writer: Arc<WriterState>,
    /// The channel before it. Emptied at shutdown: the writer ends once every sender is gone.
    pub ingest: std::sync::Mutex<Option<Ingest>>,
    /// True while records are accepted.
    pub accepting: AtomicBool,
    /// The flusher and the database, once they are there.
    pub loading: OnceCell<Loading>,
    /// When the daemon started.
    pub started: Instant,
    /// The Unix socket's path.
    pub socket: String,
    /// The data folder.
    pub data_dir: String,
}

/// The part of the view that needs the database's server.
pub struct Loading {
    /// The lanes.
    pub flusher: Arc<flusher::Shared>,
    /// The database.
    pub database: Arc<Database>,
    /// Connections for questions.
    pub pool: deadpool_postgres::Pool,
    /// Why the schema cannot be brought up to date, while that is so.
    pub schema: std::sync::Mutex<Option<flusher::Trouble>>,
}
