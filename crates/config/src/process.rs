//! `[log]`, `[shutdown]`: the daemon log, and the time limit for stopping.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{ParseError, Targets};

use super::error::Faults;
use super::form;

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
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module: `"info,tallyd_pipeline=debug"`.
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
    /// The filter of the daemon log.
    ///
    /// # Errors
    /// [`ParseError`], if the setting is neither a level nor a list of modules and levels.
    pub fn targets(&self) -> Result<Targets, ParseError> {
        let parts: Vec<&str> = self.filter.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        parts.join(",").parse()
    }

    pub(super) fn validate(&self, faults: &mut Faults) {
        if let Err(error) = self.targets() {
            let reason = format!("{:?}: {error}; write a level such as info, or module=level pairs", self.filter);
            faults.add("log.filter", reason);
        }
    }
}

/// The behaviour at SIGTERM.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long the daemon may take to load buffered records; the rest stays on disk for the next start.
    #[serde(rename = "deadline_ms", with = "form::milliseconds")]
    pub deadline: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(15) }
    }
}

impl Shutdown {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("shutdown.deadline_ms", self.deadline.as_millis(), 100..=600_000);
    }
}
