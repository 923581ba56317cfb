//! What can be wrong with a configuration, said so that the reader can mend it.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// Why a configuration is refused. No message holds the value of a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: line {line}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line of the fault, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown key {key}{}; allowed: {allowed}", did_you_mean(.closest.as_deref()))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// The key that was perhaps meant.
        closest: Option<String>,
        /// The keys that could stand there.
        allowed: String,
    },
    /// There is no such variable.
    #[error(
        "unknown environment variable {name}; the closest known one is {closest} (variables are TALLYD_<SECTION>_<KEY>)"
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The known one with the least difference.
        closest: String,
    },
    /// The value is of another type.
    #[error("{origin}: {key} must be {expected}, not {found}")]
    Type {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: String,
        /// The type that the key has.
        expected: &'static str,
        /// The type that was given.
        found: String,
    },
    /// The value is of the right type, and still none that the key can have.
    #[error("{origin}: {key}: {reason}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: String,
        /// What is wrong, and what is accepted.
        reason: String,
    },
    /// The value does not fit the others, or the machine.
    #[error("configuration key {key}: {reason}")]
    Invalid {
        /// The key to change.
        key: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl ConfigError {
    pub(super) fn invalid(key: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { key, reason: reason.into() }
    }
}

fn did_you_mean(closest: Option<&str>) -> String {
    closest.map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

/// Checks that a number is in a range; the message names both ends.
pub(super) fn in_range<T>(key: &'static str, value: T, range: std::ops::RangeInclusive<T>) -> Result<(), ConfigError>
where
    T: PartialOrd + fmt::Display,
{
    if range.contains(&value) {
        return Ok(());
    }
    let reason = format!("{value} is out of range; set it between {} and {}", range.start(), range.end());
    Err(ConfigError::Invalid { key, reason })
}

/// Checks that an address has the form `host:port`; the name is resolved where it is bound.
pub(super) fn is_address(key: &'static str, address: &str) -> Result<(), ConfigError> {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(ConfigError::Invalid {
            key,
            reason: format!("{address:?} is not an address; write host:port, such as 127.0.0.1:7420 or [::1]:7420"),
        }),
    }
}

/// The name that was probably meant by a misspelt one, and by how many edits it differs.
pub(super) fn closest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    names.into_iter().map(|known| (known, strsim::levenshtein(name, known))).min_by_key(|(_, edits)| *edits)
}
