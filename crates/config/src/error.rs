//! Errors of a configuration, reported together, each with a correction.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a configuration file, from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// One mistake of a configuration. Messages never include the value of a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's message.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: line {line}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line of the mistake, from 1.
        line: usize,
        /// The problem there.
        message: String,
    },
    /// The key does not exist.
    #[error("{origin}: unknown key {key}{}; allowed: {allowed}", did_you_mean(.closest.as_deref()))]
    UnknownKey {
        /// The source.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// The most similar key, if any.
        closest: Option<String>,
        /// The valid keys at that place.
        allowed: String,
    },
    /// The variable does not exist.
    #[error(
        "unknown environment variable {name}; the closest known one is {closest} (variables are TALLYD_<SECTION>_<KEY>)"
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The most similar variable, if any.
        closest: String,
    },
    /// The value has another type.
    #[error("{origin}: {key} must be {expected}, not {found}")]
    Type {
        /// The source.
        origin: Origin,
        /// The key.
        key: String,
        /// The key's type.
        expected: &'static str,
        /// The value's type.
        found: String,
    },
    /// The value has the right type, and is not valid for the key.
    #[error("{origin}: {key}: {reason}")]
    Value {
        /// The source.
        origin: Origin,
        /// The key.
        key: String,
        /// The problem, and the accepted values.
        reason: String,
    },
    /// The value contradicts others, or does not suit the machine.
    #[error("configuration key {key}: {reason}")]
    Invalid {
        /// The key to change.
        key: &'static str,
        /// The problem, and the remedy.
        reason: String,
    },
}

impl Fault {
    /// The key at fault, and the source of its value.
    const fn place(&self) -> (Option<&str>, Option<&Origin>) {
        match self {
            Self::UnknownKey { origin, key, .. } | Self::Type { origin, key, .. } | Self::Value { origin, key, .. } => {
                (Some(key.as_str()), Some(origin))
            }
            Self::Invalid { key, .. } => (Some(key), None),
            Self::Read { .. } | Self::Syntax { .. } | Self::UnknownVariable { .. } => (None, None),
        }
    }
}

fn did_you_mean(closest: Option<&str>) -> String {
    closest.map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

/// Why a configuration is refused: every mistake, those of the file in the order of its lines.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError(Vec<Fault>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [fault] = self.0.as_slice() {
            return write!(f, "{fault}");
        }
        write!(f, "the configuration has {} mistakes:", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a mistake.
    pub(crate) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Adds mistakes across values, or about the machine. `reason` also names the remedy.
    pub(crate) fn add(&mut self, key: &'static str, reason: impl Into<String>) {
        self.push(Fault::Invalid { key, reason: reason.into() });
    }

    /// Checks that a number is in a range; the message names both ends.
    pub(crate) fn in_range<T>(&mut self, key: &'static str, value: T, range: std::ops::RangeInclusive<T>)
    where
        T: PartialOrd + fmt::Display,
    {
        if !range.contains(&value) {
            self.add(key, format!("{value} is out of range; set it between {} and {}", range.start(), range.end()));
        }
    }

    /// Checks that an address has the form `host:port`; the name is resolved later, when it is bound.
    pub(crate) fn is_address(&mut self, key: &'static str, address: &str) {
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {}
            _ => self.add(
                key,
                format!("{address:?} is not an address; write host:port, such as 127.0.0.1:7420 or [::1]:7420"),
            ),
        }
    }

    /// Adds the mistakes across values, with the source of each value. Keys with an unreadable value are left out,
    /// because their default was checked.
    pub(crate) fn extend_checked(&mut self, checked: Self, origins: &BTreeMap<String, Origin>) {
        let unread = self.0.len();
        for fault in checked.0 {
            let Fault::Invalid { key, reason } = fault else { continue };
            if self.0[..unread].iter().any(|earlier| earlier.place().0 == Some(key)) {
                continue;
            }
            self.push(match origins.get(key) {
                Some(origin) => Fault::Value { origin: origin.clone(), key: key.to_owned(), reason },
                None => Fault::Invalid { key, reason },
            });
        }
    }

    /// Returns all mistakes as one error, if there are any.
    ///
    /// # Errors
    /// [`ConfigError`] if there is a mistake.
    pub(crate) fn end(mut self) -> Result<(), ConfigError> {
        // Errors of the file are in the order of its lines; the others as they were found.
        self.0.sort_by_key(|fault| match fault.place().1 {
            Some(Origin::File(_, line)) => *line,
            _ if matches!(fault, Fault::Read { .. } | Fault::Syntax { .. }) => 0,
            _ => usize::MAX,
        });
        if self.0.is_empty() { Ok(()) } else { Err(ConfigError(self.0)) }
    }
}

/// The likely intended name of a misspelt one, and the number of edits between the two.
pub(super) fn closest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    names.into_iter().map(|known| (known, strsim::levenshtein(name, known))).min_by_key(|(_, edits)| *edits)
}
