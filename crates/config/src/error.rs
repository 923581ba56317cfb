//! Errors of a configuration, reported together, each with a correction.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
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

/// One mistake of a configuration. No message holds the value of a secret.
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
        /// The line of the fault, from 1.
        line: usize,
        /// The problem there.
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
        /// The problem, and the accepted values.
        reason: String,
    },
    /// The value does not fit the others, or the machine.
    #[error("configuration key {key}: {reason}")]
    Invalid {
        /// The key to change.
        key: &'static str,
        /// The problem, and the remedy.
        reason: String,
    },
}

impl Fault {
    /// The key that it is about, and where its value stands.
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

/// Why a configuration is refused: every mistake, those of the file in its order.
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

/// The mistakes that were found so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one.
    pub(crate) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Adds errors of values that do not fit others, or the machine. `reason` also names the remedy.
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

    /// Checks that an address has the form `host:port`; the name is resolved where it is bound.
    pub(crate) fn is_address(&mut self, key: &'static str, address: &str) {
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {}
            _ => self.add(
                key,
                format!("{address:?} is not an address; write host:port, such as 127.0.0.1:7420 or [::1]:7420"),
            ),
        }
    }

    /// Adds the errors of the whole, with the origin of each value. Keys whose own value could not be read are left out, because
    /// their default was checked.
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

    /// Nothing, or the error that has them all.
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

/// The name that was probably meant by a misspelt one, and by how many edits it differs.
pub(super) fn closest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    names.into_iter().map(|known| (known, strsim::levenshtein(name, known))).min_by_key(|(_, edits)| *edits)
}
