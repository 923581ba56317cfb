//! Samples Supabase's sessions once an hour ([`tallyd_store::session_samples`]).

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use tallyd_config::Config;
use tallyd_store::session_samples::sample;
use tallyd_store::sessions::SessionLimits;
use tallyd_store::{Database, describe};

/// How often the task checks whether the hour has a sample: an hour of which a daemon saw a minute has one.
const PAUSE: Duration = Duration::from_secs(60);

pub(super) struct SessionSamples {
    database: Arc<Database>,
    limits: SessionLimits,
}

impl SessionSamples {
    pub(super) fn new(config: &Config, database: &Arc<Database>) -> Self {
        Self { database: Arc::clone(database), limits: (&config.users).into() }
    }

    /// Works until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                done = self.once() => if let Err(error) = done {
                    tracing::warn!(error, "the sessions were not sampled");
                },
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn once(&self) -> Result<(), String> {
        let connection = self.database.connect("tallyd sessions").await.map_err(|error| error.to_string())?;
        sample(&connection, self.limits).await.map_err(|error| describe(&error))?;
        Ok(())
    }
}
