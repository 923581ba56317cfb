//! `[alerts]`, `[price_sync]`: alerts of the daemon, and their receivers. [`super::routes`] has the receivers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::routes::{self, DEFAULT_ROUTE, Route, RouteKind};
use super::{Secret, form};
use tallyd_model::pricing::Usd;

/// How often budgets are evaluated, and where alerts go.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// How often budgets are evaluated and alerts delivered.
    #[serde(rename = "interval_ms", with = "form::milliseconds")]
    pub interval: Duration,
    /// Where alerts are posted as `{"text": …}`, such as a Slack webhook; secret. It is the route `default`. `file:PATH` and
    /// `env:NAME` name a file or a variable that has the address. Empty: nowhere.
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
    /// Other receivers, which rules and reports choose by name. `kind` is `slack`, `teams`, `pagerduty`, `email` or `webhook`. Each
    /// `url` and `secret` may be `file:PATH` or `env:NAME`; `quiet` holds messages that are not urgent, by the clocks of the reporting
    /// zone:
    ///
    /// ```toml
    /// routes = [{ name = "oncall", kind = "pagerduty", secret = "file:/etc/tallyd/pagerduty" },
    ///           { name = "team", kind = "teams", url = "env:TEAMS_URL", quiet = "20:00-07:00" },
    ///           { name = "finance", kind = "email", url = "smtps://bot@mail.example.com", secret = "env:MAIL_PASSWORD",
    ///             from = "tallyd <bot@example.com>", to = ["finance@example.com"] }]
    /// ```
    pub routes: Vec<Route>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            webhook_url: None,
            retry_min: Duration::from_secs(1),
            unusual_factor: 3,
            unusual_min_usd: Usd::from_attos(5 * Usd::ONE.attos()),
            routes: Vec::new(),
        }
    }
}

impl Alerts {
    /// All routes: `default` of the webhook's address, and the named ones.
    #[must_use]
    pub fn all_routes(&self) -> Vec<Route> {
        let webhook = self.webhook_url.clone().map(|url| Route::new(DEFAULT_ROUTE, RouteKind::Slack, url));
        webhook.into_iter().chain(self.routes.iter().cloned()).collect()
    }

    /// Reads the values that are in files and variables. Those that cannot be read are mistakes.
    pub(super) fn read_elsewhere(&self, faults: &mut Faults) {
        if let Some(Err(reason)) = self.webhook_url.as_ref().map(Secret::read) {
            faults.add("alerts.webhook_url", reason);
        }
        for route in &self.routes {
            for (name, value) in [("url", &route.url), ("secret", &route.secret)] {
                if let Some(Err(reason)) = value.as_ref().map(Secret::read) {
                    faults.add("alerts.routes", format!("route {:?}: its {name}: {reason}", route.name));
                }
            }
        }
    }

    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("alerts.interval_ms", self.interval.as_millis(), 10..=3_600_000);
        faults.in_range("alerts.retry_min_ms", self.retry_min.as_millis(), 1..=3_600_000);
        faults.in_range("alerts.unusual_factor", self.unusual_factor, 0..=1_000_000);
        if self.webhook_url.as_ref().is_some_and(|url| !routes::is_http(url) && !url.is_elsewhere()) {
            faults.add("alerts.webhook_url", "it begins with http:// or https://, or is file:PATH or env:NAME");
        }
        routes::validate(&self.routes, self.webhook_url.is_some(), faults);
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
