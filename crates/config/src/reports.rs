//! `[reports]`: reports that are sent by themselves.

use chrono::NaiveTime;
use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::routes::{Route, RouteKind};
use tallyd_model::quiet;

/// Which reports are sent over which routes, and when.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reports {
    /// Routes that get a report of each day, such as `["team"]`; `default` is the route of `alerts.webhook_url`.
    pub daily: Vec<String>,
    /// Routes that get a report of each week. A week begins on Monday.
    pub weekly: Vec<String>,
    /// Routes that get a report of each calendar month.
    pub monthly: Vec<String>,
    /// When reports of a finished period are written, by the clocks of the reporting time zone. Later if no daemon runs then.
    pub at: String,
}

impl Default for Reports {
    fn default() -> Self {
        Self { daily: Vec::new(), weekly: Vec::new(), monthly: Vec::new(), at: "08:00".to_owned() }
    }
}

impl Reports {
    /// The time of the day of `at`.
    #[must_use]
    pub fn time(&self) -> NaiveTime {
        // Checked when the configuration was read.
        quiet::clock(&self.at).unwrap_or_default()
    }

    /// True if a report is sent to anybody.
    #[must_use]
    pub fn is_any(&self) -> bool {
        !(self.daily.is_empty() && self.weekly.is_empty() && self.monthly.is_empty())
    }

    pub(super) fn validate(&self, faults: &mut Faults, routes: &[Route]) {
        if quiet::clock(&self.at).is_none() {
            faults.add("reports.at", format!("{:?} is not a time of the day; write it as 08:00", self.at));
        }
        for (key, names) in
            [("reports.daily", &self.daily), ("reports.weekly", &self.weekly), ("reports.monthly", &self.monthly)]
        {
            for (at, name) in names.iter().enumerate() {
                match routes.iter().find(|route| route.name == *name) {
                    None => faults.add(key, format!("there is no route {name:?}; add it to alerts.routes")),
                    Some(route) if route.kind == RouteKind::PagerDuty => {
                        faults.add(key, format!("the route {name:?} opens incidents, which a report is not"));
                    }
                    Some(_) if names[..at].contains(name) => faults.add(key, format!("{name:?} is there twice")),
                    Some(_) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_report_needs_a_route_that_can_carry_it() {
        let load = |file: &str| Config::from_text(file, []).map_err(|error| error.to_string());
        let routes = "routes = [{ name = \"oncall\", kind = \"pagerduty\", secret = \"env:KEY\" }, \
            { name = \"mail\", kind = \"email\", url = \"smtps://mail.example.com\", from = \"a@example.com\", to = [\"b@example.com\"], \
              quiet = \"22:00-07:00\" }]";
        let good = load(&format!("[alerts]\n{routes}\n[reports]\nweekly = [\"mail\"]\nat = \"06:30\"")).unwrap();
        assert!(good.reports.is_any() && good.alerts.routes[1].quiet.is_some());
        assert!(good.effective_toml().unwrap().contains("secret = \"***\""));
        for (file, says) in [
            ("[reports]\ndaily = [\"default\"]".to_owned(), "no route \"default\""),
            (format!("[alerts]\n{routes}\n[reports]\nmonthly = [\"oncall\"]"), "opens incidents"),
            ("[reports]\nat = \"8\"".to_owned(), "not a time"),
            ("[alerts]\nroutes = [{ name = \"a\", kind = \"webhook\", url = \"https://x\" }]".to_owned(), "no secret"),
            (
                "[alerts]\nroutes = [{ name = \"a b\", kind = \"slack\", url = \"https://x\" }]".to_owned(),
                "1 to 40 letters",
            ),
            ("[alerts]\nroutes = [{ name = \"a\", kind = \"pigeon\" }]".to_owned(), "pigeon"),
            (
                "[alerts]\nroutes = [{ name = \"a\", kind = \"slack\", url = \"https://x\", quiet = \"22\" }]"
                    .to_owned(),
                "two times",
            ),
        ] {
            let error = load(&file).unwrap_err();
            assert!(error.contains(says), "{file}: {error}");
        }
    }
}
