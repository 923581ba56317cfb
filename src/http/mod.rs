//! The control plane over HTTP: health, metrics, costs, and the status for the command line.
//!
//! It has read-only handles of the data plane and its own small pool of connections, so a slow request here does not
//! slow loading. There are three routers. The public one serves `http.listen`. The local one serves `tallyd status` on
//! a Unix socket in the data folder, which only the daemon's own user can open. The third takes records on the record
//! socket.
//!
//! | module | content |
//! |---|---|
//! | [`router`] | every route, in one table |
//! | [`serve`] | connections, and the bounds of the public listener's |
//! | [`auth`] | authentication and roles |
//! | [`admin`] | the endpoints of the system that tallyd replaces, unchanged |
//! | [`v1`] | the API proper |
//! | [`ingest`] | records over HTTP |
//! | [`otlp`] | OpenTelemetry's exports |
//! | [`page`] | the admin page, and signing in to it |
//! | [`book`] | the documentation as a site |
//! | [`assets`] | files in the binary |
//! | [`openapi`] | the OpenAPI document, and a page of it |
//! | [`places`] | a bound on requests and answers that take much memory |
//! | [`parameters`], [`answer`], [`csv`], [`error`] | shared by the endpoints |

pub(crate) mod admin;
pub(crate) mod answer;
mod assets;
pub(crate) mod auth;
pub(crate) mod body;
mod book;
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
mod table;
mod today;
pub(crate) mod v1;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::OnceCell;

use tallyd_base::clock::Clock;
use tallyd_pipeline::connection;
use tallyd_pipeline::flusher::{Flusher, Trouble};
use tallyd_store::Database;
use tallyd_store::dead_letters::quota::Quota;
use tallyd_wal::channel::ChunkSender;
use tallyd_wal::wal::Wal;
use tallyd_wal::writer::WriterState;

pub(crate) use health::{Health, HealthReport, is_damaged};
pub(crate) use router::{local, monitoring, on_socket, public};
pub(crate) use status::Status;
pub(crate) use today::{BudgetToday, ModelToday, Today};

/// The daemon's state, shared by the handlers.
pub(crate) struct Daemon {
    pub metrics: PrometheusHandle,
    pub wal: Arc<Wal>,
    pub writer: Arc<WriterState>,
    /// The sender into the channel before the writer. Emptied at shutdown: the writer ends once every sender is gone.
    pub chunk_sender: std::sync::Mutex<Option<ChunkSender>>,
    /// True while records are accepted.
    pub accepting: AtomicBool,
    /// The bound on refused records that are kept of one day.
    pub quota: Arc<Quota>,
    /// Shared by all connections; here for records over HTTP. Emptied at shutdown, since it has a sender as well.
    pub ingest: std::sync::Mutex<Option<Arc<connection::IngestContext>>>,
    pub auth: auth::Auth,
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
    /// The whole configuration, for handlers that do a command's work.
    pub config: Arc<tallyd_config::Config>,
    /// Codes that sign in to the page.
    pub codes: page::codes::Codes,
    /// The public listener's address, once it is bound.
    pub address: OnceLock<SocketAddr>,
    /// The address for OTLP over gRPC, if that is configured.
    pub grpc_address: OnceLock<SocketAddr>,
    /// The lanes and the database, once the database has started.
    pub loading: OnceCell<Loading>,
    pub started: Instant,
    /// The path of the record socket.
    pub socket: String,
    pub data_dir: String,
}

pub(crate) type SharedDaemon = Arc<Daemon>;

pub(crate) struct Settings {
    /// The reporting time zone.
    pub zone: tallyd_model::zone::Tz,
    /// The longest time for one statement.
    pub statement_timeout: std::time::Duration,
    /// The longest body of a request, bytes.
    pub max_body_bytes: usize,
    /// The application's users and their sessions.
    pub users: tallyd_config::Users,
    /// The endpoint whose calls are counted as analyses.
    pub analysis_endpoint: String,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<String>,
}

impl Daemon {
    /// The age of the oldest durable record that is not known to be in PostgreSQL, whether the lanes are running or
    /// not. May read the disk.
    #[must_use]
    pub(crate) fn oldest_unflushed(&self) -> std::time::Duration {
        let settled = self.loading.get().map(|loading| loading.flusher.settled());
        let settled = settled.as_deref().unwrap_or_else(|| self.wal.committed_at_start());
        // A lane reports segments that cannot be read.
        let oldest_us = tokio::task::block_in_place(|| self.wal.oldest_waiting_us(settled)).ok().flatten();
        let age_us = oldest_us.map_or(0, |oldest| self.clock.now_us().saturating_sub(oldest)).max(0);
        std::time::Duration::from_micros(age_us.unsigned_abs())
    }
}

/// The state that needs the database's server.
pub(crate) struct Loading {
    pub flusher: Arc<Flusher>,
    pub database: Arc<Database>,
    /// Connections for the API.
    pub pool: deadpool_postgres::Pool,
    /// Why the last migration failed; none once one has succeeded.
    pub schema: std::sync::Mutex<Option<Trouble>>,
    /// True if PostgreSQL answered the last probe.
    pub is_up: AtomicBool,
}

impl Daemon {
    /// A link that signs in to the page once. None before the public listener is bound.
    #[must_use]
    pub(crate) fn link(&self) -> Option<String> {
        let mut address = *self.address.get()?;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let scheme = if self.config.tls.of(tallyd_config::TlsListener::Http).is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{address}/#code={}", self.codes.make(self.clock.now_us())))
    }
}
