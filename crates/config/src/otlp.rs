//! `[otlp]`: OpenTelemetry exports that become records.

use serde::{Deserialize, Serialize};

use super::error::Faults;

/// Attributes that may name the user.
const USER_ATTRIBUTES_MAX: usize = 16;
/// Attributes that may become tags.
const TAG_ATTRIBUTES_MAX: usize = 64;

/// How spans, logs and metrics are read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Attributes that name the user. The first that is present is taken; those of the span or event come before those of its
    /// resource.
    pub user_attributes: Vec<String>,
    /// Attributes that become tags, `"attribute=tag"` each. Of two for one tag, the first that is present is taken; those of the span
    /// or event come before those of its resource. An attribute `tallyd.tag.NAME` becomes the tag NAME without being listed.
    pub tag_attributes: Vec<String>,
    /// Which of Claude Code's exports is recorded, since each has the same tokens: `"logs"`, `"metrics"` or `"none"`.
    pub claude_code: ClaudeCode,
    /// Whether a span's input tokens include the cached ones, where neither the span's own numbers nor its instrumentation
    /// tell.
    pub input_includes_cached: bool,
    /// Where OTLP is taken over gRPC, `host:port`. `"auto"`: `127.0.0.1:4317`, the default of exporters, if that
    /// port is free. Empty: nowhere.
    pub grpc_listen: String,
}

/// The value of `grpc_listen` for the usual port, if it is free.
pub const GRPC_AUTO: &str = "auto";
/// The usual address.
pub const GRPC_ADDRESS: &str = "127.0.0.1:4317";

/// Which of Claude Code's exports is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaudeCode {
    /// The events `claude_code.api_request` and `claude_code.api_error`.
    Logs,
    /// The sums `claude_code.token.usage`.
    Metrics,
    /// None of them.
    None,
}

/// The semantic conventions' name of the environment, the one before it, and LiteLLM's names of its teams and keys.
const TAG_ATTRIBUTES: [&str; 4] = [
    "deployment.environment.name=environment",
    "deployment.environment=environment",
    "metadata.user_api_key_team_alias=team",
    "metadata.user_api_key_alias=key_alias",
];

impl Default for Otlp {
    fn default() -> Self {
        Self {
            user_attributes: ["enduser.id", "user.id"].map(str::to_owned).to_vec(),
            tag_attributes: TAG_ATTRIBUTES.map(str::to_owned).to_vec(),
            claude_code: ClaudeCode::Logs,
            input_includes_cached: true,
            grpc_listen: GRPC_AUTO.to_owned(),
        }
    }
}

impl Otlp {
    /// The attributes and their tags.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tag_attributes.iter().filter_map(|entry| entry.split_once('='))
    }

    pub(super) fn validate(&self, faults: &mut Faults) {
        let is_wrong = |name: &String| name.is_empty() || name.len() > 255;
        if self.user_attributes.len() > USER_ATTRIBUTES_MAX || self.user_attributes.iter().any(is_wrong) {
            let reason =
                format!("it names at most {USER_ATTRIBUTES_MAX} attributes of 1 to 255 bytes, such as user.id");
            faults.add("otlp.user_attributes", reason);
        }
        let is_pair = |entry: &String| {
            entry.split_once('=').is_some_and(|(attribute, tag)| {
                !is_wrong(&attribute.to_owned()) && (1..=tallyd_protocol::limits::TAG_NAME_BYTES).contains(&tag.len())
            })
        };
        if self.tag_attributes.len() > TAG_ATTRIBUTES_MAX || !self.tag_attributes.iter().all(is_pair) {
            let reason = format!(
                "it has at most {TAG_ATTRIBUTES_MAX} entries such as \"deployment.environment.name=environment\": an attribute of 1 to \
                 255 bytes and a tag of 1 to {}",
                tallyd_protocol::limits::TAG_NAME_BYTES
            );
            faults.add("otlp.tag_attributes", reason);
        }
        if !["", GRPC_AUTO].contains(&self.grpc_listen.as_str()) {
            faults.is_address("otlp.grpc_listen", &self.grpc_listen);
        }
    }
}
