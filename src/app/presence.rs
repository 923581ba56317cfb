//! Announces this daemon to other processes on the database, and finds out whether PostgreSQL answers.
//!
//! Both are one statement every few seconds ([`RENEWAL`]), on a session of its own. Idle lanes would not notice that
//! PostgreSQL is gone, and a lane whose transaction hangs notices at its deadline.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::http::Daemon;
use tallyd_base::registry;
use tallyd_config::Config;
use tallyd_store::daemons::{self, RENEWAL};
use tallyd_store::{Connection, Database, FailureClass, classify};

pub(super) struct Presence {
    daemon: Arc<Daemon>,
    database: Arc<Database>,
    buffer_id: Uuid,
    zone: tallyd_model::zone::Tz,
    patience: Duration,
}

impl Presence {
    pub(super) fn new(config: &Config, daemon: &Arc<Daemon>, database: Arc<Database>) -> Self {
        let (daemon, buffer_id, zone) = (Arc::clone(daemon), daemon.wal.buffer_id(), config.rollup.time_zone);
        let patience = config.database.connect_timeout.max(Duration::from_secs(1));
        Self { daemon, database, buffer_id, zone, patience }
    }

    /// Renews the daemon's row until told to stop, then deletes the row.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut session = None;
        loop {
            let renewed = tokio::select! {
                renewed = tokio::time::timeout(self.patience, self.renew(&mut session)) => renewed,
                () = stop.cancelled() => break,
            };
            // A statement that PostgreSQL refuses is an answer as well.
            let is_up = matches!(renewed, Ok(Ok(()) | Err(Answer::Refused)));
            note_database(&self.daemon, is_up);
            if !matches!(renewed, Ok(Ok(()))) {
                session = None;
            }
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                () = stop.cancelled() => break,
            }
        }
        if let Some(session) = session {
            // If it fails, the row is outdated within a minute.
            let _ = tokio::time::timeout(self.patience, daemons::leave(&session, self.buffer_id)).await;
        }
    }

    async fn renew(&self, session: &mut Option<Connection>) -> Result<(), Answer> {
        let connection = match session {
            Some(connection) => connection,
            None => {
                let connected = self.database.connect("tallyd presence").await;
                session.insert(connected.map_err(|error| Answer::of(error.class()))?)
            }
        };
        daemons::renew(connection, self.buffer_id, self.zone).await.map_err(|error| Answer::of(classify(&error)))
    }
}

/// Why the row was not renewed.
enum Answer {
    /// PostgreSQL answered with a refusal.
    Refused,
    /// PostgreSQL did not answer.
    None,
}

impl Answer {
    const fn of(class: FailureClass) -> Self {
        if matches!(class, FailureClass::Transient) { Self::None } else { Self::Refused }
    }
}

/// Sets for health and metrics whether PostgreSQL answers.
pub(super) fn note_database(daemon: &Daemon, is_up: bool) {
    metrics::gauge!(registry::DATABASE_UP).set(f64::from(u8::from(is_up)));
    if let Some(loading) = daemon.loading.get() {
        loading.is_up.store(is_up, Ordering::Relaxed);
    }
}
