//! `[vendors]`: the vendors' usage and cost reports, by which vendor-days are closed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::form::{empty_is_none, milliseconds};
use super::secret::Secret;

/// When reports are fetched, and how many days of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vendors {
    /// Minutes from one look at a vendor's reports to the next. One daemon of a database looks.
    pub interval_minutes: u32,
    /// Days before today that are closed, and compared again for late calls, changed prices and corrected bills.
    pub days: u32,
    /// Hours from the end of a day, in UTC, until it is closed. Vendors' reports and late calls take a while.
    pub after_hours: u32,
    /// The pause before a failed request is sent again, milliseconds. It doubles with each further failure.
    #[serde(rename = "retry_min_ms", with = "milliseconds")]
    pub retry_min: Duration,
    /// Anthropic's Admin API.
    pub anthropic: Vendor,
    /// OpenAI's organization API.
    pub openai: Vendor,
}

/// One vendor's API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vendor {
    /// An admin key of the organization, better as `file:PATH` or `env:NAME`. Empty: this vendor's days are not closed.
    #[serde(with = "empty_is_none")]
    pub admin_key: Option<Secret>,
    /// The address of the API, without a path.
    pub base_url: String,
    /// Ids of the workspaces (Anthropic) or projects (OpenAI) whose calls are recorded. The other charges of the organization then
    /// count as another workspace's. `default` is Anthropic's default workspace. Empty: all of the organization.
    pub workspaces: Vec<String>,
}

impl Default for Vendors {
    fn default() -> Self {
        let at = |url: &str| Vendor { base_url: url.to_owned(), ..Vendor::default() };
        Self {
            interval_minutes: 60,
            days: 35,
            after_hours: 24,
            retry_min: Duration::from_secs(1),
            anthropic: at("https://api.anthropic.com"),
            openai: at("https://api.openai.com"),
        }
    }
}

impl Vendors {
    /// From one look to the next.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_minutes as u64 * 60)
    }

    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("vendors.interval_minutes", self.interval_minutes, 1..=1_440);
        // A closed day needs its calls in the call log to be compared again.
        faults.in_range("vendors.days", self.days, 3..=366);
        faults.in_range("vendors.after_hours", self.after_hours, 1..=47);
        faults.in_range("vendors.retry_min_ms", self.retry_min.as_millis(), 1..=600_000);
        for (key, vendor) in
            [("vendors.anthropic.base_url", &self.anthropic), ("vendors.openai.base_url", &self.openai)]
        {
            if !vendor.base_url.starts_with("http://") && !vendor.base_url.starts_with("https://") {
                faults.add(key, "it begins with http:// or https://");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_section_in_a_section_is_read_from_files_and_variables_and_its_faults_have_their_place() {
        let file =
            "[vendors]\ndays = 40\n[vendors.anthropic]\nadmin_key = \"file:/run/key\"\nworkspaces = [\"wrkspc_1\"]\n";
        let env = [("TALLYD_VENDORS_OPENAI_ADMIN_KEY".to_owned(), "env:KEY".to_owned())];
        let config = Config::from_text(file, env).unwrap();
        assert_eq!((config.vendors.days, config.vendors.anthropic.workspaces.len()), (40, 1));
        assert!(config.vendors.openai.admin_key.is_some());
        let shown = config.effective_toml().unwrap();
        assert!(shown.contains("[vendors.anthropic]\nadmin_key = \"***\"  # config.toml"), "{shown}");
        for (file, says) in [
            ("[vendors.anthropic]\nbase_url = \"api\"", "vendors.anthropic.base_url"),
            ("[vendors.anthropic]\nkey = \"x\"", "admin_key, base_url, workspaces"),
            ("[vendors]\nanthropic = 1", "a section"),
            ("[vendors]\nafter_hours = 48", "vendors.after_hours"),
            ("[vendors.openai]\nworkspaces = 1", "a list"),
        ] {
            let error = Config::from_text(file, []).unwrap_err().to_string();
            assert!(error.contains(says), "{file}: {error}");
        }
    }
}
