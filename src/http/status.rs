//! `GET /status` on the local socket: the content of `tallyd status`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Daemon, HealthReport};
use crate::http::answer::Json;
use tallyd_pipeline::metrics::names::NamedCounter;
use tallyd_store::queries::costs::all_calls;
use tallyd_wal::window::WindowStatus;

/// The longest wait for the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// The daemon at a glance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Status {
    /// The running version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Its process.
    pub pid: u32,
    /// Its data folder.
    pub data_dir: String,
    /// Where records are taken.
    pub socket: String,
    /// The reporting time zone: days, weeks and months begin by its clock.
    #[serde(default)]
    pub time_zone: String,
    /// Where OTLP is taken over gRPC. None if it is not.
    #[serde(default)]
    pub grpc: Option<String>,
    /// Each part's health.
    pub health: HealthReport,
    /// The WAL.
    pub wal: WalStatus,
    /// The database.
    pub database: DatabaseStatus,
    /// Unusual records since the start.
    #[serde(default)]
    pub stood_out: StoodOut,
}

/// Unusual records since the daemon's start: some 64 names of each kind at most, the most frequent first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct StoodOut {
    /// Calls with unknown usage, by the unknown name. They are unpriced unless they state
    /// a cost; their metadata has the name as `tallyd.not_understood`.
    pub not_understood: Vec<Named>,
    /// Spans and events with used tokens that were not recorded because they are around calls, by their kind.
    pub passed_over: Vec<Named>,
    /// Calls whose stated cost differs from the catalog's by more than 1 %, by provider and model.
    pub stated_cost_differs: Vec<Named>,
}

/// How often something was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Named {
    /// The name; `(other)` for those beyond the bound.
    pub what: String,
    /// How often.
    pub count: u64,
}

impl StoodOut {
    /// The counts so far; empty while the daemon stops.
    #[must_use]
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let ingest = daemon.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(context) = ingest else { return Self::default() };
        let list = |names: &NamedCounter| {
            names.since_start().into_iter().map(|(what, count)| Named { what, count }).collect::<Vec<_>>()
        };
        let metrics = &context.metrics;
        Self {
            not_understood: list(&metrics.not_understood),
            passed_over: list(&metrics.passed_over),
            stated_cost_differs: list(&metrics.stated_cost_differs),
        }
    }
}

/// The WAL at a glance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct WalStatus {
    /// Records that are durable and not in PostgreSQL yet.
    pub unflushed_records: u64,
    /// The age of the oldest of them.
    pub oldest_unflushed_seconds: f64,
    /// Bytes of its values.
    pub bytes: u64,
    /// Its segments.
    pub segments: usize,
    /// The highest key that is on disk.
    pub durable_key: u64,
    /// Bytes that wait before it.
    pub channel_bytes: usize,
    /// True while synced values are missing, and the rest of their segment was not replayed.
    pub damaged: bool,
    /// Calls that are known by an id that their sender stated.
    #[serde(default)]
    pub identities: WindowStatus,
}

/// The database at a glance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct DatabaseStatus {
    /// Where it is, without its password. None before it is started.
    pub url: Option<String>,
    /// True if it answered just now.
    pub connected: bool,
    /// Calls in the rollups, loaded by any daemon. None if it did not answer.
    pub committed_records: Option<u64>,
    /// Calls that this daemon has committed since it started.
    pub committed_since_start: u64,
    /// The flusher's lanes.
    pub lanes: Vec<LaneStatus>,
}

/// A lane at a glance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct LaneStatus {
    /// Everything of the lane up to this key is in PostgreSQL.
    pub committed_key: u64,
    /// True if a person must act before it goes on.
    pub hold: bool,
    /// The reason why it does not load, if there is one.
    pub trouble: Option<String>,
}

/// `GET /status`, on the local socket only.
pub(super) async fn status(State(daemon): State<super::SharedDaemon>) -> Json<Status> {
    let committed_records = tokio::time::timeout(PATIENCE, committed_records(&daemon)).await.ok().flatten();
    Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_seconds: daemon.started.elapsed().as_secs(),
        pid: std::process::id(),
        data_dir: daemon.data_dir.clone(),
        socket: daemon.socket.clone(),
        time_zone: daemon.settings.zone.name().to_owned(),
        grpc: daemon.grpc_address.get().map(ToString::to_string),
        health: HealthReport::of(&daemon),
        wal: wal(&daemon),
        database: database(&daemon, committed_records),
        stood_out: StoodOut::of(&daemon),
    })
}

fn wal(daemon: &Daemon) -> WalStatus {
    let ingest = daemon.chunk_sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    WalStatus {
        unflushed_records: daemon.wal.unflushed_records(),
        oldest_unflushed_seconds: daemon.oldest_unflushed().as_secs_f64(),
        bytes: daemon.wal.value_bytes(),
        segments: daemon.wal.segment_count(),
        durable_key: daemon.wal.durable_key(),
        channel_bytes: ingest.as_ref().map_or(0, |ingest| ingest.waiting_bytes()),
        damaged: super::is_damaged(daemon),
        identities: daemon.writer.window.status(),
    }
}

fn database(daemon: &Daemon, committed_records: Option<u64>) -> DatabaseStatus {
    let loading = daemon.loading.get();
    let lanes = loading.map_or_else(Vec::new, |loading| loading.flusher.lanes.iter().collect());
    DatabaseStatus {
        url: loading.map(|loading| loading.database.redacted_url()),
        connected: committed_records.is_some(),
        committed_records,
        committed_since_start: loading.map_or(0, |l| l.flusher.committed_records.load(Ordering::Relaxed)),
        lanes: lanes
            .into_iter()
            .map(|lane| LaneStatus {
                committed_key: lane.committed(),
                hold: lane.holds(),
                trouble: lane.trouble().map(|trouble| trouble.message),
            })
            .collect(),
    }
}

async fn committed_records(daemon: &Daemon) -> Option<u64> {
    let loading = daemon.loading.get()?;
    let client = loading.pool.get().await.ok()?;
    all_calls(&client).await.ok()
}
