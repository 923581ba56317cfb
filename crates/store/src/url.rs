//! The address of a PostgreSQL: a URL, or libpq's `key=value` form.
//!
//! The driver parses both, after `parameters.rs` has taken out the parameters that it does not know. [`super::tls`]
//! describes TLS, `hosts.rs` the order of several hosts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, SslNegotiation, TargetSessionAttrs};

use super::parameters::UrlParameters;
use super::tls::Verify;

/// A parsed address.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) verify: Verify,
    pub(super) ca_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

/// Why an address cannot be parsed. The address itself is not quoted: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("{reason}. hint: it looks like postgresql://user:password@host:5432/database?sslmode=require")]
pub struct AddressError {
    reason: String,
}

impl Address {
    /// Parses the address and sets the limits after which a dead connection is given up.
    pub(super) fn parse(url: &str, ca_file: Option<&Path>, connect_timeout: Duration) -> Result<Self, AddressError> {
        let taken = UrlParameters::take_from(url);
        let mut config: Config = taken.rest.parse().map_err(|error: tokio_postgres::Error| AddressError {
            reason: std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(AddressError { reason: "the address names no host".into() });
        }
        let ca_file = ca_file.map(Path::to_owned).or(taken.root_certificate);
        let (mode, verify) = match taken.mode.as_deref() {
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            Some("verify-ca" | "verify-full") => (SslMode::Require, Verify::Full),
            None | Some("allow" | "prefer" | "require") if ca_file.is_some() => (SslMode::Require, Verify::Full),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Verify::Nothing),
            Some("require") => (SslMode::Require, Verify::Nothing),
            Some(other) => {
                let known = "disable, allow, prefer, require, verify-ca or verify-full";
                return Err(AddressError { reason: format!("sslmode is {other}, not {known}") });
            }
        };
        config.ssl_mode(mode);
        patience(&mut config, connect_timeout);
        let attributes = taken.session.as_deref();
        if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly || attributes == Some("standby") {
            let reason = "target_session_attrs asks for a server that takes no writes, and records are written";
            return Err(AddressError { reason: reason.into() });
        }
        if attributes.is_some() || config.get_hosts().len().max(config.get_hostaddrs().len()) > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(Self { config, verify, ca_file, password_file: None })
    }

    /// Makes each attempt read the password from a file.
    pub(super) fn with_password_file(self, file: Option<PathBuf>) -> Self {
        Self { password_file: file, ..self }
    }

    /// The file's present password; none without a file.
    ///
    /// # Errors
    /// A message about the file.
    pub(super) fn password(&self) -> Result<Option<Vec<u8>>, String> {
        self.password_file.as_deref().map(read_password).transpose()
    }

    /// The number of hosts to try.
    pub(super) fn hosts(&self) -> usize {
        self.config.get_hosts().len().max(self.config.get_hostaddrs().len())
    }

    /// The address of the private cluster.
    pub(super) fn embedded(host: &Path, user: &str, database: &str, connect_timeout: Duration) -> Self {
        let mut config = Config::new();
        config.host_path(host).user(user).dbname(database).ssl_mode(SslMode::Disable);
        patience(&mut config, connect_timeout);
        Self { config, verify: Verify::Nothing, ca_file: None, password_file: None }
    }

    pub(super) fn is_direct_tls(&self) -> bool {
        self.config.get_ssl_negotiation() == SslNegotiation::Direct
    }

    /// The address as a URL that a person may see: the password is `***`.
    pub(super) fn redacted(&self) -> String {
        let mut url = String::from("postgresql://");
        let config = &self.config;
        let on_unix = matches!(config.get_hosts(), [Host::Unix(_)]);
        if let (Some(user), false) = (config.get_user(), on_unix) {
            url += &encode(user);
            url += if config.get_password().is_some() { ":***@" } else { "@" };
        }
        if !on_unix {
            url += &host_names(config).join(",");
        }
        url += "/";
        url += &encode(config.get_dbname().unwrap_or_default());
        let mut parameters = Vec::new();
        match (config.get_hosts(), on_unix) {
            ([Host::Unix(path)], true) => {
                parameters.push(format!("host={}", encode(&path.to_string_lossy())));
                parameters.extend(config.get_user().map(|user| format!("user={}", encode(user))));
                parameters.extend(config.get_password().map(|_| "password=***".to_owned()));
                parameters.extend(config.get_ports().first().map(|port| format!("port={port}")));
            }
            _ => parameters.push(format!("sslmode={}", self.ssl_mode())),
        }
        url + "?" + &parameters.join("&")
    }

    /// libpq's nearest word for our verification.
    fn ssl_mode(&self) -> &'static str {
        match (self.config.get_ssl_mode(), &self.ca_file) {
            (SslMode::Disable, _) => "disable",
            (SslMode::Require, Some(_)) => "verify-full",
            // Also for `verify-full`: libpq before version 16 cannot use the system's certificates, and would refuse it.
            (SslMode::Require, None) => "require",
            _ => "prefer",
        }
    }

    /// Makes a program that uses libpq connect here, through its environment: other users can read arguments.
    pub(super) fn set_environment(&self, command: &mut Command) {
        let config = &self.config;
        let hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.to_string_lossy().into_owned(),
            })
            .collect();
        let addresses: Vec<String> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
        let ports: Vec<String> = config.get_ports().iter().map(ToString::to_string).collect();
        let seconds = config.get_connect_timeout().map_or(0, Duration::as_secs).max(2);
        let variables = [
            ("PGHOST", Some(hosts.join(","))),
            ("PGHOSTADDR", Some(addresses.join(","))),
            ("PGPORT", Some(ports.join(","))),
            ("PGUSER", config.get_user().map(str::to_owned)),
            ("PGDATABASE", config.get_dbname().map(str::to_owned)),
            ("PGOPTIONS", config.get_options().map(str::to_owned)),
            ("PGTARGETSESSIONATTRS", needs_write(config).then(|| "read-write".to_owned())),
            ("PGSSLMODE", Some(self.ssl_mode().to_owned())),
            ("PGSSLROOTCERT", self.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned())),
            ("PGCONNECT_TIMEOUT", Some(seconds.to_string())),
        ];
        for (name, value) in variables {
            match value.filter(|value| !value.is_empty()) {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env_remove("PGSERVICE");
        // If the file cannot be read, libpq prompts for the password.
        let from_file = self.password().unwrap_or_default();
        match from_file.as_deref().or(config.get_password()) {
            Some(password) => {
                command.env("PGPASSWORD", std::os::unix::ffi::OsStrExt::from_bytes(password) as &std::ffi::OsStr)
            }
            None => command.env_remove("PGPASSWORD"),
        };
    }
}

fn needs_write(config: &Config) -> bool {
    config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite
}

/// The first host with its port, as it stands in a URL.
pub(super) fn host_name(config: &Config) -> String {
    host_names(config).into_iter().next().unwrap_or_default()
}

/// The hosts with their ports, as they stand in a URL.
fn host_names(config: &Config) -> Vec<String> {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => encode(&path.to_string_lossy()),
    });
    let names: Vec<String> = if config.get_hosts().is_empty() { addresses.collect() } else { hosts.collect() };
    names.iter().enumerate().map(|(at, name)| format!("{}:{}", bracketed(name), port(at))).collect()
}

/// Limits that make a dead connection end with an error, instead of waiting for hours.
fn patience(config: &mut Config, connect_timeout: Duration) {
    config
        .connect_timeout(connect_timeout)
        .tcp_user_timeout(Duration::from_secs(30))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3);
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Percent-encodes all characters except those that are safe everywhere in a URL.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The password in a file, without the line's end.
///
/// # Errors
/// A message with the file's name.
fn read_password(file: &Path) -> Result<Vec<u8>, String> {
    let problem = |what: &dyn std::fmt::Display| format!("{} {what}", file.display());
    let mut password = fs::read(file).map_err(|error| problem(&format_args!("cannot be read: {error}")))?;
    let end = password.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    password.truncate(end);
    // Another process may be writing the file anew.
    if password.is_empty() { Err(problem(&"is empty")) } else { Ok(password) }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
