//! `[alerts]`, `[price_sync]`: alerts of the daemon, and their receivers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::{Secret, form};
use tallyd_model::pricing::Usd;

/// How often budgets are evaluated, and where alerts go.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// How often budgets are evaluated and alerts delivered.
    #[serde(rename = "interval_ms", with = "form::milliseconds")]
    pub interval: Duration,
    /// Where alerts are posted as `{"text": …}`, such as a Slack webhook; secret. Empty: nowhere.
    #[serde(with = "form::empty_is_none")]
    pub webhook_url: Option<Secret>,
    /// The pause before the first retry of a delivery; it doubles up to an hour, for a week.
    #[serde(rename = "retry_min_ms", with = "form::milliseconds")]
    pub retry_min: Duration,
    /// A user's or model's daily spend is unusual above this many times its 90th percentile of the active days of four weeks.
    /// 0: never.
    pub unusual_factor: u32,
    /// Spend below this is never unusual, USD a day.
    pub unusual_min_usd: Usd,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            webhook_url: None,
            retry_min: Duration::from_secs(1),
            unusual_factor: 3,
            unusual_min_usd: Usd::from_attos(5 * Usd::ONE.attos()),
        }
    }
}

impl Alerts {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("alerts.interval_ms", self.interval.as_millis(), 10..=3_600_000);
        faults.in_range("alerts.retry_min_ms", self.retry_min.as_millis(), 1..=3_600_000);
        faults.in_range("alerts.unusual_factor", self.unusual_factor, 0..=1_000_000);
        let is_http = |url: &Secret| url.expose().starts_with("http://") || url.expose().starts_with("https://");
        if self.webhook_url.as_ref().is_some_and(|url| !is_http(url)) {
            faults.add("alerts.webhook_url", "it begins with http:// or https://");
        }
    }
}

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
    /// Apply differences at once, instead of waiting for `tallyd prices sync --apply`. Prices that people have set stay.
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
