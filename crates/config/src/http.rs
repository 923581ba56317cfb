//! `[http]`, `[users]`: the API, and the application's users in its answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::form;
use tallyd_protocol::limits;

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address, `host:port`; 127.0.0.1 is this machine alone, and port 0 takes a free one. `PORT` in the environment makes it
    /// `0.0.0.0:PORT`.
    pub listen: String,
    /// An address of its own for `/metrics` (and `/healthz` and `/readyz`), such as `"10.0.0.5:9420"`. Empty: they are on
    /// `listen`.
    #[serde(with = "form::empty_is_none")]
    pub metrics_listen: Option<String>,
    /// Whether `/metrics` on `listen` shows costs, tokens and calls by model to everybody. Without it they are shown on
    /// `metrics_listen`, and on `listen` to requests with a token of the role `read`.
    pub metrics_spend: bool,
    /// Origins whose pages may call the API from a browser, such as `https://admin.example.com`.
    pub cors_origins: Vec<String>,
    /// Headers that become tags, `"header=tag"` each, such as `"x-team=team"`: of each record of a request to `/api/v1/records`, and of
    /// OTLP. A record's own tags win; of two headers for one tag, the first that is present is taken.
    pub tag_headers: Vec<String>,
    /// Proxies in front that append to `X-Forwarded-For`, by their number: that many entries from the right is the client. With 0 that
    /// header is not believed.
    pub trusted_proxies: u32,
    /// Bytes of a request's body, before and after decompression.
    pub max_body_bytes: usize,
    /// The endpoint whose calls `/api/admin/user-stats` counts as `analysisCalls`.
    pub analysis_endpoint: String,
    /// Open HTTP connections. An eighth of them, at most 32, are for `/healthz` and `/readyz` alone. At most half of the rest is
    /// for connections without a valid token; the one that is waited for longest makes room for the next.
    pub max_connections: usize,
    /// Of those, connections of one address that have shown no valid token. It is the address that connects: with
    /// `trusted_proxies` all come from the proxy, so the bound is not applied, and is the proxy's to keep (nginx:
    /// `limit_conn`).
    pub max_connections_per_address: usize,
    /// Database connections that answer requests, apart from the loading ones.
    pub pool_size: usize,
    /// How long one request may take in the database.
    #[serde(rename = "statement_timeout_ms", with = "form::milliseconds")]
    pub statement_timeout: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7420".to_owned(),
            metrics_listen: None,
            metrics_spend: false,
            cors_origins: Vec::new(),
            tag_headers: Vec::new(),
            trusted_proxies: 0,
            max_body_bytes: 8 * 1024 * 1024,
            analysis_endpoint: "/api/claude/analysis".to_owned(),
            max_connections: 1_024,
            max_connections_per_address: 128,
            pool_size: 4,
            statement_timeout: Duration::from_secs(15),
        }
    }
}

/// Headers that may become tags: as many as a record has tags.
const TAG_HEADERS_MAX: usize = limits::TAGS;
/// Headers with credentials.
const SECRET_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

impl Http {
    /// The headers and their tags.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tag_headers.iter().filter_map(|entry| entry.split_once('='))
    }

    fn validate_tag_headers(&self, faults: &mut Faults) {
        let is_header = |name: &str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let is_pair = |entry: &String| {
            entry
                .split_once('=')
                .is_some_and(|(header, tag)| is_header(header) && (1..=limits::TAG_NAME_BYTES).contains(&tag.len()))
        };
        if self.tag_headers.len() > TAG_HEADERS_MAX || !self.tag_headers.iter().all(is_pair) {
            let reason = format!(
                "it has at most {TAG_HEADERS_MAX} entries such as \"x-team=team\": a header of 1 to 64 letters, digits, - and _, and a tag of 1 \
                 to {} bytes",
                limits::TAG_NAME_BYTES
            );
            faults.add("http.tag_headers", reason);
        }
        let secret =
            self.tags().find(|(header, _)| SECRET_HEADERS.iter().any(|name| name.eq_ignore_ascii_case(header)));
        if let Some((header, _)) = secret {
            faults.add(
                "http.tag_headers",
                format!("{header} has credentials, which are not stored with calls; name another header"),
            );
        }
    }

    pub(super) fn validate(&self, faults: &mut Faults) {
        for origin in &self.cors_origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || host.contains('/') || !host.is_ascii()) {
                let reason =
                    format!("{origin:?} is not an origin; write scheme and host, such as https://admin.example.com");
                faults.add("http.cors_origins", reason);
            }
        }
        self.validate_tag_headers(faults);
        faults.in_range("http.trusted_proxies", self.trusted_proxies, 0..=16);
        faults.in_range("http.max_body_bytes", self.max_body_bytes, 1024..=256 * 1024 * 1024);
        faults.in_range("http.max_connections", self.max_connections, 8..=65_536);
        faults.in_range("http.max_connections_per_address", self.max_connections_per_address, 1..=65_536);
        faults.in_range("http.pool_size", self.pool_size, 1..=64);
        faults.in_range("http.statement_timeout_ms", self.statement_timeout.as_millis(), 100..=600_000);
        if let Some(address) = &self.metrics_listen {
            faults.is_address("http.metrics_listen", address);
        }
        faults.is_address("http.listen", &self.listen);
    }
}

/// The application's users.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Users {
    /// The table, with its schema. Without such a table, users are those that calls name.
    pub table: String,
    /// Its column that calls name as `user_id`.
    pub id_column: String,
    /// Columns that are shown and searched; those that the table does not have are left out.
    pub columns: Vec<String>,
    /// Its column by which active sessions are counted in `/api/admin/metrics`, where the table has it.
    pub tier_column: String,
    /// Minutes without a refresh after which a session is over: the Supabase project's inactivity timeout. 0:
    /// no such limit.
    pub session_max_idle_minutes: u32,
    /// Minutes in all after which a session is over: the Supabase project's time-box. 0: no such limit.
    pub session_max_age_minutes: u32,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            table: "auth.users".into(),
            id_column: "id".into(),
            columns: ["email", "created_at", "last_sign_in_at"].map(String::from).to_vec(),
            tier_column: "tier".into(),
            session_max_idle_minutes: 0,
            session_max_age_minutes: 0,
        }
    }
}

impl Users {
    pub(super) fn validate(&self, faults: &mut Faults) {
        if self.table.is_empty() || self.id_column.is_empty() {
            faults.add("users.table", "name a table and its id_column");
        }
        faults.in_range("users.columns", self.columns.len(), 0..=40);
        // Ten years.
        faults.in_range("users.session_max_idle_minutes", self.session_max_idle_minutes, 0..=5_256_000);
        faults.in_range("users.session_max_age_minutes", self.session_max_age_minutes, 0..=5_256_000);
    }
}
