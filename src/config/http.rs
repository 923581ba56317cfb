//! `[http]`: the API, the page, metrics and health.

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, is_address};

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address, `host:port`; a port of 0 takes a free one. Default `127.0.0.1:7420`: this machine alone.
    pub listen: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7420".to_owned() }
    }
}

impl Http {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        is_address("http.listen", &self.listen)
    }
}
