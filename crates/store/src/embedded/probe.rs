//! Whether the cluster's server can be reached, and the first thing that is done once it can.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::error::EmbeddedError;
use super::{DATABASE, USER};

/// One attempt to connect, over a Unix socket.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

fn config(host: &Path, database: &str) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host_path(host).user(USER).dbname(database).application_name("tallyd start");
    config
}

/// What an attempt to connect has shown.
pub(super) enum Reach {
    /// The server takes sessions. (All of them may be in use.)
    Up,
    /// The server does, and has no database yet.
    NoDatabase,
    /// Nobody answers, or only to say that it is starting up or shutting down.
    Down,
}

/// Tries to get a session with the server in `host`.
pub(super) async fn probe(host: &Path) -> Reach {
    match timeout(PROBE_DEADLINE, config(host, DATABASE).connect(NoTls)).await {
        Ok(Ok(_session)) => Reach::Up,
        Ok(Err(error)) => match error.code() {
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => Reach::NoDatabase,
            Some(code) if code.code().starts_with("57") => Reach::Down,
            Some(_) => Reach::Up,
            None => Reach::Down,
        },
        Err(_elapsed) => Reach::Down,
    }
}

/// Makes the database in a new cluster.
pub(super) async fn create_database(host: &Path) -> Result<(), EmbeddedError> {
    let (client, driver) = config(host, "postgres").connect(NoTls).await.map_err(EmbeddedError::CreateDatabase)?;
    let driver = tokio::spawn(driver);
    let made = client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await;
    drop(client);
    // It ends because its client has gone. Its error, if any, is the client's.
    let _ = driver.await;
    made.map_err(EmbeddedError::CreateDatabase)
}
