//! Health: what works, what does not, and whether the daemon accepts records.
//!
//! `/readyz` answers one question: are records accepted? `/healthz` says how each part is. A database that is down is
//! `degraded`, since records are safe and load later; a hold, a full log or damage is `failing`, since a person must act.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::View;
use crate::pipeline::wal::space::Full;

/// How a part or the whole is, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It works.
    Ok,
    /// It mends itself.
    Degraded,
    /// A person must act.
    Failing,
}

/// One part's health.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// How it is.
    pub status: Health,
    /// What is wrong and what to do, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// All parts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HealthReport {
    /// The worst of the parts.
    pub status: Health,
    /// Accepting records.
    pub ingest: Component,
    /// The write-ahead log.
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
    /// Looks at every part.
    #[must_use]
    pub fn of(view: &View) -> Self {
        let (ingest, wal, flusher) = (ingest(view), wal(view), flusher(view));
        let status = ingest.status.max(wal.status).max(flusher.status);
        Self { status, ingest, wal, flusher }
    }
}

fn ingest(view: &View) -> Component {
    if view.accepting.load(Ordering::Relaxed) {
        Component::ok()
    } else {
        Component::new(Health::Failing, "the daemon is starting or stopping")
    }
}

fn wal(view: &View) -> Component {
    match view.writer.full() {
        Some(Full::Bytes) => {
            Component::new(Health::Failing, "at wal.max_bytes: clients wait until PostgreSQL catches up")
        }
        Some(Full::Disk) => Component::new(Health::Failing, "the disk is at wal.min_free_bytes: free some space"),
        None if view.log.is_damaged() => {
            Component::new(Health::Failing, "values could not be read; see the log, and the folder wal/damaged")
        }
        None => Component::ok(),
    }
}

fn flusher(view: &View) -> Component {
    let Some(loading) = view.loading.get() else {
        return Component::new(Health::Degraded, "the database is not started yet");
    };
    if !*loading.flusher.migrated.borrow() {
        return Component::new(Health::Degraded, "the schema is not in place yet; see the log");
    }
    let trouble = loading.flusher.lanes.iter().filter_map(|lane| lane.trouble());
    match trouble.max_by_key(|trouble| trouble.hold) {
        Some(trouble) if trouble.hold => Component::new(Health::Failing, trouble.message),
        Some(trouble) => Component::new(Health::Degraded, trouble.message),
        None => Component::ok(),
    }
}

/// How each part is: 200 unless something is failing.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "Nothing is failing", body = HealthReport),
        (status = 503, description = "Something is failing: a person must act", body = HealthReport)))]
pub async fn healthz(State(view): State<super::router::Handle>) -> (StatusCode, Json<HealthReport>) {
    let report = HealthReport::of(&view);
    let code = if report.status == Health::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(report))
}

/// 200 while records are accepted.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "Records are accepted", body = String),
        (status = 503, description = "They are not", body = String)))]
pub async fn readyz(State(view): State<super::router::Handle>) -> (StatusCode, &'static str) {
    let full = view.writer.full().is_some();
    if view.accepting.load(Ordering::Relaxed) && !full {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
