//! Files that other programs write, read as calls.
//!
//! | preset | file | a call | its key | cost |
//! |---|---|---|---|---|
//! | `claude-code` | transcripts, `~/.claude/projects/**/*.jsonl` | the last line of a message's id and request's id | both | by the catalog |
//! | `litellm-spend-logs` | the proxy's table `LiteLLM_SpendLogs` | a row | `request_id` | `spend`, where it is known |
//! | `openrouter-activity` | the CSV of the activity page | a row | `generation_id` | `cost_total` and `byok_usage_inference` |
//! | `langfuse` | observations, exported | a `GENERATION` or an `EMBEDDING` | `id` | `total_cost`, where it is known |
//!
//! A line that is not a call is passed over and counted by its kind.

pub(super) mod cells;
mod claude_code;
mod langfuse;
mod litellm;
mod openrouter;

use clap::ValueEnum;
use tallyd_protocol::Record;

use super::row::RowError;
use tallyd_model::json::Value;

/// The program that has written a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Preset {
    /// Claude Code's transcripts
    ClaudeCode,
    /// LiteLLM's proxy: its table of spend logs, as CSV or as a JSON object a line
    LitellmSpendLogs,
    /// The CSV of OpenRouter's activity page
    OpenrouterActivity,
    /// Langfuse's observations, as CSV or as a JSON object a line
    Langfuse,
}

/// A row of such a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowKind {
    /// A call, with its key.
    Call(String),
    /// Not a call, with its kind.
    Other(String),
}

impl Preset {
    /// Reads a row into the record.
    ///
    /// # Errors
    /// [`RowError`].
    pub(super) fn read(self, row: &Value, record: &mut Record) -> Result<RowKind, RowError> {
        match self {
            Self::ClaudeCode => claude_code::read(row, record),
            Self::LitellmSpendLogs => litellm::read(row, record),
            Self::OpenrouterActivity => openrouter::read(row, record),
            Self::Langfuse => langfuse::read(row, record),
        }
    }

    /// Its name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::LitellmSpendLogs => "litellm-spend-logs",
            Self::OpenrouterActivity => "openrouter-activity",
            Self::Langfuse => "langfuse",
        }
    }

    /// Keys that identify the program's files: one of each list must be there.
    const fn marks(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::ClaudeCode => &[&["type"], &["sessionId", "leafUuid", "messageId"]],
            Self::LitellmSpendLogs => &[&["request_id"], &["startTime"], &["spend"]],
            Self::OpenrouterActivity => &[&["generation_id"], &["created_at"], &["cost_total"]],
            Self::Langfuse => &[&["id"], &["start_time", "startTime"], &["usage_details", "usageDetails"]],
        }
    }

    /// The marks of which the file has no key, for a message.
    pub(super) fn missing<'k>(self, keys: impl Iterator<Item = &'k str> + Clone) -> Vec<String> {
        let is_there = |mark: &&[&str]| keys.clone().any(|key| mark.contains(&key));
        self.marks().iter().filter(|mark| !is_there(mark)).map(|mark| mark.join(" or ")).collect()
    }

    /// The preset whose marks these keys have.
    pub(super) fn of<'k>(keys: impl Iterator<Item = &'k str> + Clone) -> Option<Self> {
        Self::value_variants().iter().copied().find(|preset| preset.missing(keys.clone()).is_empty())
    }
}

#[cfg(test)]
mod tests;
