//! Why an import ends early, and which errors may pass.

use tallyd_client::SessionError;

use super::snapshot::Changed;

/// Why an import ended early. Acknowledged rows stay recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The first connection failed.
    #[error("no daemon takes records on the socket: {0}")]
    NoDaemon(SessionError),
    /// The daemon went away and did not come back.
    #[error("the daemon has been away for {seconds} s, rows up to {acknowledged} are recorded: {error}")]
    Lost {
        /// Seconds without progress before the import gave up.
        seconds: u64,
        /// The highest row that is known to be settled.
        acknowledged: u64,
        /// The error of the last attempt.
        error: SessionError,
    },
    /// Another connection uses the same producer.
    #[error("another import of the same file with the same options has begun, and goes on instead of this one")]
    Fenced,
    /// The daemon refused the connection, and a further attempt would not help.
    #[error("the daemon refused to go on: {0}")]
    Refused(SessionError),
    /// The file changed after it was digested.
    #[error(transparent)]
    Changed(#[from] Changed),
}

impl SendError {
    /// The remedy, if there is one.
    pub(super) const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoDaemon(_) => Some("start one with `tallyd serve`, or name its socket with --socket"),
            Self::Lost { .. } => Some("the same command resumes the import once the daemon is back"),
            Self::Refused(_) => Some("the same command resumes the import; `tallyd status` shows the daemon's health"),
            Self::Fenced | Self::Changed(_) => None,
        }
    }
}

/// True if another attempt may succeed.
pub(super) fn may_pass(error: &SessionError) -> bool {
    match error {
        SessionError::Io(_) => true,
        SessionError::Refused { code, .. } => !matches!(
            code.as_str(),
            "fenced"
                | "malformed"
                | "too_large"
                | "protocol_version"
                | "producer"
                | "secret"
                | "reserved_name"
                | "sequence"
                | "unauthorized"
        ),
        _ => false,
    }
}

/// The error that ends the import.
pub(super) fn given_up(error: SessionError) -> SendError {
    match error {
        SessionError::Refused { code, .. } if code == "fenced" => SendError::Fenced,
        error => SendError::Refused(error),
    }
}
