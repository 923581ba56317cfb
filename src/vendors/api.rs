//! The vendors' reports: addresses, parameters, headers.
//!
//! Days are UTC days, so buckets are of one day. At most 31 of them are in a page, which both vendors permit. Anthropic's are
//! described by <https://platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages> and `…/cost_report`, OpenAI's by
//! <https://platform.openai.com/docs/api-reference/usage>; read on 2026-11-30. Anthropic has newer analytics reports beside these.

use chrono::{Days, NaiveDate, NaiveTime};

use tallyd_config::Vendors;
use tallyd_model::bill::Kind;

/// A vendor whose reports can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    Anthropic,
    OpenAi,
}

/// A report of a range of days.
pub(super) struct Report {
    pub kind: Kind,
    /// Path and parameters, without those of pages.
    pub path: String,
}

/// OpenAI's usage by model, beside completions.
const OTHER_USAGE: [&str; 5] = ["embeddings", "moderations", "images", "audio_speeches", "audio_transcriptions"];

impl Vendor {
    pub(crate) const ALL: [Self; 2] = [Self::Anthropic, Self::OpenAi];

    /// The name of its section, and in the record of closings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
        }
    }

    /// The vendor of a name.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|vendor| vendor.name() == name);
        found.ok_or_else(|| format!("{name:?} is not a vendor; write anthropic or openai"))
    }

    /// The provider's name in the records.
    pub(super) const fn provider(self) -> &'static str {
        match self {
            Self::Anthropic => "claude",
            Self::OpenAi => "openai",
        }
    }

    pub(super) const fn settings(self, vendors: &Vendors) -> &tallyd_config::Vendor {
        match self {
            Self::Anthropic => &vendors.anthropic,
            Self::OpenAi => &vendors.openai,
        }
    }

    /// The vendors with an admin key.
    pub(crate) fn configured(vendors: &Vendors) -> Vec<Self> {
        Self::ALL.into_iter().filter(|vendor| vendor.settings(vendors).admin_key.is_some()).collect()
    }

    /// The header of a request with the key, and the further ones.
    pub(super) fn headers(self, key: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::Anthropic => {
                vec![("x-api-key", key.to_owned()), ("anthropic-version", "2023-06-01".to_owned())]
            }
            Self::OpenAi => vec![("authorization", format!("Bearer {key}"))],
        }
    }

    /// The reports of the days from `from` to `to`, both included: costs, then usage.
    pub(super) fn reports(self, (from, to): (NaiveDate, NaiveDate)) -> Vec<Report> {
        let end = to + Days::new(1);
        match self {
            Self::Anthropic => {
                let report = |kind, path: &str, groups: &[&str]| {
                    let groups: String = groups.iter().map(|group| format!("&group_by%5B%5D={group}")).collect();
                    let path = format!(
                        "{path}?starting_at={from}T00:00:00Z&ending_at={end}T00:00:00Z&bucket_width=1d&limit=31{groups}"
                    );
                    Report { kind, path }
                };
                let by_model = ["workspace_id", "model", "service_tier", "inference_geo"];
                vec![
                    report(Kind::Cost, "/v1/organizations/cost_report", &["workspace_id", "description"]),
                    report(Kind::Usage, "/v1/organizations/usage_report/messages", &by_model),
                ]
            }
            Self::OpenAi => {
                let second = |day: NaiveDate| day.and_time(NaiveTime::default()).and_utc().timestamp();
                let report = |kind, path: &str, groups: &[&str]| {
                    let groups: String = groups.iter().map(|group| format!("&group_by={group}")).collect();
                    let (from, end) = (second(from), second(end));
                    let path = format!(
                        "/v1/organization/{path}?start_time={from}&end_time={end}&bucket_width=1d&limit=31{groups}"
                    );
                    Report { kind, path }
                };
                let by_model = ["project_id", "model", "batch", "service_tier"];
                let mut reports = vec![
                    report(Kind::Cost, "costs", &["project_id", "line_item"]),
                    report(Kind::Usage, "usage/completions", &by_model),
                ];
                let other = |name| report(Kind::Other(name), &format!("usage/{name}"), &by_model[..2]);
                reports.extend(OTHER_USAGE.map(other));
                reports
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_that_the_vendors_describe() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let paths = |vendor: Vendor| -> Vec<String> {
            vendor.reports((day("2026-10-27"), day("2026-11-29"))).into_iter().map(|report| report.path).collect()
        };
        let range = "starting_at=2026-10-27T00:00:00Z&ending_at=2026-11-30T00:00:00Z&bucket_width=1d&limit=31";
        assert_eq!(
            paths(Vendor::Anthropic),
            [
                format!("/v1/organizations/cost_report?{range}&group_by%5B%5D=workspace_id&group_by%5B%5D=description"),
                format!(
                    "/v1/organizations/usage_report/messages?{range}&group_by%5B%5D=workspace_id&group_by%5B%5D=model\
                     &group_by%5B%5D=service_tier&group_by%5B%5D=inference_geo"
                ),
            ]
        );
        let range = "start_time=1793059200&end_time=1795996800&bucket_width=1d&limit=31";
        let openai = paths(Vendor::OpenAi);
        assert_eq!(openai.len(), 7);
        assert_eq!(openai[0], format!("/v1/organization/costs?{range}&group_by=project_id&group_by=line_item"));
        assert_eq!(
            openai[6],
            format!("/v1/organization/usage/audio_transcriptions?{range}&group_by=project_id&group_by=model")
        );
    }
}
