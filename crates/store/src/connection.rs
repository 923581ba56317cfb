//! One session with PostgreSQL.

use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::embedded::EmbeddedError;
use super::error::{FailureClass, advice, certificate_advice, classify, pooler_refusal};

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
    /// None of several hosts would do.
    #[error("none of the hosts of {address} can be used: {}", list(refusals))]
    NoHost {
        /// Where, without the password.
        address: String,
        /// Each host, and why it would not.
        refusals: Vec<(String, HostRefusal)>,
    },
    /// The password cannot be read at the moment.
    #[error("database.password_file: {0}; it is read again at the next attempt")]
    PasswordFile(String),
    /// The private cluster had gone, and cannot be started again.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
}

/// What was tried, in one line.
fn list(refusals: &[(String, HostRefusal)]) -> String {
    refusals.iter().fold(String::new(), |mut text, (host, refusal)| {
        let separator = if text.is_empty() { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{host}: {refusal}");
        text
    })
}

impl ConnectError {
    /// The remedy.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Refused { source, .. } => classify(source),
            Self::Timeout { .. } => FailureClass::Transient,
            // One that needs a person may be the one that is needed.
            Self::NoHost { refusals, .. } => refusals
                .iter()
                .map(|(_, refusal)| refusal.class())
                .find(|class| *class == FailureClass::Hold)
                .unwrap_or(FailureClass::Transient),
            Self::PasswordFile(_) => FailureClass::Hold,
            // Each of these may pass, if slowly: another process stops, somebody makes room on the disk.
            Self::Embedded(_) => FailureClass::Transient,
        }
    }

    /// The driver's own error, where it had one; of several hosts the last one's.
    pub(super) fn into_driver_error(self) -> Option<tokio_postgres::Error> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::NoHost { refusals, .. } => refusals.into_iter().rev().find_map(|(_, refusal)| match refusal {
                HostRefusal::Refused(source) => Some(source),
                HostRefusal::Timeout(_) => None,
            }),
            Self::Timeout { .. } | Self::PasswordFile(_) | Self::Embedded(_) => None,
        }
    }
}

/// Why one of several hosts would not let us in.
#[derive(Debug, thiserror::Error)]
pub enum HostRefusal {
    /// It could not be reached, or refused.
    #[error("{}", describe(.0))]
    Refused(tokio_postgres::Error),
    /// It did not answer within this time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

impl HostRefusal {
    fn class(&self) -> FailureClass {
        match self {
            Self::Refused(error) => classify(error),
            Self::Timeout(_) => FailureClass::Transient,
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
    match certificate_advice(error) {
        Some(advice) => format!("{text}: {advice}"),
        None => text,
    }
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
