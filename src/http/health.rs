//! Health of the daemon's parts.
//!
//! `/readyz` says whether records are accepted; `/healthz` says how each part is. A database that is down is
//! `degraded`, because records are safe and load later. A hold, a full WAL or damage is `failing`, because a person
//! must act.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Daemon;
use crate::http::answer::Json;
use tallyd_wal::inspect;
use tallyd_wal::space::Full;

/// How a part or the whole is, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    /// It works.
    Ok,
    /// It mends itself.
    Degraded,
    /// A person must act.
    Failing,
}

/// One part's health.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Component {
    /// How it is.
    pub status: Health,
    /// The problem and the remedy, if there is a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// All parts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct HealthReport {
    /// The worst of the parts.
    pub status: Health,
    /// Accepting records.
    pub ingest: Component,
    /// The WAL.
    pub wal: Component,
    /// Loading into PostgreSQL.
    pub flusher: Component,
}

impl Component {
    fn new(status: Health, message: impl Into<String>) -> Self {
        Self { status, message: Some(message.into()) }
    }

    const fn ok() -> Self {
        Self { status: Health::Ok, message: None }
    }
}

impl HealthReport {
    /// Without the database's messages, which name its users and hosts.
    #[must_use]
    fn for_everybody(mut self) -> Self {
        if self.flusher.message.is_some() {
            let message = match self.flusher.status {
                Health::Failing => "loading is held until a person acts: `tallyd status` says why",
                _ => "loading waits for the database: `tallyd status` says why",
            };
            self.flusher.message = Some(message.to_owned());
        }
        self
    }

    #[must_use]
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let (ingest, wal, flusher) = (ingest(daemon), wal(daemon), flusher(daemon));
        let status = ingest.status.max(wal.status).max(flusher.status);
        Self { status, ingest, wal, flusher }
    }
}

/// How long health reports a refused producer. Refused producers retry every few seconds.
const CROWDED: Duration = Duration::from_secs(60);

fn ingest(daemon: &Daemon) -> Component {
    if !daemon.accepting.load(Ordering::Relaxed) {
        return Component::new(Health::Failing, "the daemon is starting or stopping");
    }
    if daemon.writer.crowded().is_some_and(|at| at.elapsed() < CROWDED) {
        let message = "new producers are refused: wal.max_producers are remembered, and none of them has been silent for an hour. \
                       hint: raise wal.max_producers";
        return Component::new(Health::Degraded, message);
    }
    Component::ok()
}

fn wal(daemon: &Daemon) -> Component {
    match daemon.writer.full() {
        Some(Full::Bytes) => {
            Component::new(Health::Failing, "at wal.max_bytes: clients wait until PostgreSQL catches up")
        }
        Some(Full::Disk) => Component::new(Health::Failing, "the disk is at wal.min_free_bytes: free some space"),
        None => damage(daemon),
    }
}

fn unsettled(daemon: &Daemon) -> Vec<String> {
    inspect::unsettled(&std::path::Path::new(&daemon.data_dir).join("wal"))
}

/// True while synced values cannot be read, and the readable rest of their segments has not been replayed.
#[must_use]
pub(crate) fn is_damaged(daemon: &Daemon) -> bool {
    daemon.wal.holds_damage() || !unsettled(daemon).is_empty()
}

/// A damaged segment that was set aside fails health over restarts, until somebody replays it.
fn damage(daemon: &Daemon) -> Component {
    let unsettled = unsettled(daemon);
    match unsettled.first() {
        Some(name) => Component::new(
            Health::Failing,
            format!(
                "{} damaged segments were set aside: `tallyd wal inspect {name}` shows the readable records, `tallyd wal \
                 replay --all` loads them",
                unsettled.len()
            ),
        ),
        None if daemon.wal.holds_damage() => Component::new(
            Health::Failing,
            "synced values could not be read; see the daemon log. The readable ones load, and then the segment is set aside",
        ),
        None => Component::ok(),
    }
}

fn flusher(daemon: &Daemon) -> Component {
    let Some(loading) = daemon.loading.get() else {
        return Component::new(Health::Degraded, "the database is not started yet");
    };
    if !*loading.flusher.migrated.borrow() {
        let trouble = loading.schema.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let message = |text| format!("the schema is not in place yet: {text}");
        return match trouble {
            Some(trouble) if trouble.hold => Component::new(Health::Failing, message(trouble.message)),
            Some(trouble) => Component::new(Health::Degraded, message(trouble.message)),
            None => Component::new(Health::Degraded, "the schema is being brought up to date"),
        };
    }
    let trouble = loading.flusher.lanes.iter().filter_map(|lane| lane.trouble());
    match trouble.max_by_key(|trouble| trouble.hold) {
        Some(trouble) if trouble.hold => Component::new(Health::Failing, trouble.message),
        Some(trouble) => Component::new(Health::Degraded, trouble.message),
        None if !loading.is_up.load(Ordering::Relaxed) => {
            Component::new(Health::Degraded, "the database does not answer; records are kept, and load once it does")
        }
        None => Component::ok(),
    }
}

/// How each part is: 200 unless something is failing.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "Nothing is failing", body = HealthReport),
        (status = 503, description = "Something is failing: a person must act", body = HealthReport)))]
pub(super) async fn healthz(State(daemon): State<super::SharedDaemon>) -> (StatusCode, Json<HealthReport>) {
    let (code, report) = health(&daemon);
    (code, Json(report.for_everybody()))
}

/// As `/healthz`, with the database's messages: for the local socket.
pub(super) async fn healthz_in_full(State(daemon): State<super::SharedDaemon>) -> (StatusCode, Json<HealthReport>) {
    let (code, report) = health(&daemon);
    (code, Json(report))
}

fn health(daemon: &Daemon) -> (StatusCode, HealthReport) {
    let report = HealthReport::of(daemon);
    let code = if report.status == Health::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, report)
}

/// 200 while records are accepted.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "Records are accepted", body = String),
        (status = 503, description = "They are not", body = String)))]
pub(super) async fn readyz(State(daemon): State<super::SharedDaemon>) -> (StatusCode, &'static str) {
    let full = daemon.writer.full().is_some();
    if daemon.accepting.load(Ordering::Relaxed) && !full {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
