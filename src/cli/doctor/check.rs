//! The outcome of one check.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok,
    /// It works, but somebody should look at it.
    Warning,
    /// A daemon would not work, or could lose records.
    Failed,
    /// The check could not be made.
    Skipped,
}

impl State {
    /// The word that is printed.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

/// A check by its name, with its result and a hint.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) state: State,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), hint: None }
    }

    pub(super) fn skipped(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Skipped, found: found.into(), hint: None }
    }

    pub(super) fn warning(name: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Warning, found: found.into(), hint: Some(hint.into()) }
    }

    pub(super) fn failed(name: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Failed, found: found.into(), hint: Some(hint.into()) }
    }

    /// A failed check. The error's text may end with a hint of its own, which wins.
    pub(super) fn error(name: &'static str, error: &dyn std::error::Error, hint: &str) -> Self {
        let text = error.to_string();
        match text.split_once("hint: ") {
            Some((found, hint)) => Self::failed(name, found.trim_end().trim_end_matches(['.', ':', ';']), hint),
            None => Self::failed(name, text, hint),
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
