//! `[database]`: the PostgreSQL that records end up in.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::{SecretUrl, form};

/// How to reach PostgreSQL.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// URL or key=value connection string. Empty: the daemon starts a private PostgreSQL of its own in the data folder.
    #[serde(with = "form::empty_is_none")]
    pub url: Option<SecretUrl>,
    /// File with the password, instead of one in the URL; read at every attempt to connect, so a new one needs no restart.
    #[serde(with = "form::empty_is_none")]
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities that may sign the server's certificate. Empty: the system's.
    #[serde(with = "form::empty_is_none")]
    pub ca_file: Option<PathBuf>,
    /// How long one attempt to connect may take, each host of the URL by itself.
    #[serde(rename = "connect_timeout_ms", with = "form::milliseconds")]
    pub connect_timeout: Duration,
    /// Folder with the PostgreSQL server's programs, for the private one. Empty: they are searched for.
    #[serde(with = "form::empty_is_none")]
    pub embedded_bin_dir: Option<PathBuf>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            embedded_bin_dir: None,
        }
    }
}

impl Database {
    pub(super) fn validate(&self, faults: &mut Faults) {
        if self.password_file.is_some() && self.url.is_none() {
            let reason = "there is no database.url that it would be for; the private PostgreSQL has no password";
            faults.add("database.password_file", reason);
        }
        faults.in_range("database.connect_timeout_ms", self.connect_timeout.as_millis(), 100..=600_000);
    }
}
