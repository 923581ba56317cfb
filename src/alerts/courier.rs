//! The task that delivers due messages. Each route is served by itself, so one whose receiver hangs or fails keeps no
//! other back. No record and no budget waits for it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, select_all};
use metrics::counter;
use tallyd_model::zone::Tz;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::receiver;
use tallyd_base::clock::Clock;
use tallyd_base::registry;
use tallyd_config::{Alerts, Route};
use tallyd_store::budgets::outbox::{claim, note, note_unknown, pause};
use tallyd_store::retry::until_stopped;
use tallyd_store::{Database, describe};

/// Largest number of messages of a route in one round.
const ROUND: usize = 20;

pub(crate) struct Courier {
    pub database: Arc<Database>,
    pub options: Alerts,
    /// The reporting time zone.
    pub zone: Tz,
    pub clock: Arc<dyn Clock>,
}

impl Courier {
    /// Runs until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let routes = self.options.all_routes();
        let meanwhile = "messages are not delivered at the moment; they are kept";
        until_stopped(stop, self.options.interval, meanwhile, || self.follow(&routes)).await;
    }

    /// Works until the database fails. Returns the error as text.
    async fn follow(&self, routes: &[Route]) -> String {
        let connection = match self.database.connect("tallyd messages").await {
            Ok(connection) => connection,
            Err(error) => return error.to_string(),
        };
        let client: &Client = &connection;
        let mut tasks: Vec<BoxFuture<'_, tokio_postgres::Error>> = vec![Box::pin(self.watch_unknown(client, routes))];
        for route in routes {
            tasks.push(Box::pin(self.serve(client, route)));
        }
        describe(&select_all(tasks).await.0)
    }

    /// Serves one route until the database fails.
    async fn serve(&self, client: &Client, route: &Route) -> tokio_postgres::Error {
        loop {
            if let Err(error) = self.round(client, route).await {
                return error;
            }
            tokio::time::sleep(self.options.interval).await;
        }
    }

    async fn round(&self, client: &Client, route: &Route) -> Result<(), tokio_postgres::Error> {
        for _ in 0..ROUND {
            let now = self.now();
            let is_quiet = route.quiet.is_some_and(|quiet| quiet.end_after(&now.with_timezone(&self.zone)).is_some());
            let Some(message) = claim(client, &route.name, is_quiet).await? else { break };
            if let Err(error) = receiver::send(route, &message, now.timestamp()).await {
                let pause = pause(self.options.retry_min, message.attempts);
                note(client, message.id, Err((error.as_str(), pause))).await?;
                counter!(registry::ALERT_FAILURES).increment(1);
                tracing::warn!(
                    alert = message.id,
                    route = route.name,
                    error,
                    "a message was not delivered; it is tried again"
                );
                // The route's others would fail likewise; they are due at the next round.
                break;
            }
            note(client, message.id, Ok(())).await?;
            counter!(registry::ALERTS_DELIVERED).increment(1);
        }
        Ok(())
    }

    /// Notes messages whose route is not configured.
    async fn watch_unknown(&self, client: &Client, routes: &[Route]) -> tokio_postgres::Error {
        let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        loop {
            if let Err(error) = note_unknown(client, &names).await {
                return error;
            }
            tokio::time::sleep(self.options.interval * 6).await;
        }
    }

    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default()
    }
}
