//! `[price_sync]`: a public price list, read regularly.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;

/// A public price list, read regularly. Its changes are proposed, and applied by a person or by `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceSync {
    /// An http(s) address or a file: LiteLLM's `model_prices_and_context_window.json`, or genai-prices' `data.json`. Empty:
    /// none.
    pub list: String,
    /// Hours from one look to the next.
    pub interval_hours: u32,
    /// Only these providers and platforms; empty: all of the list. A list names thousands of models.
    pub providers: Vec<String>,
    /// Apply what differs at once, instead of waiting for `tallyd prices sync --apply`. Prices that people have set stay.
    pub apply: bool,
}

impl Default for PriceSync {
    fn default() -> Self {
        Self { list: String::new(), interval_hours: 24, providers: Vec::new(), apply: false }
    }
}

impl PriceSync {
    pub(super) fn validate(&self, faults: &mut Faults) {
        if self.apply && self.list.is_empty() {
            faults.add("price_sync.apply", "there is no list to apply; set price_sync.list");
        }
        faults.in_range("price_sync.interval_hours", self.interval_hours, 1..=8_760);
    }

    /// From one look to the next.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_hours as u64 * 3_600)
    }
}
