//! Claude Code's transcripts: a JSON object a line, `~/.claude/projects/<project>/<session>.jsonl`.
//!
//! A line of type `assistant` has a part of an answer, and the answer's usage so far: the last line of an id counts. A
//! resumed or forked session repeats lines of another in its own file, under the same ids. Answers that Claude Code
//! makes itself have the model `<synthetic>`.

use tallyd_protocol::Record;

use super::RowKind;
use super::cells::{add_metadata, set, set_time, text};
use crate::cli::import::row::RowError;
use tallyd_model::json::{self, Value};

/// Prefixes of the ids of answers that came through a cloud, with the platform.
const PLATFORMS: [(&str, &str); 2] = [("msg_bdrk_", "bedrock"), ("msg_vrtx_", "vertex")];

pub(super) fn read(row: &Value, record: &mut Record) -> Result<RowKind, RowError> {
    let (kind, message) = (text(row, &["type"]), &row["message"]);
    if kind != "assistant" || message["usage"].as_object().is_none() {
        return Ok(RowKind::Other(if kind.is_empty() { "without a type".to_owned() } else { kind }));
    }
    let model = text(message, &["model"]);
    if model == "<synthetic>" {
        return Ok(RowKind::Other("<synthetic>".to_owned()));
    }
    let (id, request) = (text(message, &["id"]), text(row, &["requestId"]));
    let key = match (&*id, &*request) {
        ("", "") => text(row, &["uuid"]),
        _ => format!("{id}:{request}"),
    };
    if key.is_empty() {
        return Err(RowError::row("neither message.id nor requestId nor uuid tells which answer this is"));
    }
    // By the client's own reader of Anthropic's usage.
    let usage =
        json::to_string(&message["usage"]).ok().and_then(|text| json::from_str::<serde_json::Value>(&text).ok());
    let answer = serde_json::json!({ "model": model, "usage": usage, "stop_reason": text(message, &["stop_reason"]) });
    let Some(read) = tallyd_client::usage::anthropic(&answer) else {
        return Ok(RowKind::Other("assistant, without a usage".to_owned()));
    };
    let before = std::mem::take(record);
    *record = Record { user_id: before.user_id, app: "claude-code".into(), ..read };
    set_time(record, row, &["timestamp"])?;
    set(&mut record.request_id, if request.is_empty() { id.clone() } else { request });
    if let Some((_, platform)) = PLATFORMS.iter().find(|(start, _)| id.starts_with(start)) {
        record.platform = (*platform).into();
    }
    let pairs = ["sessionId", "cwd", "gitBranch", "version"].map(|name| (name, text(row, &[name])));
    add_metadata(record, pairs);
    Ok(RowKind::Call(key))
}
