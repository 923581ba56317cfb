//! `[retention]`: how long calls are kept, and where they go before they are dropped.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::form::{empty_is_none, milliseconds};
use super::secret::Secret;

/// How long single calls are kept. Sums by day and the users' lifetime totals stay for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days for which the call log keeps calls: partitions that lie wholly before are dropped, every hour. 0: for ever.
    pub log_days: u32,
    /// A folder, or `s3://bucket/prefix`, in which a partition is written as a Parquet file before it is dropped, by the daemon or by
    /// `tallyd partitions drop`. Empty: dropped calls are gone, and only their sums stay.
    #[serde(with = "empty_is_none")]
    pub archive: Option<String>,
    /// The S3-compatible service of an archive `s3://…`. A setting that is empty is read from the usual variables `AWS_*`.
    pub s3: S3,
}

/// An S3-compatible service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// The address of the service, such as `https://minio.example.com`. Empty: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or AWS itself.
    pub endpoint: String,
    /// The region. Empty: `AWS_REGION`, `AWS_DEFAULT_REGION`, or `us-east-1`.
    pub region: String,
    /// The id of the access key, or `file:PATH`, `env:NAME`. Empty: `AWS_ACCESS_KEY_ID`, a role's web identity or container, or the machine's role.
    #[serde(with = "empty_is_none")]
    pub access_key_id: Option<Secret>,
    /// The secret of the access key, better as `file:PATH` or `env:NAME`. Empty: as for the id.
    #[serde(with = "empty_is_none")]
    pub secret_access_key: Option<Secret>,
    /// True: the bucket is a part of the path, as MinIO and most services want it. False: it is a part of the host's name, and a stated
    /// `endpoint` has it already: `https://calls.s3.example.com`.
    pub path_style: bool,
    /// The longest time of one request with its answer, milliseconds. A service that hangs costs this and `patience_ms` at most.
    #[serde(rename = "timeout_ms", with = "milliseconds")]
    pub timeout: Duration,
    /// How long a request that fails is sent again, milliseconds. Then the partition stays, and its turn comes again.
    #[serde(rename = "patience_ms", with = "milliseconds")]
    pub patience: Duration,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: String::new(),
            access_key_id: None,
            secret_access_key: None,
            path_style: true,
            // A part of 8 MiB at 1 Mbit/s.
            timeout: Duration::from_secs(90),
            patience: Duration::from_secs(120),
        }
    }
}

/// The place of archived calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivePlace {
    /// A folder.
    Folder(PathBuf),
    /// A bucket of an S3-compatible service.
    Bucket {
        /// Its name.
        name: String,
        /// The beginning of each key, without a slash at either end; or empty.
        prefix: String,
    },
}

impl ArchivePlace {
    /// Reads a folder's path or `s3://bucket/prefix`.
    fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Self::Folder(text.into())) };
        if scheme != "s3" {
            return Err(format!("{scheme}:// is not known; name a folder, or write s3://bucket/prefix"));
        }
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !(3..=63).contains(&name.len()) || !name.chars().all(plain) {
            return Err(format!(
                "{name:?} is not a bucket's name, which has 3 to 63 letters, digits, dots and hyphens"
            ));
        }
        let prefix = prefix.trim_end_matches('/');
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(|c| plain(c) || c == '=');
        if !prefix.is_empty() && !prefix.split('/').all(is_part) {
            return Err(format!(
                "{prefix:?} is not a prefix: parts of letters, digits, dots, hyphens and = with / between"
            ));
        }
        Ok(Self::Bucket { name: name.to_owned(), prefix: prefix.to_owned() })
    }
}

impl Retention {
    pub(super) fn validate(&self, faults: &mut Faults) {
        // A century; more cannot be subtracted from every clock.
        faults.in_range("retention.log_days", self.log_days, 0..=36_500);
        if let Some(Err(reason)) = self.archive.as_deref().map(ArchivePlace::parse) {
            faults.add("retention.archive", reason);
        }
        let s3 = &self.s3;
        if !s3.endpoint.is_empty() && !s3.endpoint.starts_with("http://") && !s3.endpoint.starts_with("https://") {
            faults.add("retention.s3.endpoint", "it begins with http:// or https://");
        }
        for (key, one, other) in [
            ("retention.s3.secret_access_key", &s3.access_key_id, &s3.secret_access_key),
            ("retention.s3.access_key_id", &s3.secret_access_key, &s3.access_key_id),
        ] {
            if one.is_some() && other.is_none() {
                faults
                    .add(key, "it is empty; set both parts of the access key, or neither and use the variables AWS_*");
            }
        }
        faults.in_range("retention.s3.timeout_ms", s3.timeout.as_millis(), 100..=600_000);
        faults.in_range("retention.s3.patience_ms", s3.patience.as_millis(), 1..=600_000);
    }

    /// Reads the values that are in files and variables. Those that cannot be read are mistakes.
    pub(super) fn read_elsewhere(&self, faults: &mut Faults) {
        if let Some(Err(reason)) = self.s3.access_key_id.as_ref().map(Secret::read) {
            faults.add("retention.s3.access_key_id", reason);
        }
        if let Some(Err(reason)) = self.s3.secret_access_key.as_ref().map(Secret::read) {
            faults.add("retention.s3.secret_access_key", reason);
        }
    }

    /// How long the call log keeps calls; none: for ever.
    #[must_use]
    pub fn log(&self) -> Option<chrono::TimeDelta> {
        (self.log_days > 0).then(|| chrono::TimeDelta::days(self.log_days.into()))
    }

    /// Where calls are archived, if they are.
    #[must_use]
    pub fn place(&self) -> Option<ArchivePlace> {
        // It was checked by `validate`.
        self.archive.as_deref().and_then(|text| ArchivePlace::parse(text).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn an_archive_is_a_folder_or_a_bucket_and_what_is_missing_is_told() {
        let bucket =
            |name: &str, prefix: &str| ArchivePlace::Bucket { name: name.to_owned(), prefix: prefix.to_owned() };
        for (text, place) in [
            ("/var/lib/archive", ArchivePlace::Folder("/var/lib/archive".into())),
            ("s3://calls", bucket("calls", "")),
            ("s3://calls/of/tallyd/", bucket("calls", "of/tallyd")),
        ] {
            let config = Config::from_text(&format!("[retention]\narchive = {text:?}"), []).unwrap();
            assert_eq!(config.retention.place(), Some(place));
        }
        for (file, says) in [
            ("archive = \"gs://calls\"", "retention.archive: gs:// is not known"),
            ("archive = \"s3://no bucket\"", "retention.archive: \"no bucket\" is not a bucket's name"),
            ("archive = \"s3://calls/a//b\"", "is not a prefix"),
            ("[retention.s3]\nendpoint = \"minio:9000\"", "retention.s3.endpoint"),
            ("[retention.s3]\naccess_key_id = \"id\"", "retention.s3.secret_access_key: it is empty"),
            ("[retention.s3]\nsecret_access_key = \"x\"", "retention.s3.access_key_id: it is empty"),
        ] {
            let error = Config::from_text(&format!("[retention]\n{file}"), []).unwrap_err().to_string();
            assert!(error.contains(says), "{file}: {error}");
        }
        let file = "[retention.s3]\naccess_key_id = \"id\"\nsecret_access_key = \"file:/not/there\"";
        let error = Config::from_text(file, []).unwrap().read_elsewhere().unwrap_err().to_string();
        assert!(error.contains("retention.s3.secret_access_key: /not/there cannot be read"), "{error}");
    }
}
