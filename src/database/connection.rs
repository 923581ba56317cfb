//! One session with PostgreSQL.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::embedded::EmbeddedError;
use super::error::{FailureClass, advice, classify, pooler_refusal};

/// Why no session could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// PostgreSQL could not be reached, or refused.
    #[error("PostgreSQL at {address} cannot be reached: {}", describe(source))]
    Refused {
        /// Where, without the password.
        address: String,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// It did not answer in time.
    #[error("PostgreSQL at {address} did not answer within {} ms", limit.as_millis())]
    Timeout {
        /// Where, without the password.
        address: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The private cluster had gone, and cannot be started again.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
}

impl ConnectError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Refused { source, .. } => classify(source),
            Self::Timeout { .. } => FailureClass::Transient,
            // Each of these may pass, if slowly: another process stops, somebody makes room on the disk.
            Self::Embedded(_) => FailureClass::Transient,
        }
    }
}

/// An error of the driver in one line: its own text is a heading, and the cause says what happened. What only a person can
/// mend is followed by what to do.
#[must_use]
pub fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = match error.as_db_error() {
        Some(db) => {
            let advice = pooler_refusal(db.message()).or_else(|| advice(db.code()));
            let advice = advice.map_or_else(String::new, |advice| format!(": {advice}"));
            return format!("{} (SQLSTATE {}){advice}", db.message(), db.code().code());
        }
        None => error.to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A session: a [`Client`], and the task that moves its bytes. Dropped, it is closed at once.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Connection {
    pub(super) fn new(client: Client, driver: JoinHandle<Result<(), tokio_postgres::Error>>) -> Self {
        Self { client, driver }
    }

    /// Waits until the session has ended, and returns the reason where it is known. What the client reports about a
    /// session that broke is often only that it is closed.
    ///
    /// Cancel safe, but once it has returned it must not be called again.
    pub async fn ended(&mut self) -> Option<tokio_postgres::Error> {
        // A driver that was aborted or has panicked has no reason to give.
        (&mut self.driver).await.ok().and_then(Result::err)
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
