//! `[shutdown]`: the orderly end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::form;

/// What happens at SIGTERM.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long the daemon may take to load what it has buffered; the rest stays on disk for the next start.
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
