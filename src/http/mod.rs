//! The control plane over HTTP: health and metrics for whoever watches, costs for whoever may know them, status for the
//! command line.
//!
//! It holds read-only handles of the data plane and its own small pool of connections: a slow question here slows
//! nothing there. Three routers: the public one on `http.listen`; the local one on a Unix socket in the data folder that only
//! the daemon's own user can open, for `tallyd status`; and on the record socket the one that takes records.
//!
//! | module | content |
//! |---|---|
//! | [`router`] | every route, in one table |
//! | [`serve`] | connections, and the bounds of the public listener's |
//! | [`auth`] | who asks, and what they may do |
//! | [`admin`] | the endpoints of the system that tallyd replaces, unchanged |
//! | [`v1`] | the API proper |
//! | [`ingest`] | records that come over HTTP |
//! | [`otlp`] | what OpenTelemetry exports |
//! | [`page`] | the admin page, and signing in to it |
//! | [`openapi`] | the document of the API, and its page |
//! | [`places`] | few at a time of what may make the daemon hold much |
//! | [`parameters`], [`answer`], [`csv`], [`error`] | what endpoints have in common |

pub(crate) mod admin;
pub(crate) mod answer;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod csv;
pub(crate) mod error;
mod health;
pub(crate) mod ingest;
pub(crate) mod openapi;
pub(crate) mod otlp;
pub(crate) mod page;
pub(crate) mod parameters;
pub(crate) mod places;
pub(crate) mod router;
pub(crate) mod serve;
pub mod socket;
mod status;
mod today;
pub(crate) mod v1;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::OnceCell;

use crate::pipeline::connection;
use crate::pipeline::flusher::{Flusher, Trouble};
use tallyd_base::clock::Clock;
use tallyd_store::Database;
use tallyd_store::dead_letters::quota::Quota;
use tallyd_wal::channel::ChunkSender;
use tallyd_wal::wal::Wal;
use tallyd_wal::writer::WriterState;

pub(crate) use health::{Health, HealthReport, is_damaged};
pub(crate) use router::{local, monitoring, on_socket, public};
pub(crate) use status::Status;
pub(crate) use today::{BudgetToday, ModelToday, Today};

/// The daemon's state, which the handlers share.
pub(crate) struct Daemon {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// The WAL.
    pub wal: Arc<Wal>,
    /// Its writer.
    pub writer: Arc<WriterState>,
    /// The channel before it. Emptied at shutdown: the writer ends once every sender is gone.
    pub chunk_sender: std::sync::Mutex<Option<ChunkSender>>,
    /// True while records are accepted.
    pub accepting: AtomicBool,
    /// How many refused records of a day are kept.
    pub quota: Arc<Quota>,
    /// What connections share, for records that come over HTTP. Emptied at shutdown, for the same reason.
    pub ingest: std::sync::Mutex<Option<Arc<connection::IngestContext>>>,
    /// Who may ask.
    pub auth: auth::Auth,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Settings of the API.
    pub settings: Settings,
    /// The whole configuration, for what does a command's work.
    pub config: Arc<tallyd_config::Config>,
    /// Codes that sign in to the page.
    pub codes: page::codes::Codes,
    /// Where the public listener is, once it is.
    pub address: OnceLock<SocketAddr>,
    /// Where OTLP is taken over gRPC, if it is.
    pub grpc_address: OnceLock<SocketAddr>,
    /// The flusher and the database, once they are there.
    pub loading: OnceCell<Loading>,
    /// When the daemon started.
    pub started: Instant,
    /// The Unix socket's path.
    pub socket: String,
    /// The data folder.
    pub data_dir: String,
}

/// What handlers hold.
pub(crate) type SharedDaemon = Arc<Daemon>;

/// Settings of the API.
pub(crate) struct Settings {
    /// The zone of the days in answers.
    pub zone: chrono_tz::Tz,
    /// How long one statement may take.
    pub statement_timeout: std::time::Duration,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// The application's users and their sessions.
    pub users: tallyd_config::Users,
    /// The endpoint whose calls are counted as analyses.
    pub analysis_endpoint: String,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<String>,
}

impl Daemon {
    /// The age of the oldest record that is on disk and not known to be in PostgreSQL, whatever the lanes do. It may read the disk.
    #[must_use]
    pub(crate) fn oldest_unflushed(&self) -> std::time::Duration {
        let settled = self.loading.get().map(|loading| loading.flusher.settled());
        let settled = settled.as_deref().unwrap_or_else(|| self.wal.committed_at_start());
        // What cannot be read is the lanes' to report.
        let oldest_us = tokio::task::block_in_place(|| self.wal.oldest_waiting_us(settled)).ok().flatten();
        let age_us = oldest_us.map_or(0, |oldest| self.clock.now_us().saturating_sub(oldest)).max(0);
        std::time::Duration::from_micros(age_us.unsigned_abs())
    }
}

/// The part of it that needs the database's server.
pub(crate) struct Loading {
    /// The lanes.
    pub flusher: Arc<Flusher>,
    /// The database.
    pub database: Arc<Database>,
    /// Connections for questions.
    pub pool: deadpool_postgres::Pool,
    /// Why the schema cannot be brought up to date, while that is so.
    pub schema: std::sync::Mutex<Option<Trouble>>,
    /// True if PostgreSQL answered when it was last asked.
    pub is_up: AtomicBool,
}

impl Daemon {
    /// A link that signs in to the page once; none before there is a listener.
    #[must_use]
    pub(crate) fn link(&self) -> Option<String> {
        let mut address = *self.address.get()?;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Some(format!("http://{address}/#code={}", self.codes.make(self.clock.now_us())))
    }
}
