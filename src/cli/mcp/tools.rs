//! The tools: each is a `GET` of the HTTP API.
//!
//! A tool's parameters are those of its request, with their names. `tags` is the exception: an object, each member of which
//! becomes a filter `tag:NAME=VALUE`. Arguments are checked for names and types here, and for values by the daemon, whose message and hint become
//! the tool's error. Lists are short unless a `limit` is given, because an assistant reads every row, and an answer
//! has at most [`ANSWER_BYTES_MAX`] bytes.

use std::time::Duration;

use serde_json::{Value as Schema, json};

use crate::outbound::{OutboundAnswer, OutboundRequest, ask};
use tallyd_model::json::Value;

/// The longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The longest time of a tool: more than the daemon's statement timeout.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest argument, bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Why a tool has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No tool has this name.
    Unknown,
    /// A sentence for the assistant.
    Told(String),
}

/// Where the tools ask.
pub(super) struct Daemon {
    /// Its HTTP address, without a slash at the end.
    pub(super) url: String,
    /// A token; its role holds.
    pub(super) token: String,
}

struct Tool {
    name: &'static str,
    title: &'static str,
    /// The request's path; `{id}` is the parameter `id`.
    path: &'static str,
    description: &'static str,
    parameters: &'static [&'static str],
    /// Parameters that the assistant does not choose.
    fixed: &'static [(&'static str, &'static str)],
}

/// The parameters of the two tools that compare periods.
const OF_CHANGE: [&str; 12] = [
    "from",
    "to",
    "before_from",
    "before_to",
    "group_by",
    "limit",
    "provider",
    "model",
    "endpoint",
    "user",
    "app",
    "tags",
];

const TOOLS: [Tool; 8] = [
    Tool {
        name: "costs",
        title: "Costs",
        path: "/api/v1/costs",
        description: "Calls, tokens and cost in USD of a range of days, grouped by any dimensions and in buckets of time. Without group_by it is the \
            total. For `how much did we spend on X` and rankings: bucket=total, sort=cost. `next_offset` of the answer is the offset of the next page.",
        parameters: &[
            "days", "from", "to", "group_by", "bucket", "sort", "order", "limit", "offset", "provider", "model",
            "endpoint", "user", "app", "tags",
        ],
        fixed: &[("limit", "50")],
    },
    Tool {
        name: "top_movers",
        title: "Top movers",
        path: "/api/v1/costs/change",
        description: "The groups (models by default) whose cost changed most between two periods, with the cost of both. By default the seven days \
            before today and the seven before them.",
        parameters: &OF_CHANGE,
        fixed: &[("tiers", "false")],
    },
    Tool {
        name: "explain_change",
        title: "Why spend changed",
        path: "/api/v1/costs/change",
        description: "Why spend changed between two periods: the difference split exactly by cause (volume, new_users, model_mix, errors, \
            tokens_per_call, cache_share, price, tier, other). The parts add up to the difference. A part's note says what it cannot tell.",
        parameters: &OF_CHANGE,
        fixed: &[],
    },
    Tool {
        name: "forecast",
        title: "Forecast",
        path: "/api/v1/forecast",
        description: "Expected spend by the end of today and of the month, and of the next 30 days, with an interval. An estimate, not a sum.",
        parameters: &["provider"],
        fixed: &[],
    },
    Tool {
        name: "budgets",
        title: "Budgets",
        path: "/api/v1/budgets",
        description: "Every budget with its amount, the spend of its period and the share that is spent.",
        parameters: &[],
        fixed: &[],
    },
    Tool {
        name: "alerts",
        title: "Alerts",
        path: "/api/v1/alerts",
        description: "Alerts of budgets, of rules and of unusual spend, and reports that were sent, the newest first.",
        parameters: &["only_new", "before", "limit"],
        fixed: &[("limit", "20")],
    },
    Tool {
        name: "unpriced_models",
        title: "Unpriced models",
        path: "/api/v1/unpriced",
        description: "Models with calls that have no price. Their cost is missing from every sum until a price is set.",
        parameters: &[],
        fixed: &[],
    },
    Tool {
        name: "user_history",
        title: "One user's history",
        path: "/api/v1/users/{id}",
        description: "One user's lifetime totals and the days on which they called, the newest first.",
        parameters: &["id", "days", "from", "to"],
        fixed: &[],
    },
];

/// The type of a parameter and its description.
fn parameter(name: &str) -> Schema {
    let text = |description: &str| json!({"type": "string", "maxLength": TEXT_BYTES_MAX, "description": description});
    let day = |description: &str| json!({"type": "string", "format": "date", "description": description});
    let whole = |least: i64, most: i64, description: &str| json!({"type": "integer", "minimum": least, "maximum": most, "description": description});
    match name {
        "days" => whole(1, 3660, "Number of days up to today, instead of from and to"),
        "from" => day("The first day, YYYY-MM-DD"),
        "to" => day("The last day, included"),
        "before_from" => day("The first day of the earlier period, which ends before `from`; together with before_to"),
        "before_to" => day("The last day of the earlier period, included"),
        "group_by" => text(
            "Dimensions with commas: provider, model, endpoint, user, app, platform, service_tier, or a tag such as tag:team",
        ),
        "bucket" => {
            json!({"type": "string", "enum": ["hour", "day", "week", "month", "total"], "description": "The stretch of time of a row; total is the whole range"})
        }
        "sort" => json!({"type": "string", "enum": ["bucket", "cost", "calls"], "description": "The order of rows"}),
        "order" => json!({"type": "string", "enum": ["asc", "desc"], "description": "The direction of the order"}),
        "limit" => whole(1, 100, "Most rows"),
        "offset" => whole(0, 1_000_000, "Rows to skip"),
        "before" => whole(1, i64::MAX, "Only alerts before this number: `next` of the page before"),
        "only_new" => json!({"type": "boolean", "description": "Only alerts that nobody has acknowledged"}),
        "tags" => json!({"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 16,
            "description": "Only calls with these tags, such as {\"team\": \"search\"}; an empty value is a call without the tag"}),
        "id" => text("The user's id, as records have it"),
        "provider" => text("Only this provider, such as claude or openai"),
        "model" => text("Only this model"),
        "endpoint" => text("Only this endpoint"),
        "user" => text("Only this user"),
        _ => text("Only this application"),
    }
}

/// The tools, as `tools/list` answers.
pub(super) fn list() -> Vec<Schema> {
    let described = |tool: &Tool| {
        let parameters = tool.parameters.iter().map(|name| ((*name).to_owned(), parameter(name)));
        let mut schema = json!({"type": "object", "properties": parameters.collect::<serde_json::Map<_, _>>(), "additionalProperties": false});
        if tool.path.contains("{id}") {
            schema["required"] = json!(["id"]);
        }
        json!({
            "name": tool.name,
            "title": tool.title,
            "description": tool.description,
            "inputSchema": schema,
            "annotations": {"title": tool.title, "readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false},
        })
    };
    TOOLS.iter().map(described).collect()
}

/// Runs a tool. Returns the answer's JSON.
pub(super) async fn call(daemon: &Daemon, name: &str, arguments: &Value) -> Result<String, Failure> {
    let tool = TOOLS.iter().find(|tool| tool.name == name).ok_or(Failure::Unknown)?;
    let target = target(tool, arguments).map_err(Failure::Told)?;
    let authorization = format!("Bearer {}", daemon.token);
    let headers = [("authorization", authorization.as_str())];
    let request = OutboundRequest { headers: &headers, json: None, max_bytes: ANSWER_BYTES_MAX, limit: PATIENCE };
    let OutboundAnswer { status, body, .. } = ask(&format!("{}{target}", daemon.url), &request).await.map_err(|error| {
        Failure::Told(format!(
            "{error}. hint: the daemon is asked at {}; an answer of more than 256 KiB takes a smaller limit or range",
            daemon.url
        ))
    })?;
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() { Ok(text) } else { Err(Failure::Told(refusal(status.as_u16(), &text))) }
}

/// The path and query of a tool's request.
fn target(tool: &Tool, arguments: &Value) -> Result<String, String> {
    let mut path = tool.path.to_owned();
    let mut pairs: Vec<(String, String)> = Vec::new();
    let members = match arguments {
        Value::Null => Vec::new(),
        Value::Object(members) => members.iter().collect(),
        _ => return Err("arguments: not an object".to_owned()),
    };
    for (name, value) in members {
        if !tool.parameters.contains(&name.as_str()) {
            let known = if tool.parameters.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has {}", tool.parameters.join(", "))
            };
            return Err(format!("{}: no parameter {name:?}; {known}", tool.name));
        }
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("tags", Value::Object(tags)) => {
                for (tag, value) in tags {
                    pairs.push((format!("tag:{tag}"), scalar(tag, value)?));
                }
            }
            ("id", value) => path = path.replace("{id}", &encoded(&scalar("id", value)?)),
            (name, value) => pairs.push((name.to_owned(), scalar(name, value)?)),
        }
    }
    if path.contains("{id}") {
        return Err(format!("{}: id is missing", tool.name));
    }
    for (name, value) in tool.fixed {
        if !pairs.iter().any(|(given, _)| given == name) {
            pairs.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    let query: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    Ok(if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) })
}

/// The text of a parameter.
fn scalar(name: &str, value: &Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(digits) => digits.to_string(),
        Value::Bool(is) => is.to_string(),
        _ => return Err(format!("{name}: expected text, a number or a truth value")),
    };
    if text.len() > TEXT_BYTES_MAX {
        Err(format!("{name}: {} bytes, at most {TEXT_BYTES_MAX} are accepted", text.len()))
    } else {
        Ok(text)
    }
}

/// Percent-encoded, so that it is one segment of a path or one value of a query.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    // A segment of dots alone would change the path.
    if !text.is_empty() && text.bytes().all(|byte| byte == b'.') {
        "%2E".repeat(text.len())
    } else {
        text.bytes().map(encode).collect()
    }
}

/// The daemon's error as a sentence.
fn refusal(status: u16, text: &str) -> String {
    let answer: Value = tallyd_model::json::from_str(text).unwrap_or_default();
    let detail = answer.get("error");
    let part = |name: &str| detail.and_then(|detail| detail.get(name)).and_then(Value::as_str).unwrap_or_default();
    let (message, hint) = (part("message"), part("hint"));
    let hint = match status {
        401 => "the token is unknown, revoked or has ended: `tallyd token list` shows it",
        403 => "the token's role may not ask this: a tool needs the role `read` or `admin`",
        _ => hint,
    };
    let hint = if hint.is_empty() { String::new() } else { format!(". hint: {hint}") };
    format!("the daemon answered {status}: {message}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(name: &str, arguments: &str) -> Result<String, String> {
        let tool = TOOLS.iter().find(|tool| tool.name == name).unwrap();
        target(tool, &tallyd_model::json::from_str(arguments).unwrap())
    }

    #[test]
    fn arguments_are_parameters_of_one_request_whatever_is_in_them() {
        for (name, arguments, expected) in [
            ("budgets", "null", "/api/v1/budgets"),
            ("budgets", "{}", "/api/v1/budgets"),
            ("alerts", r#"{"only_new": true, "limit": 5}"#, "/api/v1/alerts?limit=5&only_new=true"),
            (
                "costs",
                r#"{"group_by": "tag:team,model", "from": null}"#,
                "/api/v1/costs?group_by=tag%3Ateam%2Cmodel&limit=50",
            ),
            (
                "costs",
                r#"{"tags": {"team": "a&b=c", "x": ""}, "limit": 1}"#,
                "/api/v1/costs?limit=1&tag%3Ateam=a%26b%3Dc&tag%3Ax=",
            ),
            ("user_history", r#"{"id": "../../admin?x#", "days": 7}"#, "/api/v1/users/..%2F..%2Fadmin%3Fx%23?days=7"),
            ("user_history", r#"{"id": ".."}"#, "/api/v1/users/%2E%2E"),
            ("top_movers", r#"{"group_by": "user"}"#, "/api/v1/costs/change?group_by=user&tiers=false"),
        ] {
            assert_eq!(target_of(name, arguments).as_deref(), Ok(expected), "{name} {arguments}");
        }
        for (name, arguments, says) in [
            ("budgets", r#"{"days": 7}"#, "budgets: no parameter \"days\"; it has none"),
            ("costs", r#"{"tiers": true}"#, "it has days, from"),
            ("costs", r#"{"days": [7]}"#, "days: expected text"),
            ("costs", "[]", "not an object"),
            ("user_history", "{}", "id is missing"),
        ] {
            assert!(target_of(name, arguments).unwrap_err().contains(says), "{name} {arguments}");
        }
        assert!(
            target_of("user_history", &format!("{{\"id\": \"{}\"}}", "x".repeat(513)))
                .unwrap_err()
                .contains("513 bytes")
        );
    }

    #[test]
    fn every_tool_only_reads_and_describes_each_parameter() {
        for tool in list() {
            assert_eq!(tool["annotations"]["readOnlyHint"], true);
            assert!(tool["description"].as_str().unwrap().len() > 50, "{tool}");
            let properties = tool["inputSchema"]["properties"].as_object().unwrap();
            // The description of `app` is that of any name that `parameter` does not know.
            let alike = properties.values().filter(|schema| schema["description"] == "Only this application");
            assert_eq!(alike.count(), usize::from(properties.contains_key("app")), "{tool}");
        }
        for name in ["provider", "model", "endpoint", "user", "app", "tags"] {
            assert!(
                TOOLS
                    .iter()
                    .filter(|tool| tool.path.starts_with("/api/v1/costs"))
                    .all(|tool| tool.parameters.contains(&name))
            );
        }
    }

    #[test]
    fn a_refusal_says_why_and_what_helps() {
        let told = refusal(400, r#"{"error": {"code": "invalid_parameter", "message": "days: 0", "hint": "days=30"}}"#);
        assert_eq!(told, "the daemon answered 400: days: 0. hint: days=30");
        assert!(refusal(403, "").contains("a tool needs the role `read`"));
        assert!(refusal(502, "<html>").ends_with("502: "));
    }
}
