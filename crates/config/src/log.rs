//! `[log]`: what the daemon says about itself, on standard error.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::error::Faults;

/// The form of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The daemon's own log.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module: `"info,tallyd::pipeline=debug"`.
    pub filter: String,
    /// `"text"` or `"json"`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Log {
    pub(super) fn validate(&self, faults: &mut Faults) {
        if let Err(error) = EnvFilter::builder().parse(&self.filter) {
            let reason = format!("{:?}: {error}; write a level such as info, or module=level pairs", self.filter);
            faults.add("log.filter", reason);
        }
    }
}
