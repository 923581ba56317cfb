//! One PostgreSQL session.

use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::embedded::EmbeddedError;
use super::error::{FailureClass, advice, certificate_advice, classify, pooler_refusal};

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// PostgreSQL could not be reached, or refused.
    #[error("PostgreSQL at {address} cannot be reached: {}", describe(source))]
    Refused {
        /// The address without the password.
        address: String,
        /// The driver's error.
        source: tokio_postgres::Error,
    },
    /// It did not answer in time.
    #[error("PostgreSQL at {address} did not answer within {} ms", limit.as_millis())]
    Timeout {
        /// The address without the password.
        address: String,
        /// The time limit.
        limit: Duration,
    },
    /// None of several hosts accepted the connection.
    #[error("none of the hosts of {address} can be used: {}", list(refusals))]
    NoHost {
        /// The address without the password.
        address: String,
        /// Each host with its refusal.
        refusals: Vec<(String, HostRefusal)>,
    },
    /// The password file cannot be read at the moment.
    #[error("database.password_file: {0}; it is read again at the next attempt")]
    PasswordFile(String),
    /// The private cluster's server had stopped, and cannot be started again.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
}

/// The hosts and their refusals, in one line.
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
            // The host that needs a person may be the one that is needed.
            Self::NoHost { refusals, .. } => refusals
                .iter()
                .map(|(_, refusal)| refusal.class())
                .find(|class| *class == FailureClass::Hold)
                .unwrap_or(FailureClass::Transient),
            Self::PasswordFile(_) => FailureClass::Hold,
            // These may pass, if slowly: another process stops, somebody makes room on the disk.
            Self::Embedded(_) => FailureClass::Transient,
        }
    }

    /// The driver's own error, if there is one; of several hosts the last one's.
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

/// Why one of several hosts did not accept the connection.
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

/// A driver's error in one line: its own text, which is only a heading, then the cause. If only a person can mend it,
/// the remedy follows.
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

/// A session: a [`Client`], and the task that moves its bytes. Dropping it closes the session at once.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Connection {
    pub(super) fn new(client: Client, driver: JoinHandle<Result<(), tokio_postgres::Error>>) -> Self {
        Self { client, driver }
    }

    /// Waits for the session's end, and returns the reason if it is known. The client of a broken session often reports
    /// only that it is closed.
    ///
    /// Cancel safe, but once it has returned it must not be called again.
    pub async fn ended(&mut self) -> Option<tokio_postgres::Error> {
        // A driver task that was aborted or has panicked does not have a reason.
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
